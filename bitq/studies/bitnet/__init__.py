"""The study bitnet: its contrasts and what is printed of it."""
