"""One HTML page of all results: runs, plots, claims and published values, for a browser without a network."""
