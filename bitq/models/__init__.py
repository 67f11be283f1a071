"""Networks: torchvision's, of any width, for small and large images, and what bitq must know about each."""

from bitq.models.adapter import Adapter, Geometry
from bitq.models.cost import Flops, flops
from bitq.models.layers import matching_layers, weight_layers
from bitq.models.registry import adapter, build, drawn, keep_patterns, names

__all__ = [
    "Adapter",
    "Flops",
    "Geometry",
    "adapter",
    "build",
    "drawn",
    "flops",
    "keep_patterns",
    "matching_layers",
    "names",
    "weight_layers",
]
