"""The engine: the code that can change a number of a result, and its digest."""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
MODULES = ("run.py", "rng.py", "machine.py", "precision.py")
FOLDERS = ("data", "models", "quant", "ptq", "train", "deploy")
# Data are known by the digest of their pixels, whoever brought them; what a run prints or waits for is no number.
WITHOUT = ("data/fetch.py", "data/archives.py", "data/importers.py", "data/foreign.py", "train/progress.py",
           "train/board.py", "train/signals.py", "train/lock.py", "train/memory.py", "train/pool.py")  # fmt: skip


def engine_files() -> list[Path]:
    """List the files of the engine, sorted by name."""
    files = {path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")}
    files |= {PACKAGE / name for name in MODULES}
    return sorted(files - {PACKAGE / name for name in WITHOUT})


@cache
def code_sha256() -> str:
    """Digest the statements of the engine: another comment or docstring computes nothing else."""
    digest = hashlib.sha256()
    for path in engine_files():
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + statements(path.read_text()).encode())
    return digest.hexdigest()


def statements(source: str) -> str:
    """Return the source without docstrings, lines of comment, and blank lines.

    >>> statements('''
    ... # why
    ... def f(x):
    ...     "What."
    ...     return x  # of the line
    ... ''')
    'def f(x):\\n    return x  # of the line'
    """
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = (line for number, line in enumerate(source.splitlines(), 1) if number not in docstrings)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
