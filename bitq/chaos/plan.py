"""What a rehearsal of failures is to do."""

from bitq.records import Frozen


class Plan(Frozen):
    """What to rehearse."""

    scale: str
    runs: tuple[str, ...]
    kills: int
    seed: int
    jobs: int
    every: float  # seconds between kills, on average
    folder: str
    out: str
    has_disk: bool  # may the disturbed grid lie on a small file system of its own?
