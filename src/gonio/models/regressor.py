"""WanTransformer3DModel as a regressor: clean latents in, tokens of the first latent frame out.

Nothing is computed that the first frame's tokens do not need: in the last block only they ask, though all
answer, and only they pass the rest of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from gonio.models.small_attention import rotated
from gonio.models.token_shift import tell_grid

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel


def first_frame_tokens(
    transformer: WanTransformer3DModel, latents: Tensor, text: Tensor, *, checkpointing: bool = False
) -> Tensor:
    """What the output layer sees of the first latent frame: [B, C, f, h, w] -> [B, (h / p) (w / p), width].

    The timestep is 0, that of clean latents. text: [N, D], the same for all. checkpointing: recompute the
    blocks in the backward pass instead of keeping their activations.
    """
    tell_grid(transformer, latents)
    rotary = transformer.rope(latents)
    hidden = transformer.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    time = torch.zeros(len(latents), device=latents.device)
    embedded, modulation, context, _ = transformer.condition_embedder(
        time, text.expand(len(latents), *text.shape).to(hidden), None
    )
    modulation = modulation.unflatten(1, (6, -1))
    _, p_h, p_w = transformer.config.patch_size
    count = (latents.shape[-2] // p_h) * (latents.shape[-1] // p_w)
    *inner, last = transformer.blocks
    for block in inner:
        arguments = (hidden, context, modulation, rotary)
        hidden = checkpoint(block, *arguments, use_reentrant=False) if checkpointing else block(*arguments)
    if hidden.shape[1] == count:
        hidden = last(hidden, context, modulation, rotary)
    else:
        hidden = _for_first(last, hidden, count, context, modulation, rotary)
    shift, scale = (transformer.scale_shift_table + embedded.unsqueeze(1)).chunk(2, 1)
    return (transformer.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)


def unpatched(tokens: Tensor, rows: int, columns: int, patch: tuple[int, int]) -> Tensor:
    """Tokens of one frame [B, rows columns, p_h p_w C], channels innermost, as a picture [B, C, H, W]."""
    p_h, p_w = patch
    blocks = tokens.unflatten(-1, (p_h, p_w, -1)).unflatten(1, (rows, columns))
    return blocks.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _for_first(
    block: Any,
    hidden: Tensor,
    count: int,
    context: Tensor,
    modulation: Tensor,
    rotary: tuple[Tensor, Tensor],
) -> Tensor:
    """A transformer block's output for the first `count` tokens, which a shift of tokens must not leave."""
    shift, scale, gate, late_shift, late_scale, late_gate = (
        block.scale_shift_table + modulation.float()
    ).chunk(6, 1)
    normed = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    first = hidden[:, :count]
    attended = _attend(block.attn1, normed[:, :count], normed, rotary)
    first = (first.float() + attended * gate).type_as(hidden)
    asked = block.norm2(first.float()).type_as(first)
    first = first + block.attn2(asked, context, None, None)
    fed = block.ffn((block.norm3(first.float()) * (1 + late_scale) + late_shift).type_as(first))
    return (first.float() + fed.float() * late_gate).type_as(first)


def _attend(attention: Any, asking: Tensor, answering: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Self-attention in which only the first tokens ask. [B, n, D], [B, N, D] -> [B, n, D]"""
    query = attention.norm_q(attention.to_q(asking))
    key = attention.norm_k(attention.to_k(answering))
    value = attention.to_v(answering)
    query, key, value = (x.unflatten(2, (attention.heads, -1)) for x in (query, key, value))
    query, key = rotated(query, rotary), rotated(key, rotary)
    found = scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    joined = found.transpose(1, 2).flatten(2, 3).type_as(query)
    return attention.to_out[1](attention.to_out[0](joined))
