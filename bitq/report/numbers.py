r"""The numbers of the prose, each computed when a text asks for it: `\bq{acc.bitnet.cifar10.resnet18.fp32}`.

Keys are built from the names of the grid:

  HEAD.<study>.<data set>.<network>.<arm>          acc sd ci n best bytes compression bits codebits zeros params
  HEAD.<family>.<data set>.<network>               diff diffci change n p holm dz mde, of a family with one pair
  HEAD.<family>.<data set>.<network>.<arm>.<arm>   the same, first arm minus second, where it has several
  HEAD.<study>.<data set>.<network>.<kept>.<low>   rec recci: percent of the gap that starts at <low>
  HEAD.full.<study>.<data set>.<network>           macs params of the published network

A study has further numbers from its own module, and there are

  pub.<id>, verdict.<id>                           \pub{id} and \verdict{id}: config/published.yaml, config/claims.yaml
  words                                            runs, seeds, hours, claims, machines, settings

With `*` in the place of the data set a key lists every data set that has a value: 78.10 % on CIFAR-10 and 50.02 % on
CIFAR-100. `change` is a difference with its interval, or n = 1.

What has no result at the scale shown is a dash, and bitq/report/prose.py leaves out the sentence that quotes it; what
no study, family or file knows is an error.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from bitq.errors import UsageError
from bitq.io import write_atomic
from bitq.report import names
from bitq.report.number_groups import Maker, groups
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.sources import Sources
from bitq.report.tex import NONE, listed
from bitq.report.values import Number

PREAMBLE = r"""% Written by: bitq numbers. A change here is lost; numbers.md lists the keys.
\makeatletter
\providecommand*{\bqset}[2]{\expandafter\def\csname bq:#1\endcsname{#2}}
\providecommand*{\bq}[1]{\ifcsname bq:#1\endcsname\csname bq:#1\endcsname\else\bqundefined{#1}\fi}
\providecommand*{\pub}[1]{\bq{pub.#1}}
\providecommand*{\verdict}[1]{\bq{verdict.#1}}
\protected\def\bqundefined#1{\errmessage{There is no number `#1'; numbers.md lists the keys}}
\makeatother
"""

# What follows each value of a list over data sets.
UNITS = dict.fromkeys(("acc", "best", "sd", "rec", "zeros"), r"\,\%")


class Numbers:
    """All numbers that a text may ask for, by key; each is computed when it is asked for."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._made: dict[str, dict[str, Number]] = {}

    def __getitem__(self, key: str) -> Number:
        if ".*." in key:
            return self._everywhere(key)
        for name in (key.partition(".")[2], key, *self._own):  # words have no point, and are of the group ""
            if key in (found := self._group(name)):
                return found[key]
        raise UsageError(f"there is no number {key!r}; use a key that bitq/report/numbers.py explains.")

    def _everywhere(self, key: str) -> Number:
        """List the values of a number at every data set that has one."""
        places = {dataset: key.replace(".*.", f".{dataset}.") for dataset in names.DATASETS}
        if not any(place in self for place in places.values()):
            raise UsageError(
                f"there is no number {key!r} at any data set; use a key that bitq/report/numbers.py explains."
            )
        found = {dataset: self[place].text for dataset, place in places.items() if place in self}
        shown = {dataset: text for dataset, text in found.items() if text != NONE}
        unit = UNITS.get(key.partition(".")[0], "")
        return Number(key, listed([f"{text}{unit} on {names.dataset(name)}" for name, text in shown.items()]) or NONE)

    def __contains__(self, key: str) -> bool:
        try:
            return bool(self[key])
        except UsageError:
            return False

    def __iter__(self) -> Iterator[Number]:
        """Compute everything: for the search of typed numbers, and for keys that are like one that does not exist."""
        return chain.from_iterable(self._group(name).values() for name in (*self._groups, *self._own))

    def _group(self, name: str) -> dict[str, Number]:
        if name not in self._made:
            make = self._groups.get(name) or self._own.get(name)
            self._made[name] = {number.key: number for number in make()} if make else {}
        return self._made[name]

    @cached_property
    def _groups(self) -> dict[str, Maker]:
        """What makes the numbers that are of one place, by that part of their keys."""
        return dict(groups(self.sources))

    @cached_property
    def _own(self) -> dict[str, Maker]:
        """What makes the further numbers of a study."""
        return {f"of {each.study}": _maker(each, Query(self.sources.of(each.study))) for each in self.sources.printed}


def _maker(printed: Printed, query: Query) -> Maker:
    return lambda: printed.numbers(query)


def write_numbers(numbers: Numbers, keys: Iterable[str], out: Path) -> list[Path]:
    """Write what texts ask for into numbers.tex, and numbers.md to read; equal results give equal bytes."""
    found = [numbers[key] for key in sorted(set(keys))]
    texts = {"numbers.tex": tex_of(found), "numbers.md": index(found)}
    for name, text in texts.items():
        write_atomic(out / name, text.encode())
    return [out / name for name in texts]


def tex_of(found: Iterable[Number]) -> str:
    """Render the numbers as LaTeX definitions."""
    return PREAMBLE + "".join(f"\\bqset{{{of.key}}}{{{of.text}}}\n" for of in found)


def index(found: Iterable[Number]) -> str:
    """Render the naming rule of the keys, and those that are asked for with their values."""
    rows = "".join(f"| `{of.key}` | {_readable(of.text)} |\n" for of in found)
    return f"```\n{__doc__}```\n\n| key | value |\n|---|---|\n{rows}"


def _readable(text: str) -> str:
    return re.sub(r"\\ensuremath\{([^{}]*)\}", r"\1", text).replace(r"\,", " ").replace("|", "\\|")
