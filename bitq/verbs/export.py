"""Write packed files for other programs: ONNX, C, conformance vectors, or packed another way."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bitq.errors import UsageError, one_of
from bitq.io import open_for_reading
from bitq.verbs.common import Json, check_new_file, emit

OPTIONS = {"bitq": ("packing",), "onnx": ("opset", "weights"), "c": (), "conformance": ("images",)}
CLOSE_TO_PACKED = 1.15  # of the packed file's bytes


def export(
    source: Annotated[Path, typer.Argument(help="A packed file.")],
    target: Annotated[Path | None, typer.Argument(help="What to write; or give it as --out.")] = None,
    format: Annotated[
        str, typer.Option(help="bitq, onnx, c (a new folder), or conformance: inputs, integers, logits as .npz.")
    ] = "bitq",
    out: Annotated[Path | None, typer.Option(help="The file to write; with --format c the folder.")] = None,
    packing: Annotated[
        str | None, typer.Option(help="bitq: base3, or b1 to b8: bits per code. [default: base3]")
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="onnx: 25 stores codes in 2 bits, 21 to 24 in 4, 18 to 20 in 8. [default: 25]")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="onnx: narrow (narrowest type), packed (as here, decoded when loaded), qdq (faster, near). "
            "[default: narrow]"
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="conformance: how many images. [default: 4]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a packed file for other runtimes, or with another packing of its codes."""
    if format not in OPTIONS:
        raise one_of("format", format, OPTIONS)
    given = {
        name: value
        for name, value in (("packing", packing), ("opset", opset), ("weights", weights), ("images", images))
        if value is not None
    }
    refuse_foreign_options(format, given)
    path = one_target(target, out)
    open_for_reading(source).close()
    check_new_file(path)
    check_buildable(source, format)
    found, text = WRITERS[format](source, path, given)
    emit(found, as_json, text)


def refuse_foreign_options(format: str, given: dict[str, Any]) -> None:
    """Refuse an option that belongs to another format."""
    for name in given:
        if name not in OPTIONS[format]:
            owner = next(other for other, names in OPTIONS.items() if name in names)
            raise UsageError(f"--{name} is for --format {owner}, but --format {format} was given; leave it out.")


REMEDIES = {
    "onnx": "write it from Python: bitq.to_onnx(FILE, NEW.onnx, example, into=model)",
    "c": "write it from Python: bitq.to_c(FILE, FOLDER, example, into=model)",
    "bitq": "pack it another way from Python: bitq.export(bitq.load(FILE, into=model), NEW, packing=...)",
    "conformance": "conformance sets are of networks that bitq train wrote",
}


def check_buildable(source: Path, format: str) -> None:
    """Refuse a file whose network only the user's own code can build, and name the function to call."""
    from bitq.library.blueprint import check_of_grid

    check_of_grid(source, REMEDIES[format])


def one_target(target: Path | None, out: Path | None) -> Path:
    """Return the one path that is to be written."""
    if (target is None) == (out is None):
        raise UsageError(
            "a file to write has to be given once; call bitq export FILE NEW, or bitq export FILE "
            "--format onnx --out NEW.onnx."
        )
    return target or out or Path()


Done = tuple[dict[str, Any], str]


def as_bitq(source: Path, path: Path, given: dict[str, Any]) -> Done:
    """Pack the codes another way."""
    from bitq.deploy.export import export as write
    from bitq.deploy.load import load

    model, spec = load(source)
    done = write(model, spec, path, given.get("packing", "base3"))
    found = {"bytes": done.file_bytes, "sha256": done.sha256, "parts": done.parts}
    return found, f"{path}  {done.file_bytes:,} bytes"


def as_onnx(source: Path, path: Path, given: dict[str, Any]) -> Done:
    """Write an ONNX graph, and say how large and how near it is."""
    from bitq.deploy.load import load
    from bitq.interop.onnx_export import OPSET, export_onnx

    model, spec = load(source)
    opset, weights = given.get("opset", OPSET), given.get("weights", "narrow")
    near = export_onnx(model, spec, path, opset, weights)
    size, packed = path.stat().st_size, source.stat().st_size
    text = (
        f"{path}  {size:,} bytes, {size / packed:.2f} × the packed file; opset {opset}; logits of {near.images} drawn "
        f"images within {near.largest_difference:.1e} (the largest is {near.largest_logit:.1e}), top-1 equal for "
        f"{near.same}"
    )
    if size > CLOSE_TO_PACKED * packed:
        text += f"\n{remedy(opset, weights, OPSET)}"
    return {"bytes": size, "ratio": size / packed, "opset": opset, "weights": weights, **asdict(near)}, text


def remedy(opset: int, weights: str, newest: int) -> str:
    """Say how a file that is larger than the packed one becomes smaller."""
    if weights == "packed":
        return "Of so small a network the graph itself is a good part; its weights are as small as in the packed file."
    older = f" and opset {opset} lacks the narrower types of {newest}" if opset < newest else ""
    return f"ONNX has no type as narrow as the packed codes{older}; --weights packed stores their very bytes."


def as_c(source: Path, path: Path, given: dict[str, Any]) -> Done:
    """Write arrays and a reference inference."""
    from bitq.deploy.load import load
    from bitq.interop.c_export import export_c

    sizes = export_c(*load(source), path)
    build = "gcc -std=c99 -O2 -o network network.c reference.c main.c -lm"
    return {"bytes": sizes, "build": build}, f"{path}  {sum(sizes.values()):,} bytes; there: {build}"


def as_conformance(source: Path, path: Path, given: dict[str, Any]) -> Done:
    """Write inputs, integers and logits."""
    from bitq.deploy.load import load
    from bitq.interop.conformance import IMAGES, export_conformance

    if path.suffix != ".npz":
        raise UsageError(f"{path} was given; a conformance set is an .npz, for example {path.with_suffix('.npz')}.")
    arrays = export_conformance(*load(source), path, given.get("images", IMAGES))
    layers = sum(name.endswith(".sums") for name in arrays)
    found = {"bytes": path.stat().st_size, "arrays": {name: list(array.shape) for name, array in arrays.items()}}
    return found, f"{path}  {found['bytes']:,} bytes: {len(arrays['images'])} images, {layers} layers of integers"


WRITERS: dict[str, Callable[[Path, Path, dict[str, Any]], Done]] = {
    "bitq": as_bitq,
    "onnx": as_onnx,
    "c": as_c,
    "conformance": as_conformance,
}
