"""From runs.parquet to statements: one arm at a time, contrasts by seed, verdicts on claims. No torch here."""
