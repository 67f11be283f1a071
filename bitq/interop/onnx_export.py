"""Write a network as an ONNX file whose weights keep their few bits, and compare it with the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs, device_of
from bitq.deploy.evaluate import full_precision, inference
from bitq.errors import Bug, UsageError, one_of
from bitq.interop.calls import Traced, Value, example_for, traced, write_calls
from bitq.interop.nearness import tolerance
from bitq.io import write_atomic

OPSET, OLDEST = 25, 18  # the first that has integers of two bits, and the oldest that has all operators used here
FORMS = ("narrow", "packed", "qdq")
CLOSE = 1e-2  # of the largest logit, where rounding does not alter logits by more


@dataclass(frozen=True)
class Comparison:
    """Logits of the runtime beside those of the reference evaluation."""

    images: int
    same: int  # images with equal top-1
    largest_difference: float
    largest_logit: float


def export_onnx(
    model: nn.Module, spec: Mapping[str, Any], path: Path, opset: int = OPSET, weights: str = "narrow"
) -> Comparison:
    """Write the network to `path`, checked by onnx and compared with the reference on a few drawn images."""
    return write_onnx(model, example_for(spec), example_for(spec, count=16, seed=1), path, opset, weights)


def write_onnx(
    model: nn.Module, example: Inputs, images: Inputs, path: Path, opset: int = OPSET, weights: str = "narrow"
) -> Comparison:
    """Write the network, traced with two examples, to `path` if the runtime agrees with it, call by call and in all."""
    content = onnx_bytes(model, example, opset, weights)
    check_calls(model, example, opset, weights)
    found = compare(model, session(content), images)
    if not is_close(found, CLOSE) and not is_close(found, tolerance(model, images)):
        raise UsageError(
            f"the logits differ by {found.largest_difference:.2e} from the network's, the largest of which is "
            f"{found.largest_logit:.2e}, though each call alone agrees with it: last bits grow from layer to layer, as "
            "in a network whose normalisation has seen few images; train it further or calibrate it. Nothing was "
            "written."
        )
    write_atomic(path, content)
    return found


def is_close(found: Comparison, share: float) -> bool:
    """Say whether logits differ by no more than a share of the largest."""
    return found.largest_difference <= share * found.largest_logit


def check_calls(model: nn.Module, example: Inputs, opset: int = OPSET, weights: str = "narrow") -> None:
    """Compare each call of the graph with the network's, on the values that reach it from two examples."""
    from bitq.interop.onnx_check import deviations
    from bitq.interop.onnx_graph import Graph

    network = traced(model, example)
    with inference(model):
        found = deviations(network, Graph(opset), weights, lambda content: runtime(content).run)
    for each in found:
        if not each.share <= each.limit:
            raise Bug(
                f"the ONNX graph computes {each.where} otherwise than the network: its result differs by "
                f"{each.share:.1e} of the largest number, and {each.limit:.1e} is allowed; nothing was written, report "
                "it with the file."
            )


def onnx_bytes(model: nn.Module, example: Inputs, opset: int = OPSET, weights: str = "narrow") -> bytes:
    """Build the file's content; `example` has the two images that the network is traced with."""
    require_onnx()
    import onnx

    from bitq.interop.onnx_calls import OnnxWriter
    from bitq.interop.onnx_graph import Graph

    check_opset(opset)
    if weights not in FORMS:
        raise one_of("form of weights", weights, FORMS)
    network = traced(model, example)
    graph = Graph(opset)
    writer = OnnxWriter(graph, weights)
    with inference(model):
        write_calls(network, writer)
    graph.node("Identity", writer._name(network.output), result="logits")
    described = graph.model([_info(each) for each in network.inputs], [_info(network.output, "logits")], about(network))
    onnx.checker.check_model(described, full_check=True)
    content: bytes = described.SerializeToString()
    return content


def about(network: Traced) -> str:
    """Describe the file in a line."""
    sizes = ", ".join(f"{each.name} {list(each.shape[1:])}" for each in network.inputs)
    return f"Written by bitq. Inputs, after the batch: {sizes}."


def check_opset(opset: int) -> None:
    """Refuse a version of the operator set that this export does not write."""
    if not OLDEST <= opset <= OPSET:
        raise UsageError(
            f"--opset {opset} was given; allowed: {OLDEST} to {OPSET}: {OPSET} stores codes in 2 bits, 21 to 24 in 4, "
            f"{OLDEST} to 20 in 8, for example --opset {OPSET}."
        )


def _info(value: Value, name: str = "") -> Any:
    from onnx import helper

    from bitq.interop.onnx_graph import TYPES

    return helper.make_tensor_value_info(name or value.name, TYPES[value.example.dtype], ["batch", *value.shape[1:]])


def require_onnx() -> None:
    """Check that ONNX and its runtime are installed, or say how to get them."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(f"an ONNX graph needs {error.name}; install it with: pip install 'bitq[onnx]'.") from error


def runtime(content: bytes) -> Any:
    """Load a file's content into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # In fp32, as the graph says: by default the runtime rounds the inputs of decoded weights to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def session(content: bytes) -> Callable[[Inputs], Tensor]:
    """Load a file's content into ONNX Runtime and return what computes logits with it."""
    loaded = runtime(content)
    names = [each.name for each in loaded.get_inputs()]

    def logits(x: Inputs) -> Tensor:
        parts = (x,) if isinstance(x, Tensor) else x
        feed = {name: part.cpu().contiguous().numpy() for name, part in zip(("images", "tokens"), parts, strict=False)}
        return torch.from_numpy(loaded.run(["logits"], {name: feed[name] for name in names})[0]).to(device_of(x))

    return logits


def compare(model: nn.Module, logits: Callable[[Inputs], Tensor], x: Inputs) -> Comparison:
    """Compare the logits of another runtime with those of the reference evaluation."""
    with inference(model), full_precision():
        ours = model(x).float()
    theirs = logits(x)
    same = int((ours.argmax(1) == theirs.argmax(1)).reshape(len(ours), -1).all(1).sum())
    return Comparison(len(ours), same, float((ours - theirs).abs().max()), float(ours.abs().max()))
