"""Print, for every method, how an ONNX file stores its weights and how large it is beside the packed file.

python benchmarks/exports.py [NETWORK [WIDTH]]

Sizes do not depend on training: the networks are as they start.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx

from bitq.catalogue import published_width
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.interop.calls import example_for
from bitq.interop.onnx_export import onnx_bytes
from bitq.models.registry import build
from bitq.quant.convert import convert
from bitq.quant.registry import METHODS

OPSETS = (25, 21, 18)


def stored_as(content: bytes) -> str:
    """Name the commonest type of the weights, and whether a table follows."""
    graph = onnx.load_from_string(content).graph
    held = [each for each in graph.initializer if each.name.endswith((".codes", ".weight")) and len(each.dims) > 1]
    kind, _ = Counter(onnx.TensorProto.DataType.Name(each.data_type).lower() for each in held).most_common(1)[0]
    tables = any(node.op_type == "Gather" for node in graph.node)
    return f"{kind}, table" if tables else kind


def row(method: str, network: str, width: int) -> str:
    geometry = {"width": width, "channels": 3, "image_size": 32}
    model = convert(build(network, 10, **geometry), method)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m")
        export(model, {"model": network, "classes": 10, "method": method, **geometry}, path)
        size, (stored, spec) = path.stat().st_size, load(path)
    example = example_for(spec)
    files = [onnx_bytes(stored, example, opset) for opset in OPSETS] + [onnx_bytes(stored, example, weights="packed")]
    ratios = " | ".join(f"{len(file) / size:.2f}" for file in files)
    return f"| `{method}` | {stored_as(files[0])} | {size:,} | {ratios} |"


def main() -> None:
    network = sys.argv[1] if len(sys.argv) > 1 else "resnet20"
    width = int(sys.argv[2]) if len(sys.argv) > 2 else published_width(network)
    print(f"{network}, width {width}:\n")
    print("| method | stored as | packed, bytes | opset 25 | 21 | 18 | `--weights packed` |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for method in METHODS:
        print(row(method, network, width), flush=True)


if __name__ == "__main__":
    main()
