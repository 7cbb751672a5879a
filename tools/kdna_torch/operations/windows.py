"""Pooling, resizing, reductions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..extents import Dim, plain
from ..shape_rules import axis_of, product
from ..trace import HANDLERS, Tracer
from ..values import Inexpressible, Value
from .common import axes_of, handles, integer, listed, pair, rank_of
from .elements import binary
from .shapes import gather_axis, permuted, reshape


def whole_map(t: Tracer, x: Any, kernel: Any, padding: Any) -> bool:
    """Whether a pooling window is the whole map, whatever its size."""
    dims = t.value(x).dims
    if len(dims) != 4 or not isinstance(kernel, (list, tuple)) or len(kernel) != 2 or pair(padding) != [0, 0]:
        return False
    return all(isinstance(k, Dim) and isinstance(d, Dim) and k.expr == d.expr for k, d in zip(kernel, dims[2:]))


def pooling_pads(padding: Any) -> list[int]:
    h, w = pair(padding)
    return [h, h, w, w]


@handles("max_pool2d", "max_pool2d_with_indices")
def max_pool2d(
    t: Tracer,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if return_indices:
        raise Inexpressible("the indices of the largest elements")
    if whole_map(t, x, kernel_size, padding):
        return t.emit("adaptive_max_pool2d", [x], size=[1, 1])
    stride = kernel_size if stride is None or stride == [] else stride
    return t.emit(
        "max_pool2d",
        [x],
        window=pair(kernel_size),
        stride=pair(stride),
        pad=pooling_pads(padding),
        dilation=pair(dilation),
        ceil_mode=bool(ceil_mode),
    )


@handles("avg_pool2d")
def avg_pool2d(
    t: Tracer,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    if whole_map(t, x, kernel_size, padding) and divisor_override is None:
        return t.emit("adaptive_avg_pool2d", [x], size=[1, 1])
    stride = kernel_size if stride is None or stride == [] else stride
    extra = {} if divisor_override is None else {"divisor": integer(divisor_override)}
    return t.emit(
        "avg_pool2d",
        [x],
        window=pair(kernel_size),
        stride=pair(stride),
        pad=pooling_pads(padding),
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        **extra,
    )


def adaptive(op: str) -> Callable[..., Value]:
    def handle(t: Tracer, x: Tensor, output_size: Any, return_indices: bool = False) -> Value:
        if return_indices:
            raise Inexpressible("the indices of the largest elements")
        dims = t.value(x).dims
        size = pair(output_size, lambda n: n)
        return t.emit(op, [x], size=[d if n is None else n for n, d in zip(size, dims[2:])])

    return handle


HANDLERS["adaptive_avg_pool2d"] = adaptive("adaptive_avg_pool2d")
HANDLERS["adaptive_max_pool2d"] = adaptive("adaptive_max_pool2d")


@handles("adaptive_avg_pool1d")
def adaptive_avg_pool1d(t: Tracer, x: Tensor, output_size: Any) -> Value:
    n = output_size[0] if isinstance(output_size, (list, tuple)) else output_size
    if plain(n) != 1:
        raise Inexpressible("an output of more than one element")
    return t.emit("mean", [x], axes=[rank_of(t, x) - 1], keep=True)


def resized_by_matrices(t: Tracer, x: Tensor, size: Any, scale_factor: Any, how: dict[str, Any]) -> Value:
    """A resize that works on rows and columns one after the other, as what it makes of a unit matrix: of one size only."""
    y = t.value(x)
    h, w = (integer(d) for d in y.dims[2:])
    rows, columns = (torch.eye(n, dtype=torch.float64).view(1, 1, n, n) for n in (h, w))
    with t.quietly():
        if size is None:
            sh, sw = pair(scale_factor, float)
            down = F.interpolate(rows, scale_factor=(sh, 1.0), **how)
            across = F.interpolate(columns, scale_factor=(1.0, sw), **how)
        else:
            new_h, new_w = (integer(n) for n in size)
            down = F.interpolate(rows, (new_h, h), **how)
            across = F.interpolate(columns, (w, new_w), **how)
    y = t.emit("matmul", [y, across[0, 0]])
    return t.emit("matmul", [down[0, 0], y])


@handles("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def interpolate(
    t: Tracer,
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Value:
    dims = t.value(x).dims
    if len(dims) != 4:
        raise Inexpressible(f"a value of {len(dims)} axes; the file's takes [N, C, H, W]")
    if size is not None:
        size = pair(size, lambda n: n)
    elif recompute_scale_factor or mode == "area":
        size = [math.floor(d * s) for d, s in zip(dims[2:], pair(scale_factor, float))]
    if mode == "area":
        return t.emit("adaptive_avg_pool2d", [x], size=size)
    if mode == "nearest-exact":
        whole = size is None and all(float(s).is_integer() for s in pair(scale_factor, float))
        mode = "nearest" if whole else mode
    if mode in ("bicubic", "nearest-exact") or antialias:
        how = {"mode": mode, "align_corners": align_corners, "antialias": antialias}
        return resized_by_matrices(t, x, size, scale_factor, how)
    if mode not in ("nearest", "bilinear"):
        raise Inexpressible(f"mode {mode}")
    extra = {"align_corners": True} if align_corners else {}
    if size is not None:
        return t.emit("resize", [x], mode=mode, size=size, **extra)
    return t.emit("resize", [x], mode=mode, scale=pair(scale_factor, float), **extra)


def reduction(op: str) -> Callable[..., Value]:
    def handle(
        t: Tracer,
        x: Any,
        dim: Any = None,
        keepdim: bool = False,
        dtype: Any = None,
        axis: Any = None,
        keepdims: Any = None,
    ) -> Value:
        dim, keepdim = dim if axis is None else axis, keepdim if keepdims is None else keepdims
        return t.emit(op, [x], axes=axes_of(dim, rank_of(t, x)), **({"keep": True} if keepdim else {}))

    return handle


for _op, _names in {"mean": ("mean",), "sum": ("sum",), "max": ("amax",), "min": ("amin",)}.items():
    HANDLERS.update({name: reduction(_op) for name in _names})


def extreme(op: str) -> Callable[..., Any]:
    def handle(t: Tracer, x: Tensor, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
        other = dim if isinstance(dim, Tensor) else other
        if other is not None:
            return binary(op + "imum")(t, x, other)
        if dim is None:
            return reduction(op)(t, x)
        values = reduction(op)(t, x, dim, keepdim)
        return [values, t.inexpressible(f"{op}: the index of an element")]

    return handle


HANDLERS["max"], HANDLERS["min"] = extreme("max"), extreme("min")


@handles("softmax", "_softmax")
def softmax(t: Tracer, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    if dim is None or isinstance(dim, torch.dtype):
        raise Inexpressible("no axis given")
    return t.emit("softmax", [x], axis=axis_of(dim, rank_of(t, x)))


@handles("log_softmax")
def log_softmax(t: Tracer, x: Tensor, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    if dim is None:
        raise Inexpressible("no axis given")
    return t.emit("log_softmax", [x], axis=axis_of(dim, rank_of(t, x)))


@handles("logsumexp")
def logsumexp(t: Tracer, x: Tensor, dim: Any, keepdim: bool = False) -> Value:
    axes = axes_of(dim, rank_of(t, x))
    top = t.emit("max", [x], axes=axes, keep=True)
    total = t.emit("sum", [t.emit("exp", [t.emit("sub", [x, top])])], axes=axes, keep=True)
    y = t.emit("add", [t.emit("log", [total]), top])
    return y if keepdim else t.emit("squeeze", [y], axes=axes)


def moments(t: Tracer, x: Any, dim: Any, correction: Any, keepdim: bool) -> tuple[Value, Value]:
    """Variance and mean."""
    value = t.value(x)
    axes = axes_of(dim, len(value.dims))
    mean = t.emit("mean", [value], axes=axes, keep=True)
    centred = t.emit("sub", [value, mean])
    var = t.emit("mean", [t.emit("mul", [centred, centred])], axes=axes, keep=True)
    if correction:
        n = integer(product([value.dims[i] for i in axes]))
        if n <= correction:
            raise Inexpressible("too few elements for an unbiased variance")
        var = t.emit("mul", [var], scalar=n / (n - correction))
    if not keepdim:
        var, mean = (t.emit("squeeze", [v], axes=axes) for v in (var, mean))
    return var, mean


def statistics(kind: str) -> Callable[..., Any]:
    def handle(
        t: Tracer, x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, correction: Any = None
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        var, mean = moments(t, x, dim, int(unbiased) if correction is None else correction, keepdim)
        if "std" in kind:
            var = t.emit("sqrt", [var])
        return [var, mean] if "mean" in kind else var

    return handle


HANDLERS.update({kind: statistics(kind) for kind in ("var", "std", "var_mean", "std_mean")})


@handles("norm", "vector_norm", "linalg_vector_norm", "linalg_norm")
def norm(
    t: Tracer, x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, ord: Any = None
) -> Value:
    p = 2 if (ord if ord is not None else p) in (2, "fro", 2.0) else (ord if ord is not None else p)
    axes, keep = axes_of(dim, rank_of(t, x)), {"keep": True} if keepdim else {}
    if p == 2:
        return t.emit("sqrt", [t.emit("sum", [t.emit("mul", [x, x])], axes=axes, **keep)])
    if p == 1:
        return t.emit("sum", [t.emit("abs", [x])], axes=axes, **keep)
    raise Inexpressible(f"the norm {p}")


@handles("normalize")
def normalize(t: Tracer, x: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Value:
    length = t.emit("clamp", [norm(t, x, p, dim, True)], low=float(eps))
    return t.emit("div", [x, length])


@handles("matmul", "__matmul__", "bmm", "mm", "__rmatmul__")
def matmul(t: Tracer, a: Any, b: Any) -> Value:
    return t.emit("matmul", [a, b])


@handles("addmm", "baddbmm")
def addmm(t: Tracer, x: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise Inexpressible("alpha or beta")
    return t.emit("add", [t.emit("matmul", [a, b]), x])


@handles("einsum")
def einsum(t: Tracer, equation: Any, *operands: Any) -> Value:
    """Sums of products of one or two tensors, as a matrix product of permuted ones."""
    if not isinstance(equation, str) or "." in equation:
        raise Inexpressible("an equation with an ellipsis, or without letters")
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if len(terms) != len(tensors) or not 1 <= len(terms) <= 2 or any(len(set(term)) != len(term) for term in terms):
        raise Inexpressible(f"the equation {equation}")
    values, extents = [t.value(x) for x in tensors], {}
    for i, (term, value) in enumerate(zip(terms, values)):
        for c, d in zip(term, value.dims):
            extents[c] = d if c not in extents or isinstance(extents[c], Dim) else extents[c]
        alone = [
            n
            for n, c in enumerate(term)
            if c not in out and all(c not in other for other in terms[:i] + terms[i + 1 :])
        ]
        if alone:
            values[i] = t.emit("sum", [value], axes=alone)
            terms[i] = "".join(c for c in term if c not in {term[n] for n in alone})
    if len(terms) == 1:
        return permuted(t, values[0], [terms[0].index(c) for c in out])
    (a, b), both = terms, [c for c in terms[0] if c in terms[1]]
    batch, inner = [c for c in both if c in out], [c for c in both if c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def matrix(value: Value, term: str, first: list[str], second: list[str]) -> Value:
        moved = permuted(t, value, [term.index(c) for c in [*batch, *first, *second]])
        shape = [product([extents[c] for c in part]) for part in (batch, first, second)]
        return reshape(t, moved, shape)

    y = t.emit("matmul", [matrix(values[0], a, rows, inner), matrix(values[1], b, inner, columns)])
    made = [*batch, *rows, *columns]
    return permuted(t, reshape(t, y, [extents[c] for c in made]), [made.index(c) for c in out])


@handles("flip", "fliplr", "flipud")
def flip(t: Tracer, x: Tensor, *dims: Any) -> Value:
    value = t.value(x)
    for axis in axes_of(listed(dims[0], dims[1:]), len(value.dims)):
        if isinstance(value.dims[axis], Dim):
            raise Inexpressible("an axis whose extent depends on the input")
        value = gather_axis(t, value, axis, list(range(value.dims[axis]))[::-1])
    return value
