"""The verbs of the command line. They import what they need when they are called."""
