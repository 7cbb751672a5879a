"""Convolutions, linear layers, normalisations, and calls that do nothing in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..extents import Dim, plain
from ..trace import Tracer
from ..values import GraphNode, Inexpressible, Value
from .common import handles, integer, pair, rank_of


@handles(
    "contiguous",
    "clone",
    "detach",
    "alias",
    "requires_grad",
    "cpu",
    "cuda",
    "positive",
    "data",
    "real",
    "__pos__",
    "resolve_conj",
    "resolve_neg",
    "lift_fresh",
    "detach_copy",
    "to",
    "type",
    "float",
    "double",
)
def identity(t: Tracer, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    if any(isinstance(a, torch.dtype) and not a.is_floating_point for a in (*args, *kwargs.values())):
        raise Inexpressible("a cast to integers")
    return t.value(x)


@handles("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def dropout(
    t: Tracer, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, train: Any = None
) -> Value:
    if (training if train is None else train) and p > 0:
        raise Inexpressible("is active; call eval() on the module")
    return t.value(x)


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
    return (
        weight is not None
        and weight.shape[2:] == (1, 1)
        and set(node.attributes) <= {"method"}
        and (node.attributes.get("method", "dense") == "dense")
    )


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
def conv2d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    weight, bias = t.constant(weight, "the kernel"), t.constant(bias, "the bias")
    dilation = pair(dilation)
    attributes = {
        "stride": pair(stride),
        "pad": spatial_pads(padding, weight, dilation),
        "dilation": dilation,
        "groups": integer(groups),
    }
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


CONV_DEFAULTS = {
    "stride": [1, 1],
    "pad": [0] * 4,
    "dilation": [1, 1],
    "groups": 1,
    "bn_eps": 1e-5,
    "hidden": "relu",
    "gate": "sigmoid",
}


@handles("conv1d")
def conv1d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    weight = t.constant(weight, "the kernel")[:, :, None]
    image = as_image(t, x)
    y = conv2d(t, image, weight, bias, of_row(stride, 1), of_row(padding, 0), of_row(dilation, 1), groups)
    return t.emit("squeeze", [y], axes=[2])


def as_image(t: Tracer, x: Tensor) -> Value:
    """A series [N, C, L] as an image of one row."""
    if rank_of(t, x) != 3:
        raise Inexpressible("an input without a batch axis")
    return t.emit("unsqueeze", [x], axes=[2])


def of_row(setting: Any, across: int) -> Any:
    """The setting of a series' layer for both axes of an image of one row; ``across`` is that of the new one."""
    along = setting if isinstance(setting, (list, tuple)) else (setting,)
    return setting if isinstance(setting, str) else (across, *along)


@handles("conv_transpose2d")
def conv_transpose2d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    tensors = {"weight": t.constant(weight, "the kernel"), "bias": t.constant(bias, "the bias")}
    return t.emit(
        "conv_transpose2d",
        [x],
        tensors,
        stride=pair(stride),
        pad=pair(padding),
        output_pad=pair(output_padding),
        dilation=pair(dilation),
        groups=integer(groups),
    )


@handles("conv_transpose1d")
def conv_transpose1d(
    t: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    weight = t.constant(weight, "the kernel")[:, :, None]
    image, settings = as_image(t, x), (of_row(n, across) for n, across in ((stride, 1), (padding, 0), (output_padding, 0)))
    y = conv_transpose2d(t, image, weight, bias, *settings, groups, of_row(dilation, 1))
    return t.emit("squeeze", [y], axes=[2])


@handles("unfold", "im2col")
def unfold(
    t: Tracer, x: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Value:
    """Every window's elements as channels: a convolution that picks them."""
    if rank_of(t, x) != 4:
        raise Inexpressible("an input without a batch axis")
    channels, (h, w) = integer(t.value(x).dims[1]), pair(kernel_size)
    pick = torch.eye(h * w, dtype=torch.float64).view(h * w, 1, h, w).repeat(channels, 1, 1, 1)
    windows = conv2d(t, x, pick, None, stride, padding, dilation, channels)
    return t.emit("flatten", [windows], first=2, last=3)


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
def layer_norm(
    t: Tracer,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    tensors = {"weight": t.constant(weight, "the weight"), "bias": t.constant(bias, "the bias")}
    return t.emit("layer_norm", [x], tensors, axes=len(normalized_shape), eps=float(eps))


@handles("group_norm")
def group_norm(
    t: Tracer,
    x: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    tensors = {"weight": t.constant(weight, "the weight"), "bias": t.constant(bias, "the bias")}
    return t.emit("group_norm", [x], tensors, groups=integer(num_groups), eps=float(eps))


@handles("instance_norm")
def instance_norm(
    t: Tracer,
    x: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    if not use_input_stats:
        return batch_norm(t, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias, eps=eps)
    return group_norm(t, x, integer(t.value(x).dims[1]), weight, bias, eps)


@handles("rms_norm")
def rms_norm(
    t: Tracer, x: Tensor, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Value:
    if eps is None:
        raise Inexpressible("its eps depends on the precision; give a number")
    axes = list(range(rank_of(t, x) - len(normalized_shape), rank_of(t, x)))
    mean = t.emit("mean", [t.emit("mul", [x, x])], axes=axes, keep=True)
    y = t.emit("mul", [x, t.emit("rsqrt", [t.emit("add", [mean], scalar=float(eps))])])
    return y if weight is None else t.emit("mul", [y, weight])
