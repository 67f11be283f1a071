"""Load the checkpoint of a published work into a network of bitq, and describe where it comes from."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bitq.catalogue import published_width
from bitq.deploy.export import NOT_SHIPPED
from bitq.errors import DataError
from bitq.interop.pth import read_pth, state_of
from bitq.io import sha256_file


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a network from a `.pth` file."""
    return state_of(read_pth(path), path)


def check_names(path: Path, model: str, network: nn.Module, state: dict[str, Tensor]) -> None:
    """Check that the checkpoint holds every tensor of the network, and no other."""
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        if not name.endswith(NOT_SHIPPED):
            where = "missing" if name in expected else "unknown to it"
            raise DataError(f"{path} does not hold a {model}: {name} is {where}; give --model as it was trained.")


def load_tensors(path: Path, network: nn.Module, state: dict[str, Tensor], flat: frozenset[str] = frozenset()) -> None:
    """Load tensors of the network's shapes into it; those named in `flat` are stored as vectors."""
    expected = network.state_dict()
    for name, value in expected.items():
        if name in state:
            shape = (value.numel(),) if name in flat else tuple(value.shape)
            _check_tensor(path, name, state[name], shape, value)
    network.load_state_dict(
        {name: state.get(name, value).reshape(value.shape).to(value.dtype) for name, value in expected.items()}
    )


def _check_tensor(path: Path, name: str, value: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    if tuple(value.shape) != shape:
        raise DataError(
            f"{path}: {name} has shape {tuple(value.shape)}, where {shape} belongs; give --model as it was trained."
        )
    if value.is_floating_point() != like.is_floating_point():
        raise DataError(
            f"{path}: {name} holds {value.dtype}, where {like.dtype} belongs; give --model as it was trained."
        )
    if not value.isfinite().all():
        raise DataError(f"{path}: {name} holds NaN or infinite numbers; get the file again.")


def published_spec(path: Path, model: str, classes: int, dataset: str) -> dict[str, Any]:
    """Describe an imported network: its source, and the data that it is evaluated on."""
    digest = sha256_file(path)
    return {
        "run": f"published/{path.name}",
        "hash": digest,
        "model": model,
        "width": published_width(model),
        "classes": classes,
        "method": "fp32",
        "dataset": dataset,
        "variant": "official",
        "normalisation": dataset,
        "source": {"file": path.name, "sha256": digest},
    }
