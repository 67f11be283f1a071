"""The verbs of the command line, a file for each room. They import what they need when they are called."""
