"""Attention over few tokens on a CPU: three plain matrix products.

torch's attention keeps memory low and guards against rows that are masked whole. For a few hundred tokens
without a mask neither is needed, and the plain products with their gradients take a third of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

FEW = 1024  # tokens


class SmallAttention(WanAttnProcessor):
    """What WanAttnProcessor computes for attention without image tokens or masks."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(told))
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (query, key, attn.to_v(told)))
        if rotary_emb is not None:
            query, key = rotated(query, rotary_emb), rotated(key, rotary_emb)
        query = query.transpose(1, 2) * query.shape[-1] ** -0.5
        weights = torch.softmax(query @ key.permute(0, 2, 3, 1), -1)
        found = (weights @ value.transpose(1, 2)).transpose(1, 2).flatten(2, 3)
        return attn.to_out[0](found.type_as(query))


def rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding of the first positions. x: [B, n, heads, d]"""
    cosine, sine = rotary[0][:, : x.shape[1], :, 0::2], rotary[1][:, : x.shape[1], :, 1::2]
    real = torch.promote_types(x.dtype, torch.float32)
    return _Rotated.apply(x, torch.complex(cosine.to(real), sine.to(real)))


class _Rotated(torch.autograd.Function):
    """Pairs of channels as complex numbers, times numbers of length 1: the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Tensor) -> Tensor:
        ctx.save_for_backward(turn)
        return _turned(x, turn)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (turn,) = ctx.saved_tensors
        return _turned(gradients[0], turn.conj()), None


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.to(turn.real.dtype).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).type_as(x)


def with_small_attention(transformer: Any, tokens: int) -> Any:
    """For a transformer on a CPU without an image encoder that sees at most FEW tokens; else it stays."""
    if transformer.device.type == "cpu" and tokens <= FEW and transformer.config.image_dim is None:
        for block in transformer.blocks:
            for attention in (block.attn1, block.attn2):
                attention.set_processor(SmallAttention())
    return transformer
