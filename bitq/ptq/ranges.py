"""The range of a layer's input that static codes span: all of it, all but its tails, or what leaves the least error."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.errors import Bug
from bitq.ptq.watch import Layers, in_full_precision
from bitq.quant.static import StaticUint8

KEPT = 2**16  # numbers of each batch that the percentiles and errors are computed from
TAIL = 1e-4  # share of the numbers that a percentile leaves out at either end
SHRINKS = torch.linspace(0.2, 1.0, 65).tolist()
Range = tuple[Tensor, Tensor]


class Observer:
    """The extremes of all that it saw, and some numbers of it, drawn at random.

    Every k-th number will not do: where k and the size of an image share a factor, they are all the same few pixels.
    """

    def __init__(self) -> None:
        self.lows: list[Tensor] = []
        self.highs: list[Tensor] = []
        self.numbers: list[Tensor] = []
        self.draws = torch.Generator().manual_seed(0)

    def see(self, x: Tensor) -> None:
        """Remember a batch of inputs."""
        flat = x.float().reshape(-1)
        self.lows.append(flat.min())
        self.highs.append(flat.max())
        chosen = torch.randint(flat.numel(), (KEPT,), generator=self.draws).to(flat.device)
        self.numbers.append(flat[chosen] if flat.numel() > KEPT else flat)

    @property
    def extremes(self) -> Range:
        """Return the smallest and the largest number."""
        return torch.stack(self.lows).min(), torch.stack(self.highs).max()


def minmax(seen: Observer) -> Range:
    """Return the full range."""
    return seen.extremes


def percentile(seen: Observer) -> Range:
    """Return the range without its tails; the zeros of a ReLU are no tail and stay."""
    numbers = torch.cat(seen.numbers).sort().values
    out = int(TAIL * len(numbers))
    return numbers[out], numbers[len(numbers) - 1 - out]


def mse(seen: Observer) -> Range:
    """Return the fraction of the full range that leaves the smallest squared error."""
    low, high = seen.extremes
    numbers = torch.cat(seen.numbers)
    trial = StaticUint8(()).to(numbers.device)

    def error(shrink: float) -> float:
        trial.use_range(low * shrink, high * shrink)
        codes, scale = trial(numbers)
        return float((codes * scale - numbers).square().sum())

    best = min(SHRINKS, key=error)
    return low * best, high * best


RANGES: dict[str, Callable[[Observer], Range]] = {"minmax": minmax, "percentile": percentile, "mse": mse}


def use_observed_ranges(model: nn.Module, layers: Layers, name: str, images: Sequence[Inputs]) -> None:
    """Give every static activation the range of its inputs in the unquantized network."""
    activations = {path: layer.activation for path, layer in layers.items() if layer.activation is not None}
    observers = {path: Observer() for path in activations}
    with in_full_precision(layers):
        for path, observer in observers.items():
            layers[path].activation = activations[path]
            _static(path, activations[path]).observer = observer
        for batch in images:
            model(batch)
    for path, observer in observers.items():
        if not observer.lows:
            raise Bug(f"{path} saw no image, so its activations have no range.")
        activation = _static(path, activations[path])
        activation.observer = None
        activation.use_range(*RANGES[name](observer))


def _static(path: str, activation: nn.Module | None) -> StaticUint8:
    if not isinstance(activation, StaticUint8):
        raise Bug(f"{path} was to have static activations, but has {type(activation).__name__}.")
    return activation
