"""The methods by name. A new method is one file and one line here."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.activation import Int8Activation
from bitq.quant.atq import Atq
from bitq.quant.atq_legacy import AtqLegacy
from bitq.quant.base import Quantizer
from bitq.quant.bitnet import Bitnet
from bitq.quant.bitnet_legacy import BitnetLegacy, NormScaledActivation
from bitq.quant.bwn import Bwn
from bitq.quant.cast import FORMATS, Cast
from bitq.quant.dorefa import Dorefa
from bitq.quant.fp32 import Fp32
from bitq.quant.integer import Integer
from bitq.quant.layers import Activation
from bitq.quant.lsq import Lsq
from bitq.quant.ring import Ring
from bitq.quant.ring_legacy import RingLegacy
from bitq.quant.ttq import Ttq
from bitq.quant.ttq_legacy import TtqLegacy
from bitq.quant.twn import Twn


@dataclass(frozen=True)
class Method:
    """What a method does to a layer's weight and to its input."""

    weight: type[Quantizer]
    activation: Activation | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)  # settings that the name stands for


METHODS: dict[str, Method] = {
    "fp32": Method(Fp32),
    "bitnet": Method(Bitnet, Int8Activation),
    "bitnet_legacy": Method(BitnetLegacy, NormScaledActivation),
    "ttq": Method(Ttq),
    "ttq_legacy": Method(TtqLegacy),
    "twn": Method(Twn),
    "ring": Method(Ring),
    "ring_legacy": Method(RingLegacy),
    "lsq": Method(Lsq),
    "dorefa": Method(Dorefa),
    **{name: Method(Cast, fixed={"format": name}) for name in FORMATS},
    **{f"int{bits}": Method(Integer, fixed={"bits": bits}) for bits in range(2, 9)},
    "atq": Method(Atq),
    "atq_legacy": Method(AtqLegacy),
    "bwn": Method(Bwn),
}


def method(name: str) -> Method:
    """Look a method up."""
    if name not in METHODS:
        raise one_of("method", name, METHODS)
    return METHODS[name]


def make_quantizer(name: str, weight: Tensor, settings: Mapping[str, Any]) -> Quantizer:
    """The quantizer of one layer; unknown settings are refused by name."""
    quantizer, fixed = method(name).weight, method(name).fixed
    allowed = [key for key in inspect.signature(quantizer).parameters if key not in ("weight", *fixed)]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise UsageError(f"method {name!r} has no setting {unknown[0]!r}; allowed: {', '.join(allowed) or 'none'}.")
    return quantizer(weight, **fixed, **settings)
