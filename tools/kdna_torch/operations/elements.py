"""Activations and arithmetic, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..extents import Dim, Ratio, plain
from ..trace import HANDLERS, Tracer
from ..values import Inexpressible, Value
from .common import handles, number
from .shapes import chunk

ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "tanh": "tanh",
    "mish": "mish",
    "swish": "silu",
}


def activation(kind: str) -> Callable[..., Value]:
    def handle(t: Tracer, x: Tensor, inplace: bool = False) -> Value:
        return t.emit("activation", [x], kind=kind)

    return handle


HANDLERS.update({name: activation(kind) for name, kind in ACTIVATIONS.items()})


@handles("gelu")
def gelu(t: Tracer, x: Tensor, approximate: str = "none") -> Value:
    return t.emit("activation", [x], kind="gelu" if approximate == "none" else "gelu_tanh")


@handles("elu")
def elu(t: Tracer, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Value:
    return t.emit("activation", [x], kind="elu", **({} if alpha == 1 else {"a": float(alpha)}))


@handles("selu")
def selu(t: Tracer, x: Tensor, inplace: bool = False) -> Value:
    y = t.emit("activation", [x], kind="elu", a=1.6732632423543772848170429916717)
    return t.emit("mul", [y], scalar=1.0507009873554804934193349852946)


@handles("celu")
def celu(t: Tracer, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Value:
    if alpha == 1:
        return elu(t, x)
    y = t.emit("activation", [t.emit("div", [x], scalar=float(alpha))], kind="elu")
    return t.emit("mul", [y], scalar=float(alpha))


@handles("leaky_relu")
def leaky_relu(t: Tracer, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return t.emit(
        "activation", [x], kind="leaky_relu", **({} if negative_slope == 0.01 else {"a": float(negative_slope)})
    )


@handles("rrelu")
def rrelu(
    t: Tracer, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Value:
    if training:
        raise Inexpressible("is random; call eval() on the module")
    return leaky_relu(t, x, (lower + upper) / 2)


@handles("prelu")
def prelu(t: Tracer, x: Tensor, weight: Tensor) -> Value:
    return t.emit("activation", [x], {"a": t.constant(weight, "the slope")}, kind="prelu")


@handles("hardtanh")
def hardtanh(t: Tracer, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Value:
    if (min_val, max_val) == (0, 6):
        return t.emit("activation", [x], kind="relu6")
    return t.emit("clamp", [x], low=float(min_val), high=float(max_val))


@handles("clamp", "clip")
def clamp(t: Tracer, x: Tensor, min: Any = None, max: Any = None) -> Value:
    given = {"low": min, "high": max}
    limits = {}
    for key, limit in given.items():
        if limit is not None:
            found = scalar_of(t, limit, 0)
            if found is None:
                raise Inexpressible("a limit that is a tensor")
            limits[key] = float(found)
    return t.emit("clamp", [x], **limits)


@handles("clamp_min")
def clamp_min(t: Tracer, x: Tensor, min: Any) -> Value:
    return clamp(t, x, min=min)


@handles("clamp_max")
def clamp_max(t: Tracer, x: Tensor, max: Any) -> Value:
    return clamp(t, x, max=max)


@handles("softplus")
def softplus(t: Tracer, x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """max(x, 0) + log(1 + exp(-|x|)), which PyTorch replaces by x above the threshold: less than 3e-9 away."""
    if threshold < 20:
        raise Inexpressible(f"a threshold of {threshold}")
    z = t.emit("mul", [x], scalar=float(beta)) if beta != 1 else t.value(x)
    small = t.emit("exp", [t.emit("neg", [t.emit("abs", [z])])])
    tail = t.emit("log", [t.emit("add", [small], scalar=1.0)])
    y = t.emit("add", [t.emit("activation", [z], kind="relu"), tail])
    return t.emit("div", [y], scalar=float(beta)) if beta != 1 else y


@handles("logsigmoid", "log_sigmoid")
def log_sigmoid(t: Tracer, x: Tensor) -> Value:
    return t.emit("neg", [softplus(t, t.emit("neg", [x]))])


@handles("softsign")
def softsign(t: Tracer, x: Tensor) -> Value:
    return t.emit("div", [x, t.emit("add", [t.emit("abs", [x])], scalar=1.0)])


@handles("tanhshrink")
def tanhshrink(t: Tracer, x: Tensor) -> Value:
    return t.emit("sub", [x, t.emit("activation", [x], kind="tanh")])


@handles("glu")
def glu(t: Tracer, x: Tensor, dim: int = -1) -> Value:
    a, b = chunk(t, x, 2, dim)
    return t.emit("mul", [a, t.emit("activation", [b], kind="sigmoid")])


def scalar_of(t: Tracer, x: Any, rank: int) -> float | int | None:
    """A number, or a constant of one element that broadcasts without adding axes to ``rank``."""
    if isinstance(x, Tensor):
        if t.find(x) is None and x.numel() == 1 and x.ndim <= rank and x.dtype != torch.bool and not x.is_complex():
            return x.item()
        return None
    return number(x)


def extent_as_value(t: Tracer, n: Any) -> Any:
    """A number that follows from extents as a value of one element: as many ones as it says, added up."""
    if isinstance(n, Ratio):
        top, bottom = (extent_as_value(t, part) for part in (n.numerator, n.denominator))
        return binary("div")(t, top, bottom)
    if not isinstance(n, Dim) or plain(n) < 1:
        return n
    ones = t.emit("expand", [t.one], shape=[n])
    return t.emit("sum", [ones], axes=[0], keep=True)


def binary(op: str) -> Callable[..., Value]:
    def handle(t: Tracer, a: Any, b: Any, *, alpha: Any = 1, rounding_mode: Any = None) -> Value:
        if rounding_mode is not None:
            raise Inexpressible(f"rounding_mode {rounding_mode}")
        a, b = extent_as_value(t, a), extent_as_value(t, b)
        for x in (a, b):
            if isinstance(x, Tensor) and (x.dtype == torch.bool or x.is_complex()):
                raise Inexpressible(f"a tensor of {x.dtype}")
        if alpha != 1:
            scale = number(alpha)
            b = t.emit("mul", [b], scalar=scale) if isinstance(b, Tensor) and t.find(b) else b * alpha
        ranks = [len(t.value(x).dims) if isinstance(x, Value) or t.find(x) else None for x in (a, b)]
        if ranks == [None, None]:
            raise Inexpressible("two constants")
        if ranks[1] is None and (scalar := scalar_of(t, b, ranks[0] or 0)) is not None:
            return t.emit(op, [a], scalar=scalar)
        if ranks[0] is None and (scalar := scalar_of(t, a, ranks[1] or 0)) is not None:
            if op in ("add", "mul", "maximum", "minimum"):
                return t.emit(op, [b], scalar=scalar)
            return t.emit(op, [b], scalar=scalar, scalar_first=True)
        return t.emit(op, [a, b])

    return handle


for _op, _names in {
    "add": ("add", "__add__", "__radd__"),
    "sub": ("sub", "__sub__", "subtract"),
    "mul": ("mul", "__mul__", "__rmul__", "multiply"),
    "div": ("div", "__div__", "__truediv__", "true_divide", "divide"),
    "maximum": ("maximum", "fmax"),
    "minimum": ("minimum", "fmin"),
}.items():
    HANDLERS.update({name: binary(_op) for name in _names})


@handles("__rsub__", "rsub")
def rsub(t: Tracer, x: Any, other: Any, alpha: Any = 1) -> Value:
    if alpha != 1:
        raise Inexpressible("alpha")
    return binary("sub")(t, other, x)


@handles("__rdiv__", "__rtruediv__")
def rdiv(t: Tracer, x: Any, other: Any) -> Value:
    return binary("div")(t, other, x)


@handles("reciprocal")
def reciprocal(t: Tracer, x: Tensor) -> Value:
    return t.emit("div", [x], scalar=1.0, scalar_first=True)


@handles("pow", "__pow__", "float_power")
def power(t: Tracer, x: Any, exponent: Any) -> Value:
    if isinstance(exponent, Tensor):
        exponent = scalar_of(t, exponent, 0)
    if exponent is None or (isinstance(x, Tensor) and t.find(x) is None) or not isinstance(x, (Tensor, Value)):
        raise Inexpressible("an exponent that is a tensor")
    return t.emit("pow", [x], exponent=float(number(exponent)))


@handles("square")
def square(t: Tracer, x: Tensor) -> Value:
    return t.emit("mul", [x, x])


def unary(op: str) -> Callable[..., Value]:
    return lambda t, x: t.emit(op, [x])


for _name in ("abs", "neg", "exp", "log", "sqrt", "rsqrt"):
    HANDLERS[_name] = unary(_name)
HANDLERS |= {"negative": unary("neg"), "__neg__": unary("neg"), "absolute": unary("abs"), "__abs__": unary("abs")}


@handles("addcmul")
def addcmul(t: Tracer, x: Tensor, a: Tensor, b: Tensor, *, value: Any = 1) -> Value:
    y = binary("mul")(t, a, b)
    y = t.emit("mul", [y], scalar=number(value)) if value != 1 else y
    return binary("add")(t, x, y)


@handles("lerp")
def lerp(t: Tracer, x: Tensor, end: Tensor, weight: Any) -> Value:
    return binary("add")(t, x, binary("mul")(t, binary("sub")(t, end, x), weight))
