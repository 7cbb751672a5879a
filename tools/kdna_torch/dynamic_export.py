"""Dynamic layers as single nodes, found by their class names: those of this package and of the methods' public code.

Every function looks at the layer's tensors and attributes and returns the node; the tracer then compares what the node
computes with what the layer's ``forward`` did, so that a layer of the same name with another formula is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .extents import combine
from .fdconv import disjoint_kernels
from .operations import integer, pair
from .trace import LAYERS, Node, Tracer
from .values import Inexpressible

Describe = Callable[..., Any]


def layer(*names: str) -> Callable[[Describe], Describe]:
    def add(function: Describe) -> Describe:
        for name in names:
            LAYERS[name] = function
        return function

    return add


def register(name: str, function: Callable[..., Any]) -> None:
    """Exports every module of a class of that name as what ``function(module, *inputs)`` returns.

    ``function`` returns a ``Node``, a list of them where the module has several outputs, or None to have the module traced
    like any other. A Node's inputs are the tensors that the module was called with, or other Nodes; its tensors are the
    module's parameters and buffers, or tensors computed from them. ``export`` compares the nodes with ``forward``::

        class Scaled(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
                self.gain = nn.Parameter(torch.ones(channels))

            def forward(self, x):
                return my_extension.scaled_convolution(x, self.conv.weight, self.gain)

        def scaled(module, x):
            kernel = module.conv.weight * module.gain[:, None, None, None]
            return Node("conv2d", [x], {"weight": kernel}, pad=[1, 1, 1, 1])

        kdna_torch.register("Scaled", scaled)
    """
    LAYERS[name] = lambda tracer, module, *args, **kwargs: function(module, *args, **kwargs)


def geometry(module: Any) -> dict[str, Any]:
    """stride, pad, dilation and groups of a layer's attributes, those that are not the defaults."""
    h, w = pair(module.padding)
    found = {
        "stride": pair(module.stride),
        "pad": [h, h, w, w],
        "dilation": pair(getattr(module, "dilation", 1)),
        "groups": getattr(module, "groups", 1),
    }
    return {key: value for key, value in found.items() if value != NEUTRAL[key]}


NEUTRAL = {"stride": [1, 1], "pad": [0] * 4, "dilation": [1, 1], "groups": 1}


def keys(module: nn.Module, *names: str) -> dict[str, Tensor]:
    """Those entries of a state_dict that are there, without counters of batches."""
    state = module.state_dict(keep_vars=True)
    chosen = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if any(key == name or key.startswith(f"{name}.") for name in names):
            chosen[key] = tensor
    return chosen


def standard_eps(tensors: dict[str, Tensor], prefix: str, norm: Any) -> None:
    """Dynamic methods' batch norms have an eps of 1e-5 in the file: another one goes into the weight."""
    var = tensors.get(f"{prefix}.running_var")
    if var is None:
        raise Inexpressible(f"{prefix} does not track running statistics")
    if norm.eps != 1e-5:
        scale = torch.sqrt((var.double() + 1e-5) / (var.double() + norm.eps))
        weight = tensors.get(f"{prefix}.weight")
        tensors[f"{prefix}.weight"] = scale if weight is None else weight.double() * scale


def temperature(tracer: Tracer, module: Any, tensors: dict[str, Tensor], heads: list[str]) -> None:
    """Divides the heads by the temperature of sigmoid or softmax, which the file takes to be 1."""
    t = next(
        (float(m.temperature) for m in (getattr(module, "attention", None), module) if hasattr(m, "temperature")), 1.0
    )
    if t == 1.0:
        return
    if t <= 0 or not math.isfinite(t):
        raise Inexpressible(f"a temperature of {t}")
    tracer.notes.append(
        f"{tracer.where()}: attention at temperature {t:g}, as the module has it; trained networks use 1"
    )
    for head in heads:
        for key in (f"{head}.weight", f"{head}.bias"):
            if key in tensors:
                tensors[key] = tensors[key].double() / t


@layer("ODConv2d")
def odconv(tracer: Tracer, module: Any, x: Tensor) -> Node:
    attention = module.attention
    names = [
        n
        for n in ("channel_fc", "filter_fc", "spatial_fc", "kernel_fc")
        if isinstance(getattr(attention, n, None), nn.Module)
    ]
    tensors = keys(module, "weight", "bias", "attention.fc", "attention.bn", *(f"attention.{n}" for n in names))
    temperature(tracer, module, tensors, [f"attention.{n}" for n in names])
    n, o, cg, kh, kw = module.weight.shape
    groups = getattr(module, "groups", 1)
    if normalises(tracer, module, x):
        standard_eps(tensors, "attention.bn", attention.bn)
    else:  # a batch norm that does nothing
        hidden = attention.fc.weight.shape[0]
        ones = torch.ones(hidden, dtype=torch.float64)
        tensors |= {
            "attention.bn.weight": ones * math.sqrt(1 + 1e-5),
            "attention.bn.bias": ones * 0,
            "attention.bn.running_mean": ones * 0,
            "attention.bn.running_var": ones,
        }
    wanted = {
        "channel_fc",
        *(["filter_fc"] if not (groups == cg * groups == o) else []),
        *(["spatial_fc"] if kh * kw > 1 else []),
        *(["kernel_fc"] if n > 1 else []),
    }
    if set(names) != wanted:
        raise Inexpressible(f"an ODConv with the attentions {sorted(names)}; the file's has {sorted(wanted)}")
    bias = {"bias": True} if "bias" in tensors else {}
    return Node("conv2d", [x], tensors, method="odconv", kernel=[o, cg * groups, kh, kw], **geometry(module), **bias)


def normalises(tracer: Tracer, module: Any, x: Tensor) -> bool:
    """Whether forward uses attention.bn. Some copies have it in the state_dict and never call it."""
    wanted = tracer.options.get("odconv_bn", "auto")
    if wanted != "auto":
        return wanted == "yes"
    norm, called = getattr(module.attention, "bn", None), []
    if norm is None:
        return False
    hook = norm.register_forward_hook(lambda *_: called.append(True))
    try:
        module(x)
    finally:
        hook.remove()
    return bool(called)


@layer("DyConv2d", "Dynamic_conv2d", "DynamicConv2d", "DyConv")
def dyconv(tracer: Tracer, module: Any, x: Tensor) -> Node | None:
    attention = getattr(module, "attention", None)
    if attention is None or not hasattr(attention, "fc2") or getattr(module, "weight", torch.empty(0)).ndim != 5:
        return None
    tensors = keys(module, "weight", "bias", "attention.fc1", "attention.fc2")
    temperature(tracer, module, tensors, ["attention.fc2"])
    if "attention.fc1.bias" in tensors:
        raise Inexpressible("a DyConv whose attention.fc1 has a bias")
    n, o, cg, kh, kw = module.weight.shape
    if "attention.fc2.bias" not in tensors:
        tensors["attention.fc2.bias"] = torch.zeros(n, dtype=torch.float64)
    bias = {"bias": True} if "bias" in tensors else {}
    kernel = [o, cg * getattr(module, "groups", 1), kh, kw]
    return Node("conv2d", [x], tensors, method="dyconv", kernel=kernel, **geometry(module), **bias)


@layer("CondConv2d")
def condconv(tracer: Tracer, module: Any, x: Tensor, routing_weights: Tensor | None = None) -> Node:
    groups = getattr(module, "groups", 1)
    size = pair(module.kernel_size) if hasattr(module, "kernel_size") else list(module.weight.shape[-2:])
    experts = module.weight.shape[0]
    if module.weight.ndim == 5:
        o, cg = module.weight.shape[1:3]
    else:  # timm: a row of numbers for each expert
        o, cg = module.out_channels, module.in_channels // groups
    weight = module.weight if module.weight.ndim == 5 else module.weight.view(experts, o, cg, *size)
    tensors: dict[str, Tensor] = {"weight": weight}
    if getattr(module, "bias", None) is not None:
        tensors["bias"] = module.bias
    image: Any = x
    if isinstance(module.padding, str) or getattr(module, "dynamic_padding", False):
        image, attributes = padded_as_tensorflow(tracer, module, x, size)
    else:
        attributes = geometry(module)
    if routing_weights is not None:  # of the block, for all its convolutions
        return Node("conv2d", [image, routing_weights], tensors, method="mixture", **attributes)
    attributes |= {"kernel": [o, cg * groups, *size], "method": "condconv"}
    attributes |= {"bias": True} if "bias" in tensors else {}
    return Node("conv2d", [image], tensors | keys(module, "routing"), **attributes)


def padded_as_tensorflow(tracer: Tracer, module: Any, x: Tensor, size: list[int]) -> tuple[Node, dict[str, Any]]:
    """The input with a border such that ceil(extent / stride) outputs come out, and the convolution's attributes."""
    value = tracer.find(x)
    stride, dilation = pair(module.stride), pair(module.dilation)
    before, after = [0, 0], [0, 0]
    for d, k, s, dil in zip(value.dims[2:] if value else x.shape[2:], size, stride, dilation):
        last = combine("mul", combine("sub", combine("ceil_div", d, s), 1), s)  # where the last window begins
        total = combine("max", combine("sub", combine("add", last, dil * (k - 1) + 1), d), 0)
        before.append(combine("div", total, 2))
        after.append(combine("sub", total, before[-1]))
    attributes = {"stride": stride, "dilation": dilation, "groups": module.groups}
    return (
        Node("pad", [x], before=before, after=after),
        {key: item for key, item in attributes.items() if item != NEUTRAL[key]},
    )


DCD_KEYS = ("fc.0", "fc.1.fc.0", "fc_phi", "fc_scale", "bn1", "bn2")


@layer("DCDConv2d", "conv_dy")
def dcd(tracer: Tracer, module: Any, x: Tensor) -> Node:
    tensors = keys(module, "conv", "q", "p", *DCD_KEYS)
    if "conv.bias" in tensors:
        raise Inexpressible("a DCD convolution with a bias")
    standard_eps(tensors, "bn1", module.bn1)
    standard_eps(tensors, "bn2", module.bn2)
    o, cg, kh, kw = module.conv.weight.shape
    channels = cg * module.conv.groups
    grid = math.isqrt(module.fc[0].weight.shape[1] // channels)
    more = {"grid": grid} if grid != 1 else {}
    return Node("conv2d", [x], tensors, method="dcd", kernel=[o, channels, kh, kw], **geometry(module.conv), **more)


@layer("KWConv1d")
def kernel_warehouse_rows(tracer: Tracer, module: Any, x: Tensor) -> Node:
    """A convolution over [N, C, L], as one over a map of one row."""
    described = kernel_warehouse(tracer, module, x)
    cells = described.tensors["cells"]
    described.tensors["cells"] = cells[:, :, :, None] if cells.ndim == 4 else cells
    described.inputs = [Node("unsqueeze", [x], axes=[2])]
    return Node("squeeze", [described], axes=[2])


def row_geometry(module: Any) -> dict[str, Any]:
    """geometry of a layer over [N, C, L]."""

    def across(n: Any, otherwise: int) -> list[int]:
        return [otherwise, integer(n[0] if isinstance(n, (list, tuple)) else n)]

    pad = across(module.padding, 0)[1]
    found = {
        "stride": across(module.stride, 1),
        "pad": [0, 0, pad, pad],
        "dilation": across(getattr(module, "dilation", 1), 1),
        "groups": getattr(module, "groups", 1),
    }
    return {key: value for key, value in found.items() if value != NEUTRAL[key]}


@layer("KWConv2d")
def kernel_warehouse(tracer: Tracer, module: Any, x: Tensor) -> Node:
    holder = getattr(module, "managers", None) or module.warehouse_manager
    manager = holder[0] if isinstance(holder, (list, tuple)) else holder
    number = module.warehouse if hasattr(module, "warehouse") else module.warehouse_id
    number = number if isinstance(number, int) else int(number)
    cells = manager.weights[number]
    tensors = keys(
        module, "bias", "attention.fc1", "attention.norm1", "attention.fc2", "attention.fc3", "attention.basis_bias"
    )
    standard_eps(tensors, "attention.norm1", module.attention.norm1)
    if hasattr(module, "shape"):
        o, cg, kh = module.shape
        kw, channels = kh, module.in_channels
    else:
        size = module.kernel_size
        o, channels = module.out_planes, module.in_planes
        kh, kw = pair(size) if x.ndim == 4 else (1, integer(size[0] if isinstance(size, (list, tuple)) else size))
    more: dict[str, Any] = {"bias": True} if "bias" in tensors else {}
    if "attention.fc3.weight" in tensors:
        start = next(
            (getattr(module.attention, n) for n in ("start", "start_cell_idx") if hasattr(module.attention, n)), 0
        )
        more["first_local"] = min(int(start or 0), len(tensors["attention.fc3.weight"]))
    tensors["cells"] = cells
    moves = geometry(module) if x.ndim == 4 else row_geometry(module)
    return Node("conv2d", [x], tensors, method="kernel_warehouse", kernel=[o, channels, kh, kw], **moves, **more)


@layer("StarReLU")
def star_relu(tracer: Tracer, module: Any, x: Tensor) -> Node | None:
    """scale * relu(x)^2 + bias, of one scale and one bias."""
    scale, bias = getattr(module, "scale", None), getattr(module, "bias", None)
    if not all(isinstance(t, Tensor) and t.numel() == 1 for t in (scale, bias)):
        return None
    squared = Node("activation", [x], kind="squared_relu", a=float(scale))
    return squared if float(bias) == 0 else Node("add", [squared], scalar=float(bias))


@layer("FrequencyBandModulation")
def frequency_bands(tracer: Tracer, module: Any, x: Tensor, att_feat: Tensor | None = None) -> Node:
    """FDConv's: bands of frequencies, each times a map that a convolution gives."""
    if getattr(module, "spatial_group", 1) != 1 or getattr(module, "act", "sigmoid") not in ("sigmoid", "tanh"):
        raise Inexpressible("frequency bands that are modulated by other than one sigmoid or tanh for all channels")
    convs = list(module.freq_weight_conv_list)
    double = 2.0 if getattr(module, "act", "sigmoid") == "tanh" else 1.0  # 1 + tanh(v) = 2 sigmoid(2 v)
    tensors = {role: torch.cat([getattr(c, role) for c in convs]).double() * double for role in ("weight", "bias")}
    maps = Node("conv2d", [x if att_feat is None else att_feat], tensors, **geometry(convs[0]))
    maps = Node("mul", [Node("activation", [maps], kind="sigmoid")], scalar=2.0)
    return Node("frequency_bands", [x, maps], bands=[integer(k) for k in module.k_list])


@layer("FDConv")
def fdconv(tracer: Tracer, module: Any, x: Tensor) -> Node | None:
    """The kernels are written as the inverse transforms of their groups of frequencies."""
    attention = getattr(module, "KSM_Global", None)
    if attention is None:  # too small, or of another size of kernel: a plain convolution
        return None
    if getattr(module, "param_reduction", 1) != 1 or module.groups != 1:
        raise Inexpressible("an FDConv in groups, or with a part of its frequencies")
    if not hasattr(module, "dft_weight") and module.weight.ndim == 5:
        kernels = module.weight
    else:
        if not hasattr(module, "dft_weight"):
            module.dft_weight = module.get_FDW()
        kernels = disjoint_kernels(module)
    n, o, c, kh, kw = kernels.shape
    tensors: dict[str, Tensor] = {"weight": kernels} | keys(
        module, "bias", "KSM_Global.fc", "KSM_Global.bn", "KSM_Global.relu", "KSM_Local.norm", "KSM_Local.conv"
    )
    standard_eps(tensors, "KSM_Global.bn", attention.bn)
    act, local_act = getattr(attention, "act_type", "sigmoid"), getattr(module, "ksm_local_act", "sigmoid")
    if act not in ("sigmoid", "tanh"):
        raise Inexpressible(f"an FDConv whose attentions are a {act}")
    multiple = 1.0  # of the kernels: attentions of the file go up to 2; 1 + tanh(v) = 2 sigmoid(2 v)
    for name in ("channel_fc", "filter_fc", "spatial_fc", "kernel_fc"):
        head = getattr(attention, name, None)
        if not isinstance(head, nn.Module):
            continue
        kernel_head = name == "kernel_fc"
        t = float(getattr(attention, "kernel_temp" if kernel_head else "temperature", None) or 1.0)
        for role, tensor in keys(attention, name).items():
            tensors[f"KSM_Global.{role}"] = tensor.double() * ((2.0 if act == "tanh" else 1.0) / t)
        if act == "sigmoid" and not kernel_head:
            multiple *= float(getattr(module, "att_multi", 2.0)) / 2
    if "KSM_Local.conv.weight" in tensors:
        if local_act == "tanh":
            tensors["KSM_Local.conv.weight"] = tensors["KSM_Local.conv.weight"].double() * 2
        else:
            multiple *= float(getattr(module, "att_multi", 2.0)) / 2
    if multiple != 1:
        tensors["weight"] = kernels * multiple
    inputs: list[Any] = [x]
    if isinstance(getattr(module, "FBM", None), nn.Module):
        inputs = [frequency_bands(tracer, module.FBM, x), x]
    more = {"bias": True} if "bias" in tensors else {}
    return Node("conv2d", inputs, tensors, method="fdconv", kernel=[o, c, kh, kw], **geometry(module), **more)


@layer("SKA")
def small_kernel_aggregation(tracer: Tracer, module: Any, x: Tensor, w: Tensor) -> Node:
    """LSConv's: kernels [N, G, k * k, H, W] of every position, which every G-th channel shares."""
    k = math.isqrt(w.shape[2])
    return Node(
        "position_conv2d", [x, w], window=[k, k], pad=[k // 2] * 4, groups=w.shape[1], sharing="interleaved"
    )


@layer("ACDCConv2d")
def acdc(tracer: Tracer, module: Any, x: Tensor, coefficients: Tensor) -> Node:
    if tracer.find(coefficients) is not None:
        raise Inexpressible("coefficients that depend on the input of the network")
    stride, padding, dilation, groups = module.geometry
    tensors = keys(module, "atoms", "bias") | {"coefficients": coefficients}
    holder = torch.nn.Module()
    holder.stride, holder.padding, holder.dilation, holder.groups = stride, padding, dilation, groups
    kernel = [coefficients.shape[0], coefficients.shape[1] * groups, *module.atoms.shape[1:]]
    more = {"bias": True} if "bias" in tensors else {}
    return Node("conv2d", [x], tensors, method="acdc", kernel=kernel, **geometry(holder), **more)


@layer("SparseKernelConv2d")
def sparse(tracer: Tracer, module: Any, x: Tensor) -> Node:
    stride, padding, dilation, groups = module.geometry
    holder = torch.nn.Module()
    holder.stride, holder.padding, holder.dilation, holder.groups = stride, padding, dilation, groups
    tensors = keys(module, "codebook", "index", "alpha", "bias")
    o, cg = module.shape
    more = {"bias": True} if "bias" in tensors else {}
    kernel = [o, cg * groups, *module.codebook.shape[1:]]
    return Node("conv2d", [x], tensors, method="sparse", kernel=kernel, **geometry(holder), **more)
