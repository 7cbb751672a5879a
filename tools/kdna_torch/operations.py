"""Which nodes of the file PyTorch's functions become.

A handler gets the call's arguments and gives the value, or a list of them, that the results stand for. It raises
``Inexpressible`` where the file has no node for the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .extents import Dim, Ratio, combine, lost, plain
from .shape_rules import axis_of, product, reshaped
from .trace import HANDLERS, GraphNode, Inexpressible, Opaque, Tracer, Value


def handles(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            HANDLERS[name] = function
        return function

    return add


def integer(n: Any) -> int:
    """A number that the file cannot make depend on extents."""
    if isinstance(n, Tensor):
        raise Inexpressible("a tensor where a number was expected")
    return lost(n) if isinstance(n, Dim) else int(n)


def number(n: Any) -> float | int | None:
    """A Python number, or the one element of a constant without axes; None for other tensors."""
    if isinstance(n, (bool, int, float)):
        return lost(n) if not isinstance(n, bool) else int(n)
    return None


def pair(n: Any, function: Callable[[Any], Any] = integer) -> list[Any]:
    items = list(n) if isinstance(n, (list, tuple)) else [n]
    if len(items) == 1:
        items *= 2
    if len(items) != 2:
        raise Inexpressible(f"{len(items)} numbers where two were expected")
    return [function(i) for i in items]


def listed(first: Any, rest: Sequence[Any]) -> list[Any]:
    """The numbers of view(2, 3) or view((2, 3))."""
    return [*first, *rest] if isinstance(first, (list, tuple)) else [first, *rest]


def axes_of(dim: Any, rank: int) -> list[int]:
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(rank))
    return [axis_of(integer(i), rank) for i in (dim if isinstance(dim, (list, tuple)) else [dim])]


def rank_of(t: Tracer, x: Any) -> int:
    return len(t.value(x).dims)


# --------------------------------------------------------------------------------------------------------- nothing


@handles("contiguous", "clone", "detach", "alias", "requires_grad", "cpu", "cuda", "positive", "data", "real",
         "__pos__", "resolve_conj", "resolve_neg", "lift_fresh", "detach_copy", "to", "type", "float", "double")
def identity(t: Tracer, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    if any(isinstance(a, torch.dtype) and not a.is_floating_point for a in (*args, *kwargs.values())):
        raise Inexpressible("a cast to integers")
    return t.value(x)


@handles("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def dropout(t: Tracer, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, train: Any = None) -> Value:
    if (training if train is None else train) and p > 0:
        raise Inexpressible("is active; call eval() on the module")
    return t.value(x)


# ---------------------------------------------------------------------------------------------------------- layers


def spatial_pads(padding: Any, weight: Tensor, dilation: list[int]) -> list[int]:
    if padding == "valid":
        return [0] * 4
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[-2:])]
        return [part for total in totals for part in (total // 2, total - total // 2)]
    h, w = pair(padding)
    return [h, h, w, w]


def split_child(t: Tracer, weight: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """A kernel that is a parameter times (1 + a) with an adapter over its taps, its filters, or both."""
    nothing = weight, None, None
    if weight.ndim != 4 or id(weight) not in t.products:
        return nothing
    parts, spatial, filters = [weight], None, None
    parents: list[Tensor] = []
    while parts:
        part = parts.pop()
        made = t.products.get(id(part)) if isinstance(part, Tensor) else None
        if made is not None and made[1] == "mul":
            parts += [made[2], made[3]]
            continue
        if made is not None and made[1] == "add":
            one, a = (made[2], made[3]) if isinstance(made[2], (int, float)) else (made[3], made[2])
            if isinstance(one, (int, float)) and one == 1 and isinstance(a, Tensor) and a.ndim == 4:
                if a.shape == (1, 1, *weight.shape[2:]) and a.numel() > 1 and spatial is None:
                    spatial = a.reshape(-1)
                    continue
                if a.shape == (weight.shape[0], 1, 1, 1) and filters is None:
                    filters = a.reshape(-1)
                    continue
        if not isinstance(part, Tensor) or part.shape != weight.shape:
            return nothing
        parents.append(part)
    return (parents[0], spatial, filters) if len(parents) == 1 else nothing


def producer(t: Tracer, value: Value, ops: Sequence[str], through: Sequence[str] = ()) -> GraphNode | None:
    node = t.made_by.get(value.name)
    while node is not None and node.op in through:
        node = t.made_by.get(node.inputs[0].name)
    return node if node is not None and node.op in ops else None


def is_fully_connected(node: GraphNode) -> bool:
    if node.op == "linear":
        return True
    weight = node.tensors.get("weight")
    return weight is not None and weight.shape[2:] == (1, 1) and set(node.attributes) <= {"method"} and (
        node.attributes.get("method", "dense") == "dense")


RESHAPES = ("reshape", "flatten", "squeeze", "unsqueeze")


def find_gate(t: Tracer, x: Value) -> tuple[Value, dict[str, Tensor], dict[str, Any]] | None:
    """x = y * gate(fc2 hidden(BN(fc1 mean(y)))): y, and the gate's tensors and attributes."""
    product_node = producer(t, x, ["mul"])
    if product_node is None or len(product_node.inputs) != 2:
        return None
    for y, g in (product_node.inputs, product_node.inputs[::-1]):
        gate = producer(t, g, ["activation"], RESHAPES)
        if gate is None or gate.attributes["kind"] not in ("sigmoid", "hard_sigmoid"):
            continue
        fc2 = producer(t, gate.inputs[0], ["conv2d", "linear"], RESHAPES)
        if fc2 is None or not is_fully_connected(fc2):
            continue
        hidden = producer(t, fc2.inputs[0], ["activation"], RESHAPES)
        if hidden is None or set(hidden.attributes) != {"kind"} or hidden.attributes["kind"] == "prelu":
            continue
        norm = producer(t, hidden.inputs[0], ["batch_norm"], RESHAPES)
        fc1 = producer(t, norm.inputs[0] if norm else hidden.inputs[0], ["conv2d", "linear"], RESHAPES)
        if fc1 is None or not is_fully_connected(fc1) or len(y.dims) != 4:
            continue
        mean = producer(t, fc1.inputs[0], ["mean", "adaptive_avg_pool2d"], RESHAPES)
        if mean is None or mean.inputs[0] is not y:
            continue
        if mean.op == "mean" and mean.attributes["axes"] != [2, 3] or mean.attributes.get("size", [1, 1]) != [1, 1]:
            continue
        w1, w2 = fc1.tensors["weight"], fc2.tensors["weight"]
        if w2.shape[0] != plain(y.dims[1]) or w1.shape[1] != plain(y.dims[1]):
            continue
        tensors = {"fc1": w1, "fc2": w2}
        if "bias" in fc1.tensors:
            tensors["fc1_bias"] = fc1.tensors["bias"]
        if "bias" in fc2.tensors:
            tensors["fc2_bias"] = fc2.tensors["bias"]
        attributes = {"hidden": hidden.attributes["kind"], "gate": gate.attributes["kind"]}
        if norm is not None:
            tensors |= {f"bn.{role}": tensor for role, tensor in norm.tensors.items()}
            attributes["bn_eps"] = norm.attributes["eps"]
        return y, tensors, attributes
    return None


