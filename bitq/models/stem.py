"""Fit a published network's first convolution to other images, with initial weights like those of its other layers."""

from collections.abc import Callable

from torch import nn

Initialise = Callable[[nn.Conv2d | nn.Linear], object]


def he_normal(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialise a layer like torchvision's ReLU families: He et al. 2015 by fan-out; if linear, σ = 0.01."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.normal_(layer.weight, 0, 0.01)
    _zero_bias(layer)


def truncated_normal(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialise a layer like torchvision's ConvNeXt: truncated normal, σ = 0.02."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    _zero_bias(layer)


def _zero_bias(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def refit(model: nn.Module, path: str, initialise: Initialise, channels: int, **changes: tuple[int, int]) -> nn.Module:
    """Give the convolution at `path` other input channels, kernel_size or stride; untouched if nothing changes."""
    conv = model.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    shape = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding")}
    if channels != conv.in_channels or shape | changes != shape:
        fitted = nn.Conv2d(channels, conv.out_channels, **(shape | changes), bias=conv.bias is not None)
        initialise(fitted)
        model.set_submodule(path, fitted)
    return model
