"""The study multimodal: its contrasts and what is printed of it."""
