"""Where things lie. Each of the folders can be moved by one environment variable."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """The YAML files that say what runs ($BITQ_CONFIG)."""
    return Path(os.environ.get("BITQ_CONFIG") or CHECKOUT / "config")


def results_dir() -> Path:
    """Finished runs ($BITQ_RESULTS)."""
    return Path(os.environ.get("BITQ_RESULTS") or "results")


def state_dir() -> Path:
    """Checkpoints and locks of unfinished runs ($BITQ_STATE)."""
    return Path(os.environ.get("BITQ_STATE") or "state")
