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
from bitq.report.fragments import write_fragments
from bitq.report.prose import INPUT
from bitq.report.sources import Sources
from bitq.report.typeset import typeset

SOURCES = ("*.tex", "*.sty", "*.bib", "latexmkrc", "sections/*.tex")
PDFS = {"main": "bitq.pdf", "supplement": "supplement.pdf"}  # of the documents in paper/
GENERATED = ("numbers.tex", "tables/*.tex", "tables/*.csv", "figures/*.tex", "figures/*.pdf", "figures/*.csv")
GRAPHICS = re.compile(r"\\includegraphics(?:\[[^]]*\])?\{([^}#]+)\}")
BIBLIOGRAPHY = re.compile(r"\\bibliographystyle\{[^}]+\}\s*\\bibliography\{[^}]+\}")


def build(sources: Sources, root: Path, build_dir: Path) -> Path:
    """Typeset paper and supplement with what the pipeline wrote to `build_dir`; equal inputs give equal PDFs."""
    chosen = config()
    folder = stage(sources, root, build_dir, chosen)
    written = dict(zip(PDFS.values(), typeset(folder, chosen.source_date_epoch, tuple(PDFS)), strict=True))
    for name, pdf in written.items():
        write_atomic(build_dir / "paper" / name, pdf.read_bytes())
    return build_dir / "paper" / PDFS["main"]


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
    """Pack paper and supplement, a TeX file each, with figures and data, in an archive that compiles by itself."""
    folder = build_dir / "paper" / "tex"
    if not (folder / "main.bbl").exists():
        raise DataError(f"{folder} holds no typeset paper; build the paper first.")
    texts = {name: _alone(folder, name) for name in PDFS}
    figures = [f"{name.removesuffix('.pdf')}.pdf" for name in GRAPHICS.findall("".join(texts.values()))]
    data = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*.csv"))]
    # Each document reads the references of the other one.
    references = [f"{name}.aux" for name in PDFS]
    contents = {name: (folder / name).read_bytes() for name in ("bitq.sty", *figures, *data, *references)}
    contents |= {f"{name}.tex": text.encode() for name, text in texts.items()}
    path = build_dir / "paper" / "bitq-submission.tar.gz"
    write_atomic(path, archive(contents, config().source_date_epoch))
    return path


def _alone(folder: Path, name: str) -> str:
    """Return a document as one TeX file with its bibliography."""
    return BIBLIOGRAPHY.sub(lambda _: (folder / f"{name}.bbl").read_text(), flattened(folder, name))


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
