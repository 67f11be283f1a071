"""bitq: train every run of a low-bit study, measure the bytes that would ship, test every claim.

As a library: `quantize` a network of one's own, train it in a loop of one's own, `export` and `load` it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitq.library.calibration import calibrate
    from bitq.library.coverage import coverage
    from bitq.library.evaluation import evaluate
    from bitq.library.formats import to_c, to_onnx
    from bitq.library.inference import fast
    from bitq.library.loading import describe, load
    from bitq.library.packing import export
    from bitq.library.quantize import quantize
    from bitq.library.training import parameter_groups, set_progress

__version__ = "0.1.0"

# All that is promised to stay; each is imported, and torch with it, when it is first used.
__all__ = [
    "__version__",
    "calibrate",
    "coverage",
    "describe",
    "evaluate",
    "export",
    "fast",
    "load",
    "parameter_groups",
    "quantize",
    "set_progress",
    "to_c",
    "to_onnx",
]

_HOME = {
    "calibrate": "calibration",
    "coverage": "coverage",
    "describe": "loading",
    "evaluate": "evaluation",
    "export": "packing",
    "fast": "inference",
    "load": "loading",
    "parameter_groups": "training",
    "quantize": "quantize",
    "set_progress": "training",
    "to_c": "formats",
    "to_onnx": "formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bitq' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"bitq.library.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | set(__all__))
