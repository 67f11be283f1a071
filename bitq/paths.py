"""The folders of configuration, results and state, each of which an environment variable can move."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Return the folder of the YAML files that define the runs ($BITQ_CONFIG)."""
    return Path(os.environ.get("BITQ_CONFIG") or CHECKOUT / "config")


def results_dir() -> Path:
    """Return the folder of finished runs ($BITQ_RESULTS)."""
    return Path(os.environ.get("BITQ_RESULTS") or "results")


def state_dir() -> Path:
    """Return the folder of checkpoints and locks of unfinished runs ($BITQ_STATE)."""
    return Path(os.environ.get("BITQ_STATE") or "state")


def measured_dir() -> Path:
    """Return the folder of measurements and counts that need torch and belong to no run."""
    return CHECKOUT / "results" / "measured"
