"""Rehearse failures in a process of its own, which may see a disk of its own."""

import signal
import sys
from pathlib import Path

from bitq.chaos.grid import Chaos
from bitq.chaos.plan import Plan
from bitq.errors import Preempted
from bitq.io import write_json


def main(plan: Plan) -> None:
    """Rehearse, and write the record."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Preempted.exit_code))
    write_json(Path(plan.out), Chaos(plan).rehearse().model_dump(mode="json"))


if __name__ == "__main__":
    main(Plan.model_validate_json(sys.argv[1]))
