"""The study precision: its contrasts and what is printed of it."""
