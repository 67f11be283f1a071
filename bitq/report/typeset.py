"""Typeset LaTeX strictly: a folder in, a PDF out, or one sentence that says what is wrong and where."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitq.errors import BitqError, Bug, DataError, UsageError

PROGRAMS = ("latexmk", "pdflatex", "bibtex")
PACKAGES = (
    "texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-science latexmk lmodern cm-super"
)
TOLERATED = 5.0  # points by which a line or table may exceed the margin
ROUNDS = 4  # of all documents, until none has another reference
SECONDS = 300  # far more than needed; stops an endless loop in TeX

ERROR = re.compile(r"^(?:(?:\./)?(?P<file>[^\s:()]+):(?P<line>\d+):|!) (?P<what>.+)$", re.M)
NOT_FOUND = re.compile(r"File `(?P<name>[^']+)' not found")
MACRO = re.compile(r"^l\.\d+ .*?(?P<name>\\[A-Za-z@]+)\s*$", re.M)
UNDEFINED = re.compile(r"Warning: (?P<kind>Reference|Citation) `(?P<name>[^']+)' on page \S+ undefined")
DOUBLED = re.compile(r"Warning: Label `(?P<name>[^']+)' multiply defined")
UNSETTLED = re.compile(r"Warning: (Label\(s\) may have changed|Citation\(s\) may have changed)")
TOO_WIDE = re.compile(r"^Overfull \\[hv]box \((?P<points>[\d.]+)pt too (?:wide|high)\) (?P<where>.*)$", re.M)
TOO_LONG = re.compile(r"Warning: Float too large for page by (?P<points>[\d.]+)pt")
FILES = re.compile(r"\((?P<name>\./[^\s()]+)|[()]")
MAKERS = {"tables": "bitq tables", "figures": "bitq figures", "numbers.tex": "bitq numbers"}


def typeset(folder: Path, seconds: int, documents: Sequence[str] = ("main",)) -> list[Path]:
    """Typeset documents that may refer to each other, with the clock at `seconds`; an unclean one is an error."""
    require_programs()
    for number in range(ROUNDS):
        before = [_read(folder / f"{name}.aux") for name in documents]
        for name in documents:
            # latexmk does not see that the references of another document are new.
            _run(folder, name, seconds, *(["-g"] if number else []))
        if before == [_read(folder / f"{name}.aux") for name in documents]:
            break
    for name in documents:
        if error := next(complaints(_read(folder / f"{name}.log"), _read(folder / f"{name}.blg")), None):
            raise error
    return [folder / f"{name}.pdf" for name in documents]


def _run(folder: Path, name: str, seconds: int, *options: str) -> None:
    """Run latexmk on one document; what stops LaTeX is an error."""
    command = ["latexmk", "-norc", "-r", "latexmkrc", "-silent", *options, f"{name}.tex"]
    log = folder / f"{name}.log"
    try:
        done = subprocess.run(command, cwd=folder, env=environment(seconds), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Bug(f"LaTeX did not finish in {SECONDS} seconds; the end of {log} says where.") from None
    if error := next(errors(_read(log)), None):
        raise error
    if done.returncode:
        raise next(complaints(_read(log), _read(folder / f"{name}.blg")), None) or Bug(
            f"latexmk ended with {done.returncode}; {log} says more."
        )


def require_programs() -> None:
    """Check that TeX is installed, or say how to get it: it is not a Python package."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        raise UsageError(f"{missing[0]} was not found; on Debian: apt-get install --no-install-recommends {PACKAGES}.")


def environment(seconds: int) -> dict[str, str]:
    """Build the environment of TeX: a fixed clock, no macros of a user, and log lines that do not wrap."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TEX", "BIB", "BST"))}
    clock = {"SOURCE_DATE_EPOCH": str(seconds), "FORCE_SOURCE_DATE": "1", "TZ": "UTC", "LC_ALL": "C"}
    nobodys = dict.fromkeys(("TEXMFHOME", "TEXMFCONFIG", "TEXMFVAR"), "no-such-folder")
    return own | clock | nobodys | {"max_print_line": "100000"}


def errors(log: str) -> Iterator[BitqError]:
    """Yield what stopped LaTeX."""
    for found in ERROR.finditer(log):
        place = f"{found['file']} line {found['line']}" if found["file"] else file_at(log, found.start())
        if absent := NOT_FOUND.search(found["what"]):
            yield _not_found(place, absent["name"])
        elif "Undefined control sequence" in found["what"]:
            macro = MACRO.search(log, found.end())
            name = macro["name"] if macro else "a macro"
            yield Bug(f"{place}: {name} is not defined; use one that numbers.md lists.")
        else:
            yield Bug(f"{place}: {found['what'].rstrip('.')}; correct it there.")


def _not_found(place: str, name: str) -> BitqError:
    if name.endswith((".sty", ".cls", ".fd", ".def")):
        return UsageError(f"LaTeX has no {name}; on Debian: apt-get install --no-install-recommends {PACKAGES}.")
    maker = MAKERS.get(name.removeprefix("./").split("/")[0], "the pipeline")
    return DataError(f"{place} reads {name}, which does not exist; {maker} writes it.")


def complaints(log: str, bibliography: str) -> Iterator[BitqError]:
    """Yield the warnings of LaTeX that a reader would notice."""
    for found in UNDEFINED.finditer(log):
        yield Bug(f"{found['kind'].lower()} {found['name']!r} is undefined; add its label or its entry in refs.bib.")
    for found in DOUBLED.finditer(log):
        yield Bug(f"two places are labelled {found['name']!r}; give one of them another name.")
    for line in re.findall(r"^Warning--(.+)$", bibliography, re.M):
        yield Bug(f"BibTeX complains about refs.bib: {line.rstrip('.')}; correct it there.")
    if UNSETTLED.search(log):
        yield Bug(
            "references still change after the last pass of LaTeX; correct the label that depends on its own page."
        )
    for found in TOO_LONG.finditer(log):
        yield Bug(f"a float of {file_at(log, found.start())} is {found['points']} pt longer than a page; split it.")
    for found in TOO_WIDE.finditer(log):
        if float(found["points"]) > TOLERATED:
            place = f"{file_at(log, found.start())}, {found['where']}"
            yield Bug(f"a box sticks out by {found['points']} pt ({place}); make it narrower.")


def file_at(log: str, position: int) -> str:
    """Return the file that LaTeX was reading at a position of its log: it writes ( before each and ) after."""
    opened: list[str] = []
    for found in FILES.finditer(log, 0, position):
        if found[0] != ")":
            opened.append(found["name"] or "")
        elif opened:
            opened.pop()
    return next((name.removeprefix("./") for name in reversed(opened) if name), "main.tex")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
