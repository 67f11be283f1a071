"""Render tables, figures and the numbers of the prose from tables and statistics. No torch here."""
