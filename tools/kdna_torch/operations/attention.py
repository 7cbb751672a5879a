"""Attention, as products of matrices and a softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..trace import Tracer
from ..values import Inexpressible, Value
from .common import handles, integer
from .layers import linear
from .shapes import permuted, reshape, transpose
from .windows import softmax


def weighted_values(
    t: Tracer, query: Any, key: Any, value: Any, mask: Tensor | None, factor: float
) -> tuple[Value, Value]:
    """softmax(query key' factor + mask) value, and the softmax."""
    logits = t.emit("mul", [t.emit("matmul", [query, transpose(t, key, -2, -1)])], scalar=factor)
    if mask is not None:
        logits = t.emit("add", [logits, mask])
    weights = softmax(t, logits, -1)
    return t.emit("matmul", [weights, value]), weights


@handles("scaled_dot_product_attention")
def attention(
    t: Tracer,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p or is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise Inexpressible("attention with dropout, a mask of truth values or groups of queries")
    factor = float(scale) if scale is not None else 1 / math.sqrt(integer(t.value(query).dims[-1]))
    return weighted_values(t, query, key, value, attn_mask, factor)[0]


@handles("multi_head_attention_forward")
def multi_head_attention(
    t: Tracer,
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> list[Value | None]:
    """Of values [L, N, E]: what nn.MultiheadAttention calls."""
    if (training and dropout_p) or add_zero_attn or any(x is not None for x in (bias_k, bias_v, static_k, static_v)):
        raise Inexpressible("attention with dropout, or with keys of its own")
    if key_padding_mask is not None or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise Inexpressible("attention with a mask of truth values or of keys")
    parts = [t.value(x) for x in (query, key, value)]
    if any(len(part.dims) != 3 for part in parts):
        raise Inexpressible("an input without a batch axis")
    width = integer(parts[0].dims[2])
    weights = [q_proj_weight, k_proj_weight, v_proj_weight] if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    heads = []
    for part, weight, bias in zip(parts, weights, biases):
        length, batch, _ = part.dims
        rows = linear(t, part, weight, bias)
        split = reshape(t, rows, [length, batch, num_heads, width // num_heads])
        heads.append(permuted(t, split, [1, 2, 0, 3]))
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.view(-1, num_heads, *attn_mask.shape[1:])
    y, attended = weighted_values(t, *heads, attn_mask, (width // num_heads) ** -0.5)
    y = reshape(t, permuted(t, y, [2, 0, 1, 3]), [*parts[0].dims[:2], width])
    y = linear(t, y, out_proj_weight, out_proj_bias)
    if not need_weights:
        return [y, None]
    return [y, t.emit("mean", [attended], axes=[1], keep=False) if average_attn_weights else attended]
