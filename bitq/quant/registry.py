"""The methods by name. A new method is one file and one line here."""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.activation import Int8Activation
from bitq.quant.apot import Apot
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
from bitq.quant.irnet import Irnet
from bitq.quant.layers import Activation
from bitq.quant.lsq import Lsq
from bitq.quant.paretoq import Paretoq
from bitq.quant.parq import Parq
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
    "paretoq": Method(Paretoq),
    "parq": Method(Parq),
    "apot": Method(Apot),
    "irnet": Method(Irnet),
}


def method(name: str) -> Method:
    """Look a method up by name."""
    if name not in METHODS:
        raise one_of("method", name, METHODS)
    return METHODS[name]


def make_quantizer(name: str, weight: Tensor, settings: Mapping[str, Any]) -> Quantizer:
    """Make the quantizer of one layer; unknown settings are refused by name."""
    check_settings(name, settings)
    return method(name).weight(weight, **method(name).fixed, **settings)


KINDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", Sequence[float]: "numbers"}
STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def settings_of_method(name: str) -> dict[str, inspect.Parameter]:
    """List a method's settings: the arguments of its quantizer that its name does not fix."""
    parameters = inspect.signature(method(name).weight).parameters
    return {key: value for key, value in parameters.items() if key not in ("weight", *method(name).fixed)}


def defaults(name: str) -> dict[str, Any]:
    """Return the default of every setting of a method."""
    return {key: parameter.default for key, parameter in settings_of_method(name).items()}


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Reject settings that the method does not have, and values that are not of the setting's type."""
    allowed = settings_of_method(name)
    for key, value in settings.items():
        if key not in allowed:
            raise UsageError(f"method {name!r} has no setting {key!r}; allowed: {', '.join(allowed) or 'none'}.")
        try:
            TypeAdapter(allowed[key].annotation, config=STRICT).validate_python(value)
        except ValidationError:
            kind = KINDS.get(allowed[key].annotation, KINDS[float])
            default = allowed[key].default
            example = "" if default is None else f", for example {key}={json.dumps(default)}"
            raise UsageError(f"{name} {key}={value} was given; it takes {kind}{example}.") from None


def reject_unused_settings(name: str, of_layers: Iterable[Mapping[str, Any]]) -> None:
    """Reject a setting that another one makes idle in every layer: two runs would train the same network."""
    usual, active_if = defaults(name), method(name).weight.active_if
    idle: list[dict[str, str]] = []  # for each layer, what it would ignore, and why
    for settings in of_layers:
        now = {**usual, **settings}
        changed = [key for key in active_if if now[key] != usual[key]]
        idle.append({key: why for key in changed for why in _hindrances(now, usual, active_if[key])})
    for key, why in idle[0].items() if idle else ():
        if all(key in layer for layer in idle):
            raise UsageError(f"{name} {key} was given, but it changes nothing with {why}, or leave {key} out.")


def _hindrances(
    now: Mapping[str, Any], usual: Mapping[str, Any], needs: Mapping[str, tuple[Any, ...]]
) -> Iterable[str]:
    for other, values in needs.items():
        if values and now[other] not in values:
            allowed = " or ".join(str(value).lower() for value in values)
            yield f"{other}={now[other]}; give {other}={allowed} with it"
        elif not values and now[other] == usual[other]:
            yield f"{other}={now[other]}; give another {other} with it"
