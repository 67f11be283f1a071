"""Finished runs: typed records, their folders, their checks. No torch here."""
