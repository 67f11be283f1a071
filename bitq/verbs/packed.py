"""Measure packed files, read published ones, run them."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bitq.errors import UsageError
from bitq.io import must_be_writable, open_for_reading
from bitq.terminal import records_table
from bitq.verbs.common import DeviceOption, Json, check_new_file, emit

DatasetOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Image set. [default: the one the file was trained on]")
]
VariantOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its variant. [default: the one the file was trained on]")
]
MULTIPLY_INTEGERS = ("fast",)  # the other back ends decode the integers that they store


def evaluate(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    dataset: DatasetOption = None,
    variant: VariantOption = None,
    device: DeviceOption = "auto",
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for plots, PDF and PNG: codes; with the run's records beside it, accuracies, zeros, training."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="INT", help="Images at a time. [default: 250]")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Compare with another engine: torchao (integer weights), pt2e (static int8), onnxruntime, or fast "
            "(bitq's own integer kernels)."
        ),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="File to write: the class it gives each test image, one byte each, in order.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a packed file: accuracy, bytes, levels, coverage."""
    open_for_reading(file).close()
    if predictions:
        check_new_file(predictions)
    if plots:
        must_be_writable(plots)

    from bitq.measure.packed_file import evaluate_file

    found = evaluate_file(file, dataset, variant, device, backend, batch_size, predictions)
    if plots:
        from bitq.report import names
        from bitq.report.run_plots import write_plots
        from bitq.studies.catalogue import words

        layers = found["audit"]["layers"]
        histograms = {one["name"]: list(zip(one["signs"], one["histogram"], strict=True)) for one in layers}
        written, left_out = write_plots(file, plots, histograms, partial(names.arm, parts=words()))
        print(*written, *left_out, sep="\n", file=sys.stderr)

    text = (
        f"{found['accuracy']:.2f} % of {found['images']} images of {found['dataset']}/{found['variant']}, "
        f"{found['bytes']:,} bytes, {found['compression']:.1f}× smaller than fp32"
    )
    text += coverage_line(found["audit"], found["coverage"])
    if other := found["backend"]:
        does = "multiplies" if other["name"] in MULTIPLY_INTEGERS else "stores, and decodes before it multiplies,"
        text += (
            f"\n{other['name']}: {other['accuracy']:.2f} %, {100 * other['same_predictions']:.2f} % of the answers "
            f"the same, logits within {other['largest_difference']:.1e}; it {does} integers for "
            f"{100 * other['weights']:.1f} % of the weights and {100 * other['multiplications']:.1f} % of the "
            "multiplications"
        )
    emit(found, as_json, text)


def coverage_line(audit: dict[str, Any], coverage: dict[str, Any]) -> str:
    """Write the levels, the share that ships as codes, and the layers in full precision."""
    if not audit["layers"]:
        return "\nno layer ships as codes"
    levels = sorted({layer["levels"] for layer in audit["layers"]})
    multiplied = 100 * coverage["packed_multiplications"] / coverage["multiplications"]
    floats = ", ".join(layer["name"] for layer in coverage["left_float"]) or "none"
    return (
        f"\n{' and '.join(map(str, levels))} levels in {len(audit['layers'])} layers, "
        f"{100 * audit['coverage']:.1f} % of the weights and {multiplied:.1f} % of the multiplications; "
        f"in full precision: {floats}"
    )


def import_(
    source: Annotated[Path, typer.Argument(help="A published .pth checkpoint: of Ring Quantization, or vgg11.")],
    target: Annotated[Path, typer.Argument(help="The model file to write.")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Network in it: resnet20, resnet32, resnet44; or vgg11.")
    ] = "resnet20",
    ring_size: Annotated[
        int | None, typer.Option(metavar="INT", help="Number of points of its ring. [default: as the file says]")
    ] = None,
    snap: Annotated[bool, typer.Option("--snap", help="Give every weight the value of the nearest point.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a published .pth into a model file; nothing is executed."""
    open_for_reading(source).close()
    check_new_file(target)
    if model == "vgg11" and (ring_size or snap):
        raise UsageError("--ring-size and --snap are for networks of rings; leave them out with --model vgg11.")

    from bitq.interop.published_ring import import_published
    from bitq.interop.published_vgg import import_vgg11

    is_vgg = model == "vgg11"
    done = import_vgg11(source, target) if is_vgg else import_published(source, target, model, ring_size, snap)
    emit({"bytes": done.file_bytes, "sha256": done.sha256}, as_json, f"{target}  {done.file_bytes:,} bytes")


def demo(
    file: Annotated[
        Path | None, typer.Argument(help="A packed file. [default: a small network of every method]")
    ] = None,
    image: Annotated[int, typer.Option(help="Which test image the file is to classify.")] = 0,
    dataset: DatasetOption = None,
    variant: VariantOption = None,
    as_json: Json = False,
) -> None:
    """Run a network packed by every method, or classify an image."""
    if file is None and (dataset or variant or image):
        raise UsageError("--image, --dataset and --variant choose what a file classifies; call bitq demo FILE.")
    if file:
        open_for_reading(file).close()

    from bitq.measure.demo import classify, tour

    if file is None:
        rows = tour()
        emit(rows, as_json, records_table(rows))
        return
    found = classify(file, image, dataset, variant)
    true, said = (named(found, which) for which in ("class", "says"))
    emit(found, as_json, f"test image {image}: class {true}, the file says {said} ({found['percent']:.1f} % sure)")


def named(found: dict[str, Any], which: str) -> str:
    """Write a class with its name, where the data have names."""
    name = found[f"{which}_name"]
    return f"{found[which]} ({name})" if name else str(found[which])
