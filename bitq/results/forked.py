"""Calls spread over the processors that this process may use; results come in the order of the calls."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Result = TypeVar("Result")

_inherited: list[Callable[[], Any]] = []  # by the forked processes, to which only a number has to be sent


def run_forked(parts: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """Call every part in a forked process; a single one, or all on a single processor, in this process."""
    processes = min(len(parts), len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1
    if processes < 2:
        yield from (part() for part in parts)
        return
    _inherited[:] = parts
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            yield from pool.map(_call, range(len(parts)))
    finally:
        _inherited.clear()


def _call(number: int) -> Any:
    return _inherited[number]()
