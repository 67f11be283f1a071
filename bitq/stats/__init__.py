"""Statistics of runs.parquet: one arm at a time, contrasts by seed, verdicts on claims. No torch here."""
