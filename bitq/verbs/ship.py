"""Put the packed files that are shipped with the results into the checkout, each with its model card.

python -m bitq.verbs.ship RESULTS  takes them from the folder in which the runs were trained

Shipped are the headline arms of the paper's studies, for the first seed: those with weights of at most four bits, and
those whose inputs are int8 codes as well.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bitq.grid.expand import expand
from bitq.grid.paper import config
from bitq.grid.study import study
from bitq.io import write_atomic
from bitq.measure.card import write_card
from bitq.paths import CHECKOUT
from bitq.results.folder import MODEL, card_of, finished, folder_of
from bitq.results.schema import Packed
from bitq.run import Run

RESULTS = CHECKOUT / "results"
FEW = 5  # bits of a packed weight, scales included, that a file of at most four bits stays below


def headline() -> Iterator[Run]:
    """Yield the headline runs of the first seed that the paper shows."""
    for name, scale in config().studies.items():
        asked = study(name)
        for run in expand(name, scale):
            if run.seed == asked.seeds[0] and run.arm in asked.headline.get(run.model, ()):
                yield run


def is_shipped(run: Run, packed: Packed) -> bool:
    """Return whether a file is small enough to ship: few bits for weights, or codes for the inputs too."""
    bits = packed.audit.bits_per_packed_weight
    has_codes_as_inputs = run.calibration is not None and run.calibration.activations == "static"
    return bits is not None and (bits < FEW or has_codes_as_inputs)


def ship(source: Path) -> Iterator[Path]:
    """Copy the files and write their cards; yield what was written."""
    for run in headline():
        found, file = finished(run, RESULTS), folder_of(run, source) / MODEL
        if found and found.results.packed and file.exists() and is_shipped(run, found.results.packed):
            shipped = folder_of(run, RESULTS) / MODEL
            shutil.copyfile(file, shipped)
            write_atomic(card_of(run, RESULTS), write_card(shipped).encode())
            yield from (shipped, card_of(run, RESULTS))


def main(source: str) -> None:
    """Print what was written, for `git add --force`."""
    print(*ship(Path(source)), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
