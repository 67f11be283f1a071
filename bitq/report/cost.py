"""Tell the parameters and multiply-accumulates of the network of an arm."""

from bitq.results.costs import GEOMETRY, costs, key
from bitq.stats.cells import Cell


def parameters(of: Cell) -> int | None:
    """Compute the number of parameters in the file from its bits per parameter."""
    known = of.rows[of.rows["file_bytes"].notna()]
    if known.empty:
        return None
    return round(8 * float(known["file_bytes"].iloc[0]) / float(known["bits_per_parameter"].iloc[0]))


def macs(of: Cell) -> int | None:
    """Return the multiply-accumulates of one image in convolutions and linear layers; None for an unlisted network."""
    return costs().get(key(dict(of.rows.iloc[0][list(GEOMETRY)])), {}).get("macs")
