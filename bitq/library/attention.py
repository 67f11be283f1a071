"""Multi-head attention whose four projections are linear layers, and so can be quantized like any other."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SeparateAttention(nn.Module):
    """Attention with the weights of an `nn.MultiheadAttention`, its packed projection cut into three linear layers.

    It takes the same arguments and computes the same, but neither torch's fused kernel nor an encoder's fast path reads
    its weights: every projection is a call of a layer.

    >>> packed = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    >>> x = torch.randn(3, 5, 8)
    >>> torch.allclose(packed(x, x, x)[0], SeparateAttention(packed).eval()(x, x, x)[0], atol=1e-6)
    True
    """

    # What torch's encoder asks of its attention before it takes the fast path; these answers decline it.
    in_proj_weight = None
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.dropout = packed.embed_dim, packed.num_heads, packed.dropout
        self.batch_first = packed.batch_first
        biases = [None] * 3 if packed.in_proj_bias is None else packed.in_proj_bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, _input_weights(packed), biases)
        self.out_proj = _linear(packed.out_proj.weight, packed.out_proj.bias)
        self.train(packed.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; the masks and the two results are those of `nn.MultiheadAttention`.

        `is_causal` is a hint about `attn_mask`, which it needs, as it does there.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal=True was given without attn_mask; give the causal mask with it.")
        batched = query.dim() == 3
        query, key, value = (self._batch_first(x) for x in (query, key, value))
        q, k, v = self._heads(self.q_proj(query)), self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = functional.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        y: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not batched:
            return y[0], None if weights is None else weights[0]
        return y if self.batch_first else y.transpose(0, 1), weights

    def _batch_first(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """Cut (batch, tokens, features) into (batch, heads, tokens, features of a head)."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _mask(self, q: Tensor, k: Tensor, attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Add both masks up, (batch or 1, heads or 1, queries, keys or 1)."""
        masks = []
        if attn_mask is not None:
            shaped = attn_mask if attn_mask.dim() == 2 else attn_mask.view(len(q), self.num_heads, *attn_mask.shape[1:])
            masks.append(_additive(shaped, q))
        if padding is not None:
            masks.append(_additive(padding.reshape(len(k), 1, 1, -1), q))
        return sum(masks[1:], masks[0]) if masks else None


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """Turn True, which forbids, into -∞; numbers are added to the scores as they are."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -torch.inf)


def _input_weights(packed: nn.MultiheadAttention) -> tuple[Tensor, ...]:
    if packed.in_proj_weight is not None:
        return packed.in_proj_weight.chunk(3)
    weights = packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight
    assert all(weight is not None for weight in weights)
    return weights


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def can_be_separated(module: nn.Module) -> bool:
    """Tell whether an attention can be replaced: it is torch's own, and adds nothing to its keys and values."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


def separate(model: nn.Module, paths: list[str]) -> None:
    """Replace the attentions at these places, in place; one module at several places stays one."""
    replacements: dict[nn.Module, nn.Module] = {}
    for path in paths:
        packed: Any = model.get_submodule(path)
        model.set_submodule(path, replacements.setdefault(packed, SeparateAttention(packed)))


def leave_fast_paths(model: nn.Module) -> None:
    """Make torch's encoders call their layers in evaluation too, where they would read float weights past them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # "some other activation", which the fused kernel does not know
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
