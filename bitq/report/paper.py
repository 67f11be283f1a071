"""Build the paper: gather its sources and everything generated in one folder, typeset it, and pack it."""

import gzip
import io
import re
import shutil
import tarfile
from pathlib import Path

from bitq.errors import DataError
from bitq.grid.paper import Config, config
from bitq.io import write_atomic
from bitq.report import contrasts
from bitq.report.fragments import INPUT, write_fragments
from bitq.report.sources import Sources
from bitq.report.typeset import typeset

SOURCES = ("*.tex", "*.sty", "*.bib", "latexmkrc", "sections/*.tex")
GENERATED = ("numbers.tex", "tables/*.tex", "tables/*.csv", "figures/*.tex", "figures/*.pdf")
GRAPHICS = re.compile(r"\\includegraphics(?:\[[^]]*\])?\{([^}#]+)\}")
BIBLIOGRAPHY = re.compile(r"\\bibliographystyle\{[^}]+\}\s*\\bibliography\{[^}]+\}")


def build(sources: Sources, root: Path, build_dir: Path) -> Path:
    """Typeset `root`/paper with what the pipeline wrote to `build_dir`; equal inputs give an equal PDF."""
    chosen = config()
    folder = stage(sources, root, build_dir, chosen)
    pdf = build_dir / "paper" / "bitq.pdf"
    write_atomic(pdf, typeset(folder, chosen.source_date_epoch).read_bytes())
    return pdf


def stage(sources: Sources, root: Path, build_dir: Path, chosen: Config) -> Path:
    """Fill a fresh folder with all that LaTeX reads, so that no outside path and no leftover can influence it."""
    folder, generated = build_dir / "paper" / "tex", build_dir / "paper"
    shutil.rmtree(folder, ignore_errors=True)
    copied = [*_copy(root / "paper", SOURCES, folder), *_copy(generated, GENERATED, folder)]
    if folder / "main.tex" not in copied:
        raise DataError(f"{root / 'paper' / 'main.tex'} does not exist; give the folder that holds paper/ as root.")
    write_fragments(sources, build_dir, folder, chosen)
    return folder


def _copy(source: Path, patterns: tuple[str, ...], folder: Path) -> list[Path]:
    files = sorted(file for pattern in patterns for file in source.glob(pattern))
    for file in files:
        copy = folder / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return [folder / file.relative_to(source) for file in files]


def submission(build_dir: Path) -> Path:
    """Pack the typeset paper as one TeX file with figures and bibliography, in an archive that compiles by itself."""
    folder = build_dir / "paper" / "tex"
    if not (folder / "main.bbl").exists():
        raise DataError(f"{folder} holds no typeset paper; build the paper first.")
    text = BIBLIOGRAPHY.sub(lambda _: (folder / "main.bbl").read_text(), flattened(folder, "main"))
    figures = [f"{name.removesuffix('.pdf')}.pdf" for name in dict.fromkeys(GRAPHICS.findall(text))]
    contents = {name: (folder / name).read_bytes() for name in ("bitq.sty", *figures)}
    path = build_dir / "paper" / "bitq-submission.tar.gz"
    contents |= {"main.tex": text.encode(), contrasts.FILE: (folder / "tables" / contrasts.FILE).read_bytes()}
    write_atomic(path, archive(contents, config().source_date_epoch))
    return path


def flattened(folder: Path, name: str) -> str:
    """Replace every \\input of a TeX file by the file that it reads."""
    text = (folder / f"{name.removesuffix('.tex')}.tex").read_text(encoding="utf-8")
    return INPUT.sub(lambda found: flattened(folder, found[1]).removesuffix("\n"), text)


def archive(contents: dict[str, bytes], seconds: int) -> bytes:
    """Build a gzipped tar whose bytes depend on names and contents only."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), seconds
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
