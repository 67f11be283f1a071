"""Trace a network with its changes in place, for which torch.fx alone records new values."""

import operator
from collections.abc import Callable
from typing import Any

from torch import fx


class InPlaceTracer(fx.Tracer):
    """A tracer that records `x += y` as a change of x."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Wrap a node."""
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """A value whose changes in place are calls of their own."""

    def __iadd__(self, other: object) -> fx.Proxy:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: object) -> fx.Proxy:
        return self._changed(operator.isub, other)

    def __imul__(self, other: object) -> fx.Proxy:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: object) -> fx.Proxy:
        return self._changed(operator.itruediv, other)

    def _changed(self, function: Callable[..., Any], other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})
