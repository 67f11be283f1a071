"""Leave a network as it was where what is to be done to it is refused halfway."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bitq.models.layers import WeightLayer


@contextmanager
def unchanged_if_refused(model: nn.Module) -> Iterator[None]:
    """Undo what was done to the modules of a network, and to the weights of its layers, if it ends in an exception.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> try:
    ...     with unchanged_if_refused(net):
    ...         net[1] = nn.Tanh()
    ...         raise ValueError
    ... except ValueError:
    ...     print(net[1])
    ReLU()
    """
    modules = [_Module(module) for module in model.modules()]
    weights = [(weight, weight.detach().clone()) for weight in _weights(model)]
    try:
        yield
    except BaseException:
        for module in modules:
            module.restore()
        for weight, values in weights:
            weight.data.copy_(values)
        raise


class _Module:
    """What a module was: its class, its attributes, and what stood in its tables of parameters, modules and hooks."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.attributes = module, type(module), dict(vars(module))
        # The tables stay the same objects, since the handles that remove hooks refer to them.
        self.tables = [(table, dict(table)) for table in vars(module).values() if isinstance(table, dict)]

    def restore(self) -> None:
        if type(self.module) is not self.kind:
            self.module.__class__ = self.kind
        for table, entries in [(vars(self.module), self.attributes), *self.tables]:
            table.clear()
            table.update(entries)


def _weights(model: nn.Module) -> set[Tensor]:
    layers = [module for module in model.modules() if isinstance(module, WeightLayer)]
    weights = [layer._parameters.get("weight") for layer in layers]
    return {weight for weight in weights if weight is not None and not is_lazy(weight)}
