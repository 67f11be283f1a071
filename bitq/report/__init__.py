"""From tables and statistics to LaTeX, figures and the numbers of the prose. No torch here."""