@handles("conv2d")
def conv2d(t: Tracer, x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Value:
    weight, bias = t.constant(weight, "the kernel"), t.constant(bias, "the bias")
    dilation = pair(dilation)
    attributes = {"stride": pair(stride), "pad": spatial_pads(padding, weight, dilation), "dilation": dilation,
                  "groups": integer(groups)}
    value = t.value(x)
    before = producer(t, value, ["pad"])
    if before is not None and before.attributes["mode"] == "circular" and attributes["pad"] == [0] * 4:
        edges = [n for both in zip(before.attributes["before"], before.attributes["after"]) for n in both]
        if not any(plain(n) for n in edges[:4]) and not any(isinstance(n, Dim) for n in edges):
            value, attributes["pad"], attributes["pad_mode"] = before.inputs[0], edges[4:], "circular"
    parent, spatial, filters = split_child(t, weight)
    tensors: dict[str, Tensor | None] = {"weight": parent, "bias": bias}
    if spatial is not None or filters is not None:
        attributes["method"] = "kernel_dna"
        tensors |= {"spatial": spatial, "filter": filters}
        gate = find_gate(t, value)
        if gate is not None:
            value, more, settings = gate
            tensors |= more
            attributes |= settings
    attributes = {key: item for key, item in attributes.items() if item != CONV_DEFAULTS.get(key)}
    return t.emit("conv2d", [value], tensors, **attributes)


CONV_DEFAULTS = {"stride": [1, 1], "pad": [0] * 4, "dilation": [1, 1], "groups": 1, "bn_eps": 1e-5, "hidden": "relu",
                 "gate": "sigmoid"}


@handles("conv1d")
def conv1d(t: Tracer, x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Value:
    weight = t.constant(weight, "the kernel")

    def both(n: Any, first: int) -> Any:
        return n if isinstance(n, str) else (first, *(n if isinstance(n, (list, tuple)) else (n,)))

    if rank_of(t, x) != 3:
        raise Inexpressible("an input without a batch axis")
    image = t.emit("unsqueeze", [x], axes=[2])
    y = conv2d(t, image, weight[:, :, None], bias, both(stride, 1), both(padding, 0), both(dilation, 1), groups)
    return t.emit("squeeze", [y], axes=[2])


@handles("conv_transpose2d")
def conv_transpose2d(t: Tracer, x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Value:
    tensors = {"weight": t.constant(weight, "the kernel"), "bias": t.constant(bias, "the bias")}
    return t.emit("conv_transpose2d", [x], tensors, stride=pair(stride), pad=pair(padding),
                  output_pad=pair(output_padding), dilation=pair(dilation), groups=integer(groups))


@handles("linear")
def linear(t: Tracer, x: Tensor, weight: Tensor, bias: Any = None) -> Value:
    if rank_of(t, x) < 2:
        raise Inexpressible("an input without a batch axis")
    return t.emit("linear", [x], {"weight": t.constant(weight, "the weight"), "bias": t.constant(bias, "the bias")})


@handles("batch_norm")
def batch_norm(t: Tracer, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    # torch.batch_norm has weight, bias, mean, var; F.batch_norm mean, var, weight, bias
    names = ["running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"]
    if len(args) == 8:
        names = ["weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn"]
    given = dict(zip(names, args)) | kwargs
    if given.get("training", False) or given.get("running_mean") is None:
        raise Inexpressible("uses the statistics of the batch; call eval() on the module, and track running statistics")
    roles = {"weight": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    tensors = {role: t.constant(given.get(name), f"the {name}") for role, name in roles.items()}
    return t.emit("batch_norm", [x], tensors, eps=float(given.get("eps", 1e-5)))


@handles("layer_norm")
def layer_norm(t: Tracer, x: Tensor, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None,
               eps: float = 1e-5, cudnn_enable: bool = True) -> Value:
    tensors = {"weight": t.constant(weight, "the weight"), "bias": t.constant(bias, "the bias")}
    return t.emit("layer_norm", [x], tensors, axes=len(normalized_shape), eps=float(eps))


@handles("group_norm")
def group_norm(t: Tracer, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               cudnn_enabled: bool = True) -> Value:
    tensors = {"weight": t.constant(weight, "the weight"), "bias": t.constant(bias, "the bias")}
    return t.emit("group_norm", [x], tensors, groups=integer(num_groups), eps=float(eps))


@handles("instance_norm")
def instance_norm(t: Tracer, x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None,
                  bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
                  cudnn_enabled: bool = True) -> Value:
    if not use_input_stats:
        return batch_norm(t, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias, eps=eps)
    return group_norm(t, x, integer(t.value(x).dims[1]), weight, bias, eps)


@handles("rms_norm")
def rms_norm(t: Tracer, x: Tensor, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Value:
    if eps is None:
        raise Inexpressible("its eps depends on the precision; give a number")
    axes = list(range(rank_of(t, x) - len(normalized_shape), rank_of(t, x)))
    mean = t.emit("mean", [t.emit("mul", [x, x])], axes=axes, keep=True)
    y = t.emit("mul", [x, t.emit("rsqrt", [t.emit("add", [mean], scalar=float(eps))])])
    return y if weight is None else t.emit("mul", [y, weight])


# ----------------------------------------------------------------------------------------------- element by element

ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "sigmoid": "sigmoid", "silu": "silu", "hardsigmoid": "hard_sigmoid",
               "hardswish": "hard_swish", "tanh": "tanh", "mish": "mish", "swish": "silu"}


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
    return t.emit("activation", [x], kind="leaky_relu", **({} if negative_slope == 0.01 else {"a": float(negative_slope)}))


@handles("rrelu")
def rrelu(t: Tracer, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          inplace: bool = False) -> Value:
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


# ------------------------------------------------------------------------------------------------------------ shapes


@handles("view", "reshape")
def reshape(t: Tracer, x: Tensor, *sizes: Any, shape: Any = None, size: Any = None) -> Value:
    given = shape if shape is not None else size
    if sizes and isinstance(sizes[0], torch.dtype):
        raise Inexpressible("another dtype over the same memory")
    wanted = list(given) if given is not None else listed(sizes[0], sizes[1:])
    if any(isinstance(n, Tensor) for n in wanted):
        raise Inexpressible("an extent that is a tensor")
    value = t.value(x)
    if len(wanted) == len(value.dims) and all(
        plain(n) == plain(d) and isinstance(n, Dim) == isinstance(d, Dim) for n, d in zip(wanted, value.dims)
    ):
        return value
    if len(wanted) > 5:
        return Value(t.unique("wide"), tuple(known_extents(reshaped(value.dims, wanted))), "", value.base or value)
    return t.emit("reshape", [value.base or value], shape=wanted)


def known_extents(dims: Sequence[Any]) -> Sequence[int]:
    if any(isinstance(d, Opaque) for d in dims):
        raise Inexpressible("more than five axes, one of them of an extent without expression")
    return dims


@handles("view_as", "reshape_as")
def view_as(t: Tracer, x: Tensor, other: Tensor) -> Value:
    return reshape(t, x, list(t.extents(other)))


@handles("flatten", "ravel")
def flatten(t: Tracer, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Value:
    rank = rank_of(t, x)
    first, last = axis_of(start_dim, rank), axis_of(end_dim, rank)
    if first == last:
        return t.value(x)
    if t.value(x).base is not None:
        dims = t.value(x).dims
        return reshape(t, x, [*dims[:first], product(dims[first : last + 1]), *dims[last + 1 :]])
    return t.emit("flatten", [x], **({"first": first} if first else {}), **({"last": last} if last != rank - 1 else {}))


@handles("unflatten")
def unflatten(t: Tracer, x: Tensor, dim: int, sizes: Sequence[int]) -> Value:
    dims, axis = t.value(x).dims, axis_of(dim, rank_of(t, x))
    sizes = list(sizes)
    known = product([n for n in sizes if plain(n) != -1])
    sizes = [dims[axis] // known if plain(n) == -1 else n for n in sizes]
    return reshape(t, x, [*dims[:axis], *sizes, *dims[axis + 1 :]])


@handles("squeeze")
def squeeze(t: Tracer, x: Tensor, dim: Any = None) -> Value:
    dims = t.value(x).dims
    axes = axes_of(dim, len(dims))
    for i in axes:
        if isinstance(dims[i], Dim):  # the other size tells whether it is always, or never, one
            lost(dims[i])
    axes = [i for i in axes if plain(dims[i]) == 1]
    return t.emit("squeeze", [x], axes=axes) if axes else t.value(x)


@handles("unsqueeze")
def unsqueeze(t: Tracer, x: Tensor, dim: int) -> Value:
    return t.emit("unsqueeze", [x], axes=[axis_of(dim, rank_of(t, x) + 1)])


def permuted(t: Tracer, x: Any, axes: Sequence[int]) -> Value:
    if list(axes) == list(range(len(axes))):
        return t.value(x)
    if t.value(x).base is not None:
        return permuted_wide(t, t.value(x), list(axes))
    return t.emit("permute", [x], axes=list(axes))


def permuted_wide(t: Tracer, x: Value, axes: list[int]) -> Value:
    """Permutes more than five axes, those that stay together as one."""
    runs = [[axes[0]]]
    for axis in axes[1:]:
        if axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) > 5 or x.base is None:
        raise Inexpressible(f"permutes {len(runs)} axes; the file has one to five")
    order = sorted(range(len(runs)), key=lambda i: runs[i][0])
    merged = t.emit("reshape", [x.base], shape=[product([x.dims[a] for a in runs[i]]) for i in order])
    moved = t.emit("permute", [merged], axes=[order.index(i) for i in range(len(runs))])
    return Value(t.unique("wide"), tuple(x.dims[a] for a in axes), "", moved)


@handles("permute")
def permute(t: Tracer, x: Tensor, *axes: Any, dims: Any = None) -> Value:
    wanted = list(dims) if dims is not None else listed(axes[0], axes[1:])
    return permuted(t, x, axes_of(wanted, rank_of(t, x)))


@handles("transpose", "swapaxes", "swapdims")
def transpose(t: Tracer, x: Tensor, dim0: int, dim1: int) -> Value:
    rank = rank_of(t, x)
    axes = list(range(rank))
    a, b = axis_of(dim0, rank), axis_of(dim1, rank)
    axes[a], axes[b] = axes[b], axes[a]
    return permuted(t, x, axes)


@handles("t", "T", "mT", "H", "mH", "adjoint")
def transposed(t: Tracer, x: Tensor) -> Value:
    rank = rank_of(t, x)
    return transpose(t, x, -2, -1) if rank >= 2 else t.value(x)


@handles("movedim", "moveaxis")
def movedim(t: Tracer, x: Tensor, source: Any, destination: Any) -> Value:
    rank = rank_of(t, x)
    moved = dict(zip(axes_of(destination, rank), axes_of(source, rank)))
    rest = iter(i for i in range(rank) if i not in moved.values())
    return permuted(t, x, [moved[i] if i in moved else next(rest) for i in range(rank)])


@handles("expand", "broadcast_to")
def expand(t: Tracer, x: Tensor, *sizes: Any, size: Any = None) -> Value:
    wanted = list(size) if size is not None else listed(sizes[0], sizes[1:])
    dims = t.value(x).dims
    lead = len(wanted) - len(dims)
    wanted = [dims[i - lead] if plain(n) == -1 else n for i, n in enumerate(wanted)]
    return t.emit("expand", [x], shape=wanted)


@handles("expand_as")
def expand_as(t: Tracer, x: Tensor, other: Tensor) -> Value:
    return expand(t, x, list(t.extents(other)))


def concat(t: Tracer, values: Sequence[Any], axis: int) -> Value:
    return t.emit("concat", values, axis=axis) if len(values) != 1 else t.value(values[0])


@handles("cat", "concat", "concatenate")
def cat(t: Tracer, tensors: Any, dim: int = 0, axis: Any = None) -> Value:
    tensors = [x for x in tensors if t.find(x) is not None or x.numel() or x.ndim != 1]
    return concat(t, tensors, axis_of(dim if axis is None else axis, rank_of(t, tensors[0])))


@handles("stack")
def stack(t: Tracer, tensors: Any, dim: int = 0) -> Value:
    axis = axis_of(dim, rank_of(t, tensors[0]) + 1)
    return concat(t, [t.emit("unsqueeze", [x], axes=[axis]) for x in tensors], axis)


def cut(t: Tracer, x: Any, axis: int, start: int, stop: int | None, step: int = 1) -> Value:
    """x[start:stop:step] along an axis, 0 <= start."""
    value = t.value(x)
    d = value.dims[axis]
    attributes: dict[str, Any] = {}
    if isinstance(start, Dim) or start != 0:
        attributes["start"] = start
    if stop is not None:
        if isinstance(stop, Dim) and not (isinstance(d, Dim) and d.expr == stop.expr):
            attributes["stop"] = stop if plain(stop) <= plain(d) else combine("min", stop, d)
        elif not isinstance(stop, Dim) and stop < plain(d):
            attributes["stop"] = stop
        elif not isinstance(stop, Dim) and isinstance(d, Dim):
            lost(d)  # whether the slice ends before the axis does is for another size to tell
    if step != 1:
        attributes["step"] = step
    return t.emit("slice", [value], axis=axis, **attributes) if attributes else value


@handles("narrow")
def narrow(t: Tracer, x: Tensor, dim: int, start: Any, length: int) -> Value:
    axis = axis_of(dim, rank_of(t, x))
    if isinstance(start, Tensor):
        raise Inexpressible("a start that is a tensor")
    start = combine("add", t.value(x).dims[axis], start) if plain(start) < 0 else start
    return cut(t, x, axis, start, combine("add", start, length))


@handles("select")
def select(t: Tracer, x: Tensor, dim: int, index: int) -> Value:
    axis = axis_of(dim, rank_of(t, x))
    index = combine("add", t.value(x).dims[axis], index) if plain(index) < 0 else index
    return t.emit("squeeze", [cut(t, x, axis, index, combine("add", index, 1))], axes=[axis])


@handles("split", "split_with_sizes")
def split(t: Tracer, x: Tensor, split_size_or_sections: Any = None, dim: int = 0, split_size: Any = None,
          split_sizes: Any = None) -> list[Value]:
    given = next(n for n in (split_size_or_sections, split_size, split_sizes) if n is not None)
    axis = axis_of(dim, rank_of(t, x))
    total = t.value(x).dims[axis]
    if isinstance(given, (list, tuple)):
        ends, end = [], 0
        for n in given:
            end = combine("add", end, n)
            ends.append(end)
    else:
        count = -(-plain(total) // plain(given))
        if isinstance(total, Dim):
            lost(total)
        ends = [combine("mul", given, i + 1) for i in range(count)]
    starts = [0, *ends[:-1]]
    return [cut(t, x, axis, a, None if i + 1 == len(ends) else b) for i, (a, b) in enumerate(zip(starts, ends))]


@handles("chunk")
def chunk(t: Tracer, x: Any, chunks: int, dim: int = 0) -> list[Value]:
    value = t.value(x)
    axis = axis_of(dim, len(value.dims))
    return split(t, value, combine("ceil_div", value.dims[axis], integer(chunks)), axis)


@handles("tensor_split")
def tensor_split(t: Tracer, x: Tensor, indices_or_sections: Any, dim: int = 0) -> list[Value]:
    axis = axis_of(dim, rank_of(t, x))
    total = t.value(x).dims[axis]
    if isinstance(indices_or_sections, int):
        n, total = indices_or_sections, integer(total)
        indices = [i * (total // n) + min(i, total % n) for i in range(1, n)]
    else:
        indices = list(indices_or_sections)
    return [cut(t, x, axis, a, b) for a, b in zip([0, *indices], [*indices, None])]


@handles("unbind")
def unbind(t: Tracer, x: Tensor, dim: int = 0) -> list[Value]:
    axis = axis_of(dim, rank_of(t, x))
    return [select(t, x, axis, i) for i in range(integer(t.value(x).dims[axis]))]


def gather_axis(t: Tracer, value: Value, axis: int, indices: list[int]) -> Value:
    """Chosen places of an axis, as slices that are concatenated."""
    total = integer(value.dims[axis])
    indices = [i + total if i < 0 else i for i in indices]
    parts, at = [], 0
    while at < len(indices):
        step = max(indices[at + 1] - indices[at], 1) if at + 1 < len(indices) else 1
        end = at + 1
        while end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        parts.append(cut(t, value, axis, indices[at], indices[end - 1] + 1, step if end - at > 1 else 1))
        at = end
    if len(parts) > 256 or not parts:
        raise Inexpressible(f"an index of {len(parts)} separate parts")
    return concat(t, parts, axis)


@handles("index_select")
def index_select(t: Tracer, x: Tensor, dim: int, index: Tensor) -> Value:
    if t.find(index) is not None:
        raise Inexpressible("an index that depends on the input")
    return gather_axis(t, t.value(x), axis_of(dim, rank_of(t, x)), index.tolist())


@handles("__getitem__")
def getitem(t: Tracer, x: Tensor, index: Any) -> Value:
    items = list(index) if isinstance(index, tuple) else [index]
    value = t.value(x)
    taken = sum(i is not None and i is not Ellipsis for i in items)
    if any(i is Ellipsis for i in items):
        at = next(n for n, i in enumerate(items) if i is Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(value.dims) - taken)
    axis, gone, added, gathered = 0, [], [], 0
    position = 0  # among the axes of the result, counting those that are to go
    for item in items:
        if item is None:
            added.append(position)
            position += 1
            continue
        d = value.dims[axis]
        if isinstance(item, bool) or isinstance(item, Tensor) and (t.find(item) is not None or item.dtype == torch.bool):
            raise Inexpressible("an index that is a mask or depends on the input")
        if isinstance(item, Tensor) and item.ndim == 0:
            item = int(item)
        if isinstance(item, (Tensor, list, range)):
            indices = item.tolist() if isinstance(item, Tensor) else list(item)
            if gathered or not all(isinstance(i, int) for i in indices):
                raise Inexpressible("indices on several axes, or of several axes")
            gathered = 1
            value = gather_axis(t, value, axis, [integer(i) for i in indices])
        elif isinstance(item, slice):
            start, stop, step = item.start, item.stop, integer(1 if item.step is None else item.step)
            if step < 1:
                raise Inexpressible("a step below one")
            start = 0 if start is None else start
            value = cut(t, value, axis, clipped(d, start), None if stop is None else clipped(d, stop), step)
        else:
            place = combine("add", d, item) if plain(item) < 0 else item
            value = cut(t, value, axis, place, combine("add", place, 1))
            gone.append(axis)
        axis += 1
        position += 1
    if gathered and gone:
        raise Inexpressible("an index that mixes numbers and lists")
    if added:
        before_adding = [p - sum(a < p for a in added) for p in added]
        shift = [b - sum(g < b for g in gone) for b in before_adding]
        places = [s + i for i, s in enumerate(shift)]
    if gone:
        value = t.emit("squeeze", [value], axes=gone)
    return t.emit("unsqueeze", [value], axes=places) if added else value


def clipped(d: int, n: int) -> int:
    """A bound of a slice, counted from the start."""
    if plain(n) < 0:
        if -plain(n) > plain(d):
            lost(d)
            return 0
        return combine("add", d, n)
    return n


@handles("repeat", "tile")
def repeat(t: Tracer, x: Tensor, *sizes: Any, repeats: Any = None, dims: Any = None) -> Value:
    given = repeats if repeats is not None else dims
    counts = list(given) if given is not None else listed(sizes[0], sizes[1:])
    value = t.value(x)
    lead = len(counts) - len(value.dims)
    if lead < 0:
        counts, lead = [1] * -lead + counts, 0
    if lead:
        value = t.emit("unsqueeze", [value], axes=list(range(lead)))
    if all(plain(n) == 1 or not isinstance(d, Dim) and d == 1 for n, d in zip(counts, value.dims)):
        shape = [n if not isinstance(d, Dim) and d == 1 else d for n, d in zip(counts, value.dims)]
        if all(plain(n) == 1 and not isinstance(n, Dim) for n in counts):
            return value
        return t.emit("expand", [value], shape=shape)
    for axis, n in enumerate(counts):
        n = integer(n)
        if not 1 <= n <= 64:
            raise Inexpressible(f"{n} repetitions")
        value = concat(t, [value] * n, axis)
    return value


@handles("repeat_interleave")
def repeat_interleave(t: Tracer, x: Tensor, repeats: Any, dim: Any = None, output_size: Any = None) -> Value:
    if isinstance(repeats, Tensor) or dim is None:
        raise Inexpressible("repetitions that are a tensor, or no axis")
    value = t.value(x)
    axis = axis_of(dim, len(value.dims))
    wide = t.emit("unsqueeze", [value], axes=[axis + 1])
    wide = t.emit("expand", [wide], shape=[*value.dims[: axis + 1], repeats, *value.dims[axis + 1 :]])
    return t.emit("flatten", [wide], first=axis, last=axis + 1)


@handles("roll")
def roll(t: Tracer, x: Tensor, shifts: Any, dims: Any = None) -> Value:
    if dims is None:
        raise Inexpressible("no axis")
    value = t.value(x)
    for shift, dim in zip(*(list(n) if isinstance(n, (list, tuple)) else [n] for n in (shifts, dims))):
        axis = axis_of(dim, len(value.dims))
        d = value.dims[axis]
        if plain(shift) == 0:
            continue
        if abs(plain(shift)) >= plain(d):
            raise Inexpressible("a shift longer than its axis")
        at = combine("sub", d, shift) if plain(shift) > 0 else -shift
        value = concat(t, [cut(t, value, axis, at, None), cut(t, value, axis, 0, at)], axis)
    return value


@handles("pixel_shuffle")
def pixel_shuffle(t: Tracer, x: Tensor, upscale_factor: int) -> Value:
    return t.emit("pixel_shuffle", [x], factor=integer(upscale_factor))


@handles("pixel_unshuffle")
def pixel_unshuffle(t: Tracer, x: Tensor, downscale_factor: int) -> Value:
    return t.emit("pixel_unshuffle", [x], factor=integer(downscale_factor))


@handles("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Tracer, x: Tensor, groups: int) -> Value:
    return t.emit("channel_shuffle", [x], groups=integer(groups))


@handles("pad", "constant_pad_nd")
def pad(t: Tracer, x: Tensor, pad: Any, mode: Any = "constant", value: Any = None) -> Value:
    if not isinstance(mode, str):
        mode, value = "constant", mode
    current, pads = t.value(x), list(pad)
    rank = len(current.dims)
    before, after = [0] * rank, [0] * rank
    for i in range(len(pads) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    if any(plain(n) < 0 for n in pads):
        if mode != "constant":
            raise Inexpressible("a negative width of a border")
        for axis in range(rank):
            start = -before[axis] if plain(before[axis]) < 0 else 0
            d = current.dims[axis]
            stop = combine("add", d, after[axis]) if plain(after[axis]) < 0 else None
            current = cut(t, current, axis, start, stop)
            before[axis] = before[axis] if plain(before[axis]) > 0 else 0
            after[axis] = after[axis] if plain(after[axis]) > 0 else 0
    if not any(isinstance(n, Dim) or n for n in (*before, *after)):
        return current
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise Inexpressible(f"mode {mode}")
    fill = 0.0 if value is None else float(number(value) or 0)
    return t.emit("pad", [current], before=before, after=after, mode=mode, **({"value": fill} if fill else {}))


# ------------------------------------------------------------------------------------------------ windows, reductions


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
def max_pool2d(t: Tracer, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Value:
    if return_indices:
        raise Inexpressible("the indices of the largest elements")
    if whole_map(t, x, kernel_size, padding):
        return t.emit("adaptive_max_pool2d", [x], size=[1, 1])
    stride = kernel_size if stride is None or stride == [] else stride
    return t.emit("max_pool2d", [x], window=pair(kernel_size), stride=pair(stride), pad=pooling_pads(padding),
                  dilation=pair(dilation), ceil_mode=bool(ceil_mode))


@handles("avg_pool2d")
def avg_pool2d(t: Tracer, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: Any = None) -> Value:
    if whole_map(t, x, kernel_size, padding) and divisor_override is None:
        return t.emit("adaptive_avg_pool2d", [x], size=[1, 1])
    stride = kernel_size if stride is None or stride == [] else stride
    extra = {} if divisor_override is None else {"divisor": integer(divisor_override)}
    return t.emit("avg_pool2d", [x], window=pair(kernel_size), stride=pair(stride), pad=pooling_pads(padding),
                  ceil_mode=bool(ceil_mode), count_include_pad=bool(count_include_pad), **extra)


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


@handles("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def interpolate(t: Tracer, x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: Any = None, recompute_scale_factor: Any = None, antialias: bool = False) -> Value:
    dims = t.value(x).dims
    if antialias:
        raise Inexpressible("antialias")
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
    if mode not in ("nearest", "bilinear"):
        raise Inexpressible(f"mode {mode}")
    extra = {"align_corners": True} if align_corners else {}
    if size is not None:
        return t.emit("resize", [x], mode=mode, size=size, **extra)
    return t.emit("resize", [x], mode=mode, scale=pair(scale_factor, float), **extra)


def reduction(op: str) -> Callable[..., Value]:
    def handle(t: Tracer, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None, axis: Any = None,
               keepdims: Any = None) -> Value:
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
    def handle(t: Tracer, x: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False,
               correction: Any = None) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        var, mean = moments(t, x, dim, int(unbiased) if correction is None else correction, keepdim)
        if "std" in kind:
            var = t.emit("sqrt", [var])
        return [var, mean] if "mean" in kind else var

    return handle


HANDLERS.update({kind: statistics(kind) for kind in ("var", "std", "var_mean", "std_mean")})


@handles("norm", "vector_norm", "linalg_vector_norm", "linalg_norm")
def norm(t: Tracer, x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None, ord: Any = None) -> Value:
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
        alone = [n for n, c in enumerate(term) if c not in out and all(c not in other for other in terms[:i] + terms[i + 1 :])]
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


@handles("scaled_dot_product_attention")
def attention(t: Tracer, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: Any = None, enable_gqa: bool = False) -> Value:
    if dropout_p or is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise Inexpressible("attention with dropout, a mask of truth values or groups of queries")
    factor = float(scale) if scale is not None else 1 / math.sqrt(integer(t.value(query).dims[-1]))
    logits = t.emit("mul", [t.emit("matmul", [query, transpose(t, key, -2, -1)])], scalar=factor)
    if attn_mask is not None:
        logits = t.emit("add", [logits, attn_mask])
    return t.emit("matmul", [softmax(t, logits, -1), value])
