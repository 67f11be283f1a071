"""The study atq: its contrasts and what is printed of it."""
