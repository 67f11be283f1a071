"""The study ring: its contrasts and what is printed of it."""
