"""Columns of a run that come from its single layers, for claims that say 'in some layers'."""

import pandas as pd

MOST_ZEROS = "most_zeros"  # share of zeros in the layer that has most of them


def with_layers(runs: pd.DataFrame, layers: pd.DataFrame | None) -> pd.DataFrame:
    """Add the columns that are computed over the packed layers of each run; empty without them."""
    if layers is None or layers.empty:
        return runs.assign(**{MOST_ZEROS: float("nan")})
    return runs.assign(**{MOST_ZEROS: runs["hash"].map(layers.groupby("hash")["zeros"].max())})
