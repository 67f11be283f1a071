"""The quantizer of a layer that was read from a file: it has codes and no latent weight."""

from torch import Tensor

from bitq.quant.base import Codes, Quantizer, Residual


class Stored(Quantizer):
    """A quantizer that decodes stored codes, whatever weight it is given.

    >>> import torch
    >>> codes = Codes(torch.tensor([0, 2], dtype=torch.uint8), torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(0.5))
    >>> Stored(codes, "base3")(torch.zeros(2)).tolist()
    [-0.5, 0.5]
    """

    index: Tensor
    values: Tensor
    scale: Tensor
    unscaled: Tensor
    residual_position: Tensor
    residual_value: Tensor
    residual_scale: Tensor

    def __init__(self, codes: Codes, packing: str) -> None:
        super().__init__(codes.index)
        self.levels = len(codes.values)
        self.packing = packing
        unscaled = codes.values[codes.index.int()]  # looked up once rather than at every forward pass
        parts = {"index": codes.index, "values": codes.values, "scale": codes.scale, "unscaled": unscaled}
        if codes.residual:
            parts |= {f"residual_{name}": part for name, part in vars(codes.residual).items()}
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return (values[index], scale) as read; with a residual the weight itself and 1."""
        residual = self.residual
        if residual is None:
            return self.unscaled, self.scale
        return residual.added_to(self.unscaled * self.scale), self.scale.new_ones(())

    def codes(self, weight: Tensor) -> Codes:
        """Return the codes as read."""
        return Codes(self.index, self.values, self.scale, self.residual)

    @property
    def residual(self) -> Residual | None:
        """Residual that is added to the codes, if any."""
        if not hasattr(self, "residual_value"):
            return None
        return Residual(self.residual_position, self.residual_value, self.residual_scale)

    def extra_repr(self) -> str:
        """Format the settings for `print(model)`."""
        return f"levels={self.levels}, packing={self.packing}"
