"""The studies, one folder each: their contrasts, and what is printed of them."""
