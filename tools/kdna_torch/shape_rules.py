"""The extents of what each operation of the file makes, as far as they follow from those of its inputs.

An extent that is an int is the same for all inputs of the network; one that is a Dim has an expression. ``Opaque`` is an
extent that only the value itself can name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .extents import Dim, combine, expr_of, plain
from .values import Inexpressible, Opaque, Value

Dims = Sequence[Any]


def axis_of(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Inexpressible(f"axis {axis} of a value of {rank} axes")
    return axis % rank


def window(d: int, size: int, stride: int, pad: int, dilation: int = 1, ceil: bool = False, before: int = 0) -> Any:
    """The extent that a window of ``size`` makes of d, ``pad`` on both sides together."""
    reach = dilation * (size - 1)
    if stride == 1 and pad == reach:
        return d
    span = plain(d) + pad - reach - 1
    if span < 0 and not ceil:
        raise Inexpressible("a window larger than the map")
    n = -(-span // stride) + 1 if ceil else span // stride + 1
    if ceil and (n - 1) * stride >= plain(d) + before:
        n -= 1
    return Opaque(n) if isinstance(d, Dim) else n


def windows(x: Dims, size: Dims, a: dict[str, Any]) -> list[Any]:
    top, bottom, left, right = a.get("pad", [0] * 4)
    (sh, sw), (dh, dw), ceil = a.get("stride", [1, 1]), a.get("dilation", [1, 1]), a.get("ceil_mode", False)
    return [
        window(x[2], size[0], sh, top + bottom, dh, ceil, top),
        window(x[3], size[1], sw, left + right, dw, ceil, left),
    ]


def broadcast(shapes: Sequence[Dims]) -> list[Any]:
    out = []
    for i in range(-max(map(len, shapes)), 0):
        best: Any = 1
        for shape in shapes:
            if len(shape) < -i:
                continue
            d = shape[i]
            larger = plain(d) > plain(best)
            same = plain(d) == plain(best) and isinstance(best, Dim) and not isinstance(d, Dim) and plain(d) != 1
            first = best is not d and plain(d) == 1 == plain(best) and isinstance(d, Dim) and not isinstance(best, Dim)
            if larger or same or first:
                best = d
        out.append(best)
    return out


def reduced(x: Dims, axes: Sequence[int], keep: bool) -> list[Any]:
    gone = {axis_of(a, len(x)) for a in axes}
    return [1 if i in gone else d for i, d in enumerate(x) if keep or i not in gone]


def factors(d: int) -> tuple[int, Counter[Any]]:
    """d as a number times expressions."""

    def split(e: Any) -> tuple[int, Counter[Any]]:
        if isinstance(e, int):
            return e, Counter()
        if e[0] == "mul":
            (k, a), (m, b) = split(e[1]), split(e[2])
            return k * m, a + b
        return 1, Counter([e])

    return split(expr_of(d))


def value_of(expr: Any, known: Sequence[int]) -> int:
    for d in known:
        if isinstance(d, Dim) and d.expr == expr:
            return plain(d)
    raise Inexpressible("an extent of unknown value")


def product(dims: Dims) -> int:
    total: int = 1
    for d in dims:
        total = combine("mul", d, total)
    return total


def reshaped(x: Dims, shape: Sequence[int]) -> list[Any]:
    """The extents of a reshape: -1 is worked out where the expressions of the others cancel."""
    if not any(plain(d) == -1 for d in shape):
        return list(shape)
    others = [d for d in shape if plain(d) != -1]
    k, have = factors(product(x))
    m, used = factors(product(others))
    numbers = math.prod(map(plain, x)) // max(math.prod(map(plain, others)), 1)
    missing: Any = Opaque(numbers)
    left, extra = have - used, used - have
    if not extra and m and k % m == 0:
        if not left:
            missing = k // m
        else:
            atoms = [e for e, n in left.items() for _ in range(n)]
            total: int = k // m
            value = numbers // max(total, 1)
            if len(atoms) == 1:
                missing = combine("mul", Dim.make(value, atoms[0]), total)
            else:
                made: int = Dim.make(value, atoms[0])
                for atom in atoms[1:]:
                    made = Dim.make(value, ("mul", made.expr, atom))  # type: ignore[attr-defined]
                missing = combine("mul", made, total)
    return [missing if plain(d) == -1 else d for d in shape]


def conv2d(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x = v[0].dims
    if len(x) != 4:
        raise Inexpressible(f"a convolution of a value of {len(x)} axes; the file's take [N, C, H, W]")
    kernel = a.get("kernel") or list(w["weight"].shape[-4:])
    return [x[0], kernel[0], *windows(x, kernel[-2:], a)]


def position_conv2d(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x = v[0].dims
    if len(x) != 4 or len(v[1].dims) not in (4, 5):
        raise Inexpressible("kernels per position of a value that is no image [N, C, H, W]")
    return [*x[:2], *windows(x, a["window"], a)]


def conv_transpose2d(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x, weight = v[0].dims, w["weight"]
    if len(x) != 4:
        raise Inexpressible("a transposed convolution of a value without four axes")
    out = []
    for d, k, s, p, o, dil in zip(
        x[2:],
        weight.shape[2:],
        a.get("stride", [1, 1]),
        a.get("pad", [0, 0]),
        a.get("output_pad", [0, 0]),
        a.get("dilation", [1, 1]),
    ):
        out.append(d * s + (dil * (k - 1) + 1 + o - 2 * p - s))
    return [x[0], weight.shape[1] * a.get("groups", 1), *out]


def pool(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x = v[0].dims
    if len(x) != 4:
        raise Inexpressible(f"pooling of a value of {len(x)} axes; the file's take [N, C, H, W]")
    return [*x[:2], *windows(x, a["window"], a)]


def resize(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x = v[0].dims
    if len(x) != 4:
        raise Inexpressible(f"resizing a value of {len(x)} axes; the file's takes [N, C, H, W]")
    if "size" in a:
        return [*x[:2], *a["size"]]
    out: list[Any] = []
    for d, s in zip(x[2:], a["scale"]):
        n = math.floor(plain(d) * s)
        out.append(d * int(s) if float(s).is_integer() else Opaque(n) if isinstance(d, Dim) else n)
    return [*x[:2], *out]


def adaptive(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    if len(v[0].dims) != 4:
        raise Inexpressible(f"adaptive pooling of a value of {len(v[0].dims)} axes; the file's takes [N, C, H, W]")
    return [*v[0].dims[:2], *a["size"]]


def matmul(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x, y = v[0].dims, v[1].dims
    if len(x) < 2 or len(y) < 2:
        raise Inexpressible("a matrix product with a vector")
    batch = broadcast([x[:-2], y[:-2]]) if len(x) > 2 or len(y) > 2 else []
    return [*batch, x[-2], y[-1]]


def flatten(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    x = v[0].dims
    first, last = axis_of(a.get("first", 0), len(x)), axis_of(a.get("last", -1), len(x))
    return [*x[:first], product(x[first : last + 1]), *x[last + 1 :]]


def squeeze(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    return reduced(v[0].dims, a["axes"], False)


def unsqueeze(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    out, rank = list(v[0].dims), len(v[0].dims) + len(a["axes"])
    for axis in sorted(axis_of(i, rank) for i in a["axes"]):
        out.insert(axis, 1)
    return out


def concat(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    out = list(v[0].dims)
    axis = axis_of(a["axis"], len(out))
    for other in v[1:]:
        if len(other.dims) != len(out):
            raise Inexpressible("values of different ranks")
        for i, d in enumerate(other.dims):
            if i == axis:
                out[i] = out[i] + d
            elif isinstance(out[i], Dim) and not isinstance(d, Dim):
                out[i] = d
    return out


def sliced(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    out = list(v[0].dims)
    axis = axis_of(a["axis"], len(out))
    d = out[axis]

    def place(n: int) -> int:
        return combine("add", d, n) if plain(n) < 0 else n

    start, stop, step = place(a.get("start", 0)), d if "stop" not in a else place(a["stop"]), a.get("step", 1)
    out[axis] = combine("ceil_div", combine("sub", stop, start), step)
    return out


def shuffle(v: list[Value], w: dict[str, Tensor], a: dict[str, Any], up: bool) -> list[Any]:
    n, c, h, width = v[0].dims
    f = a["factor"]
    return [n, c // (f * f), h * f, width * f] if up else [n, c * f * f, h // f, width // f]


def padded(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    return [combine("add", combine("add", d, b), e) for d, b, e in zip(v[0].dims, a["before"], a["after"])]


def same(v: list[Value], w: dict[str, Tensor], a: dict[str, Any]) -> list[Any]:
    return list(v[0].dims)


RULES: dict[str, Callable[[list[Value], dict[str, Tensor], dict[str, Any]], list[Any]]] = {
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "position_conv2d": position_conv2d,
    "linear": lambda v, w, a: [*v[0].dims[:-1], w["weight"].shape[0]],
    "constant": lambda v, w, a: list(w["value"].shape),
    "reshape": lambda v, w, a: reshaped(v[0].dims, a["shape"]),
    "flatten": flatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "permute": lambda v, w, a: [v[0].dims[i] for i in a["axes"]],
    "expand": lambda v, w, a: list(a["shape"]),
    "concat": concat,
    "slice": sliced,
    "pixel_shuffle": lambda v, w, a: shuffle(v, w, a, True),
    "pixel_unshuffle": lambda v, w, a: shuffle(v, w, a, False),
    "pad": padded,
    "max_pool2d": pool,
    "avg_pool2d": pool,
    "adaptive_avg_pool2d": adaptive,
    "adaptive_max_pool2d": adaptive,
    "resize": resize,
    "matmul": matmul,
}
RULES |= {
    op: same
    for op in (
        "batch_norm",
        "layer_norm",
        "group_norm",
        "activation",
        "clamp",
        "pow",
        "abs",
        "neg",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "channel_shuffle",
        "dynamic_relu",
        "frequency_bands",
        "softmax",
        "log_softmax",
    )
}
RULES |= {
    op: lambda v, w, a: broadcast([x.dims for x in v]) for op in ("add", "sub", "mul", "div", "maximum", "minimum")
}
RULES |= {
    op: lambda v, w, a: reduced(v[0].dims, a["axes"], a.get("keep", False)) for op in ("mean", "sum", "max", "min")
}


def dims_of(op: str, inputs: list[Value], tensors: dict[str, Tensor], attributes: dict[str, Any]) -> list[Any]:
    if op not in RULES:
        raise Inexpressible(f"the file has no operation {op}")
    return RULES[op](inputs, tensors, attributes)
