"""Pack results into one file with all that defines and describes them, and unpack it again; without torch."""
