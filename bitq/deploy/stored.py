"""The quantizer of a layer that came from a file: it has codes and no latent weight."""

from torch import Tensor

from bitq.quant.base import Codes, Quantizer


class Stored(Quantizer):
    """ŵ is what the codes say, whatever weight comes in.

    >>> import torch
    >>> codes = Codes(torch.tensor([0, 2], dtype=torch.uint8), torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(0.5))
    >>> Stored(codes, "base3")(torch.zeros(2)).tolist()
    [-0.5, 0.5]
    """

    index: Tensor
    values: Tensor
    scale: Tensor
    grid: Tensor

    def __init__(self, codes: Codes, packing: str) -> None:
        super().__init__(codes.index)
        self.levels = len(codes.values)
        self.packing = packing
        grid = codes.values[codes.index.int()]  # looked up once rather than at every forward pass
        for name, part in vars(codes).items() | {"grid": grid}.items():
            self.register_buffer(name, part, persistent=False)

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(values[index], scale), as read."""
        return self.grid, self.scale

    def codes(self, weight: Tensor) -> Codes:
        """The codes, as read."""
        return Codes(self.index, self.values, self.scale)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"levels={self.levels}, packing={self.packing}"
