"""Runs a network file (``docs/graph-file.md``) in double precision, written from that page and nothing else.

It is the check of what was exported, and a second reader of the format. Like the library it is strict: what the page does
not describe is refused.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor


class FormatError(ValueError):
    """A file that the format does not allow."""


# name: (attributes that must be there, attributes that may be there)
WINDOW = {"window", "stride"}
ATTRIBUTES: dict[str, tuple[set[str], set[str]]] = {
    "conv2d": (set(), {"stride", "pad", "dilation", "groups", "pad_mode", "method"}),
    "conv_transpose2d": (set(), {"stride", "pad", "output_pad", "dilation", "groups"}),
    "linear": (set(), set()),
    "position_conv2d": ({"window"}, {"stride", "pad", "dilation", "groups", "sharing"}),
    "batch_norm": (set(), {"eps"}),
    "layer_norm": ({"axes"}, {"eps"}),
    "group_norm": ({"groups"}, {"eps"}),
    "constant": (set(), set()),
    "activation": ({"kind"}, {"a"}),
    "clamp": (set(), {"low", "high"}),
    "pow": ({"exponent"}, set()),
    "reshape": ({"shape"}, set()),
    "flatten": (set(), {"first", "last"}),
    "squeeze": ({"axes"}, set()),
    "unsqueeze": ({"axes"}, set()),
    "permute": ({"axes"}, set()),
    "expand": ({"shape"}, set()),
    "concat": ({"axis"}, set()),
    "slice": ({"axis"}, {"start", "stop", "step"}),
    "pixel_shuffle": ({"factor"}, set()),
    "pixel_unshuffle": ({"factor"}, set()),
    "channel_shuffle": ({"groups"}, set()),
    "pad": ({"before", "after"}, {"mode", "value"}),
    "max_pool2d": (WINDOW, {"pad", "dilation", "ceil_mode"}),
    "avg_pool2d": (WINDOW, {"pad", "ceil_mode", "count_include_pad", "divisor"}),
    "adaptive_avg_pool2d": ({"size"}, set()),
    "adaptive_max_pool2d": ({"size"}, set()),
    "frequency_bands": ({"bands"}, set()),
    "resize": ({"mode"}, {"size", "scale", "align_corners"}),
    "dynamic_relu": (set(), set()),
    "softmax": ({"axis"}, set()),
    "log_softmax": ({"axis"}, set()),
    "matmul": (set(), set()),
}
ATTRIBUTES |= {op: (set(), {"scalar", "scalar_first"}) for op in ("add", "sub", "mul", "div", "maximum", "minimum")}
ATTRIBUTES |= {op: (set(), set()) for op in ("abs", "neg", "exp", "log", "sqrt", "rsqrt")}
ATTRIBUTES |= {op: ({"axes"}, {"keep"}) for op in ("mean", "sum", "max", "min")}
METHOD_ATTRIBUTES: dict[str, tuple[set[str], set[str]]] = {
    "dense": (set(), set()),
    "kernel_dna": (set(), {"bn_eps", "hidden", "gate"}),
    "mixture": (set(), set()),
    "dymn": (set(), set()),
    "modulated": (set(), {"demodulate", "eps"}),
    "dcd": ({"kernel"}, {"grid"}),
    "fdconv": ({"kernel"}, {"bias"}),
    "kernel_warehouse": ({"kernel"}, {"bias", "first_local"}),
} | {method: ({"kernel"}, {"bias"}) for method in ("condconv", "dyconv", "odconv", "acdc", "sparse")}


class Roles:
    """The tensors of a node; every one must be taken."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.left = tensors, set(tensors)

    def __contains__(self, role: str) -> bool:
        return role in self.tensors

    def take(self, role: str) -> Tensor:
        if role not in self.tensors:
            raise FormatError(f"the tensor {role} is missing")
        self.left.discard(role)
        x = self.tensors[role]
        return x.double() if x.is_floating_point() else x

    def maybe(self, role: str) -> Tensor | None:
        return self.take(role) if role in self.tensors else None

    def matrix(self, role: str) -> Tensor:
        x = self.take(role)
        return x.flatten(1) if x.ndim == 4 and x.shape[2:] == (1, 1) else x


def act(kind: str, x: Tensor, a: float | Tensor | None = None) -> Tensor:
    simple: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": lambda v: v.clamp(min=0),
        "relu6": lambda v: v.clamp(0, 6),
        "sigmoid": torch.sigmoid,
        "silu": lambda v: v * torch.sigmoid(v),
        "hard_sigmoid": lambda v: (v + 3).clamp(0, 6) / 6,
        "hard_swish": lambda v: v * (v + 3).clamp(0, 6) / 6,
        "tanh": torch.tanh,
        "gelu": lambda v: v * 0.5 * (1 + torch.erf(v / math.sqrt(2))),
        "gelu_tanh": lambda v: v * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        "mish": lambda v: v * torch.tanh(F.softplus(v)),
    }
    if kind in simple:
        if a is not None:
            raise FormatError(f"{kind} has no parameter")
        return simple[kind](x)
    if kind == "elu":
        return torch.where(x > 0, x, (1.0 if a is None else a) * torch.expm1(x.clamp(max=0)))
    if kind == "leaky_relu":
        return torch.where(x > 0, x, (0.01 if a is None else a) * x)
    if kind == "squared_relu":
        return (1.0 if a is None else a) * x.clamp(min=0) ** 2
    if kind == "prelu" and isinstance(a, Tensor):
        return torch.where(x > 0, x, a.reshape(-1, *[1] * (x.ndim - 2)) * x)
    raise FormatError(f"no activation {kind}")


def normalised(x: Tensor, w: Roles, prefix: str, names: tuple[str, str], eps: float) -> Tensor:
    """Batch norm on axis 1; ``names`` are those of mean and variance."""
    shape = [-1, *[1] * (x.ndim - 2)]
    mean, var = (w.take(prefix + n).view(shape) for n in names)
    y = (x - mean) / torch.sqrt(var + eps)
    weight, bias = w.maybe(f"{prefix}weight"), w.maybe(f"{prefix}bias")
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


RUNNING = ("running_mean", "running_var")


# ----------------------------------------------------------------------------------------------------- convolutions


def bordered(x: Tensor, a: Mapping[str, Any]) -> Tensor:
    top, bottom, left, right = a.get("pad", [0] * 4)
    mode = a.get("pad_mode", "zeros")
    if mode not in ("zeros", "circular"):
        raise FormatError(f"pad_mode {mode}")
    return F.pad(x, [left, right, top, bottom], "constant" if mode == "zeros" else "circular")


def convolve(x: Tensor, kernels: Tensor, a: Mapping[str, Any]) -> Tensor:
    """kernels [O, C/g, KH, KW] for all samples, or [N, O, C/g, KH, KW] for each its own."""
    x = bordered(x, a)
    geometry = a.get("stride", [1, 1]), 0, a.get("dilation", [1, 1]), a.get("groups", 1)
    if kernels.ndim == 4:
        return F.conv2d(x, kernels, None, *geometry)
    return torch.cat([F.conv2d(x[i : i + 1], kernels[i], None, *geometry) for i in range(len(x))])


def bias_of(w: Roles, a: Mapping[str, Any], route: Tensor | None = None) -> Tensor | float:
    if not a.get("bias", False):
        return 0.0
    bias = w.take("bias")
    return bias[:, None, None] if route is None else (route @ bias)[:, :, None, None]


def expected_kernel(a: Mapping[str, Any], shape: Sequence[int]) -> None:
    o, c, kh, kw = a["kernel"]
    if [o, c // a.get("groups", 1), kh, kw] != list(shape[-4:]):
        raise FormatError(f"kernel is {a['kernel']}, its tensors say {list(shape)}")


def conv_dense(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    bias = w.maybe("bias")
    y = convolve(v[0], w.take("weight"), a)
    return y if bias is None else y + bias[:, None, None]


def conv_kernel_dna(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, kernel, bias = v[0], w.take("weight"), w.maybe("bias")
    if (spatial := w.maybe("spatial")) is not None:
        kernel = kernel * (1 + spatial.view(1, 1, *kernel.shape[2:]))
    if (filters := w.maybe("filter")) is not None:
        kernel = kernel * (1 + filters.view(-1, 1, 1, 1))
    if "fc1" in w:
        z = x.mean((2, 3)) @ w.matrix("fc1").T
        z = z if (b := w.maybe("fc1_bias")) is None else z + b
        if "bn.mean" in w:
            z = normalised(z, w, "bn.", ("mean", "var"), a.get("bn_eps", 1e-5))
        z = act(a.get("hidden", "relu"), z) @ w.matrix("fc2").T
        z = z if (b := w.maybe("fc2_bias")) is None else z + b
        x = x * act(a.get("gate", "sigmoid"), z)[:, :, None, None]
    y = convolve(x, kernel, a)
    return y if bias is None else y + bias[:, None, None]


def conv_mixture(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    if len(v) != 2:
        raise FormatError("a mixture reads an image and coefficients")
    weight, bias = w.take("weight"), w.maybe("bias")
    route = v[1].flatten(1)
    if v[1].ndim not in (2, 4) or list(route.shape) != [len(v[0]), len(weight)]:
        raise FormatError(f"coefficients {tuple(v[1].shape)} of {len(weight)} kernels for {len(v[0])} samples")
    y = convolve(v[0], torch.einsum("ni,iockl->nockl", route, weight), a)
    return y if bias is None else y + (route @ bias)[:, :, None, None]


def context_of(v: list[Tensor], matrix: Tensor | None, width: int) -> Tensor:
    """[N, D]: the second input, of as many values as the matrix that it is multiplied by has columns."""
    if len(v) != 2:
        raise FormatError("a router reads a context, the second input")
    context, wanted = v[1].flatten(1), width if matrix is None else matrix.shape[1]
    if v[1].ndim not in (2, 4) or list(context.shape) != [len(v[0]), wanted]:
        raise FormatError(f"a context {tuple(v[1].shape)} of {wanted} values for {len(v[0])} samples")
    return context


def conv_dymn(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    matrix = w.matrix("residuals.weight")
    logits = context_of(v, matrix, 0) @ matrix.T
    logits = logits if (b := w.maybe("residuals.bias")) is None else logits + b
    return conv_mixture([v[0], torch.softmax(logits, 1)], w, a)


def conv_modulated(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    weight, bias = w.take("weight"), w.maybe("bias")
    groups, matrix = a.get("groups", 1), w.matrix("affine.weight") if "affine.weight" in w else None
    style = context_of(v, matrix, weight.shape[1] * groups)
    if matrix is not None:
        style = style @ matrix.T
        style = style if (b := w.maybe("affine.bias")) is None else style + b
    per_group = style.view(len(style), groups, 1, weight.shape[1]).expand(-1, -1, len(weight) // groups, -1)
    kernels = weight * per_group.reshape(len(style), *weight.shape[:2], 1, 1)
    if a.get("demodulate", True):
        kernels = kernels / torch.sqrt(kernels.square().sum((2, 3, 4), keepdim=True) + a.get("eps", 1e-8))
    y = convolve(v[0], kernels, a)
    return y if bias is None else y + bias[:, None, None]


def conv_condconv(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, weight = v[0], w.take("weight")
    expected_kernel(a, weight.shape)
    route = torch.sigmoid(x.mean((2, 3)) @ w.matrix("routing.weight").T + w.take("routing.bias"))
    return convolve(x, torch.einsum("ni,iockl->nockl", route, weight), a) + bias_of(w, a, route)


def conv_dyconv(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, weight = v[0], w.take("weight")
    expected_kernel(a, weight.shape)
    z = (x.mean((2, 3)) @ w.matrix("attention.fc1.weight").T).clamp(min=0)
    route = torch.softmax(z @ w.matrix("attention.fc2.weight").T + w.take("attention.fc2.bias"), 1)
    return convolve(x, torch.einsum("ni,iockl->nockl", route, weight), a) + bias_of(w, a, route)


def conv_odconv(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, weight = v[0], w.take("weight")
    expected_kernel(a, weight.shape)
    z = x.mean((2, 3)) @ w.matrix("attention.fc.weight").T
    z = normalised(z, w, "attention.bn.", RUNNING, 1e-5).clamp(min=0)

    def head(name: str) -> Tensor:
        return z @ w.matrix(f"attention.{name}_fc.weight").T + w.take(f"attention.{name}_fc.bias")

    o, c, kh, kw = a["kernel"]
    depthwise = a.get("groups", 1) == c == o
    x = x * torch.sigmoid(head("channel"))[:, :, None, None]
    kernels = weight[0].expand(len(x), -1, -1, -1, -1)
    if len(weight) > 1:
        kernels = torch.einsum("ni,iockl->nockl", torch.softmax(head("kernel"), 1), weight)
    if kh * kw > 1:
        kernels = kernels * torch.sigmoid(head("spatial")).view(-1, 1, 1, kh, kw)
    y = convolve(x, kernels, a)
    if not depthwise:
        y = y * torch.sigmoid(head("filter"))[:, :, None, None]
    return y + bias_of(w, a)


def conv_dcd(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, grid, (o, c, kh, kw) = v[0], a.get("grid", 1), a["kernel"]
    kernel, q, p = w.take("conv.weight"), w.matrix("q.weight"), w.matrix("p.weight")
    kernel = kernel.view(o, c // a.get("groups", 1), kh, kw)

    def gate(z: Tensor) -> Tensor:
        return (z + 3).clamp(0, 6) / 3

    z = F.adaptive_avg_pool2d(x, grid).flatten(1) @ w.matrix("fc.0.weight").T
    z = z * gate(z @ w.matrix("fc.1.fc.0.weight").T)
    rank = len(q)
    phi = (z @ w.matrix("fc_phi.weight").T).view(-1, rank, rank)
    scale = gate(z @ w.matrix("fc_scale.weight").T)
    sh, sw = a.get("stride", [1, 1])
    low = torch.einsum("lc,nchw->nlhw", q, x[:, :, ::sh, ::sw])
    low = normalised(low, w, "bn1.", RUNNING, 1e-5)
    mixed = normalised(torch.einsum("nml,nlhw->nmhw", phi, low), w, "bn2.", RUNNING, 1e-5) + low
    y = convolve(x, kernel, a)
    return scale[:, :, None, None] * y + torch.einsum("ol,nlhw->nohw", p, mixed)


def conv_kernel_warehouse(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, cells = v[0], w.take("cells")
    (o, c, kh, kw), groups = a["kernel"], a.get("groups", 1)
    n, oe, ce, khe, kwe = cells.shape
    go, gi, gs = o // oe, c // groups // ce, (kh // khe) * (kw // kwe)
    m = gs * go * gi
    z = normalised(x.mean((2, 3)) @ w.matrix("attention.fc1.weight").T, w, "attention.norm1.", RUNNING, 1e-5).clamp(
        min=0
    )
    u = z @ w.matrix("attention.fc2.weight").T
    if "attention.fc3.weight" in w:
        fc3, start = w.matrix("attention.fc3.weight"), a.get("first_local", 0)
        local = n - len(fc3)
        u = u.view(len(x), m, -1)
        others = u[:, :, local:-1] @ fc3.T
        start = min(start, len(fc3))
        u = torch.cat([others[:, :, :start], u[:, :, :local], others[:, :, start:], u[:, :, -1:]], 2)
        u = u + w.take("attention.basis_bias").view(m, n + 1)
    else:
        u = (u + w.take("attention.fc2.bias")).view(len(x), m, n + 1)
    alpha = (u / (u.abs().sum(2, keepdim=True) + 1e-3))[:, :, :n]
    parts = torch.einsum("bjn,nklpq->bjklpq", alpha, cells)
    kernels = torch.empty(len(x), o, c // groups, kh, kw, dtype=torch.float64)
    across = kw // kwe
    for j in range(m):
        s, out, inp = j // (go * gi), j // gi % go, j % gi
        r, q = s // across * khe, s % across * kwe
        kernels[:, out * oe : (out + 1) * oe, inp * ce : (inp + 1) * ce, r : r + khe, q : q + kwe] = parts[:, j]
    return convolve(x, kernels, a) + bias_of(w, a)


def conv_fdconv(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    """Attentions of the means of the last input: of every channel, filter, tap, kernel and weight."""
    weight = w.take("weight")
    n, o, c, kh, kw = weight.shape
    expected_kernel(a, [o, c, kh, kw])
    p = v[-1].mean((2, 3))
    z = normalised(
        p @ w.matrix("KSM_Global.fc.weight").T, w, "KSM_Global.bn.", ("running_mean", "running_var"), 1e-5
    )
    z = w.take("KSM_Global.relu.scale") * z.clamp(min=0) ** 2 + w.take("KSM_Global.relu.bias")

    def head(name: str, count: int) -> Tensor:
        if f"KSM_Global.{name}.weight" not in w:
            return torch.ones(len(z), count, dtype=z.dtype)
        logits = z @ w.matrix(f"KSM_Global.{name}.weight").T + w.take(f"KSM_Global.{name}.bias")
        return 2 * torch.sigmoid(logits)

    mixture = head("kernel_fc", n)
    kernel = torch.einsum("bi,iochw->bochw", mixture / n if "KSM_Global.kernel_fc.weight" in w else mixture, weight)
    kernel = kernel * head("channel_fc", c)[:, None, :, None, None] * head("spatial_fc", kh * kw).view(-1, 1, 1, kh, kw)
    if "KSM_Local.conv.weight" in w:
        u = p - p.mean(1, keepdim=True)
        u = u / torch.sqrt((u * u).mean(1, keepdim=True) + 1e-5)
        u = u * w.take("KSM_Local.norm.weight") + w.take("KSM_Local.norm.bias")
        rows = w.take("KSM_Local.conv.weight")
        logits = F.conv1d(u[:, None], rows, padding=rows.shape[-1] // 2).view(-1, o, kh, kw, c)
        kernel = kernel * 2 * torch.sigmoid(logits.movedim(-1, 2))
    y = convolve(v[0], kernel, a) * head("filter_fc", o)[:, :, None, None]
    return y + bias_of(w, a)


def conv_acdc(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    kernel = torch.einsum("ocm,mkl->ockl", w.take("coefficients"), w.take("atoms"))
    expected_kernel(a, kernel.shape)
    return convolve(v[0], kernel, a) + bias_of(w, a)


def conv_sparse(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    codebook, index = w.take("codebook"), w.take("index")
    (o, c, kh, kw), bits = a["kernel"], (len(codebook) - 1).bit_length()
    cg = c // a.get("groups", 1)
    stream = int.from_bytes(bytes(index.tolist()), "little")
    words = [stream >> s * bits & (1 << bits) - 1 for s in range(o * cg)]
    kernel = codebook[torch.tensor(words)].view(o, cg, kh, kw) * w.take("alpha").view(-1, 1, 1, 1)
    return convolve(v[0], kernel, a) + bias_of(w, a)


METHODS = {
    "dense": conv_dense,
    "kernel_dna": conv_kernel_dna,
    "mixture": conv_mixture,
    "dymn": conv_dymn,
    "modulated": conv_modulated,
    "condconv": conv_condconv,
    "dyconv": conv_dyconv,
    "odconv": conv_odconv,
    "dcd": conv_dcd,
    "kernel_warehouse": conv_kernel_warehouse,
    "acdc": conv_acdc,
    "sparse": conv_sparse,
    "fdconv": conv_fdconv,
}


def conv2d(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return METHODS[a.get("method", "dense")](v, w, a)


# ------------------------------------------------------------------------------------------------ other operations


def dynamic_relu(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, theta = v
    if x.ndim != 4 or theta.flatten(1).shape != (len(x), theta.shape[1]) or theta.shape[1] % (2 * x.shape[1]):
        raise FormatError(f"coefficients {tuple(theta.shape)} of a dynamic_relu on {tuple(x.shape)}")
    t = (2 * torch.sigmoid(theta.flatten(1)) - 1).view(*x.shape[:2], -1, 1, 1)
    lines = t.shape[2] // 2
    if not 1 <= lines <= 8:
        raise FormatError(f"a dynamic_relu of {lines} lines")
    first = torch.eye(lines, 1, dtype=t.dtype)[:, :, None]
    return (x[:, :, None] * (first + t[:, :, :lines]) + 0.5 * t[:, :, lines:]).amax(2)


def conv_transpose2d(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return F.conv_transpose2d(
        v[0],
        w.take("weight"),
        w.maybe("bias"),
        a.get("stride", [1, 1]),
        a.get("pad", [0, 0]),
        a.get("output_pad", [0, 0]),
        a.get("groups", 1),
        a.get("dilation", [1, 1]),
    )


def linear(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    y = v[0] @ w.matrix("weight").T
    return y if (bias := w.maybe("bias")) is None else y + bias


def position_conv2d(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    if len(v) != 2:
        raise FormatError("kernels per position and an image are two inputs")
    (n, c), (kh, kw), groups = v[0].shape[:2], a["window"], a.get("groups", 1)
    y = F.unfold(bordered(v[0], a), (kh, kw), a.get("dilation", [1, 1]), 0, a.get("stride", [1, 1]))
    sharing = a.get("sharing", "neighbours")
    if sharing not in ("neighbours", "interleaved"):
        raise FormatError(f"channels cannot share weights as {sharing}")
    h, width = v[1].shape[-2:]
    weights = v[1].reshape(n, groups, kh * kw, h * width)
    of_channel = torch.arange(c) % groups if sharing == "interleaved" else torch.arange(c) // (c // groups)
    return (y.view(n, c, kh * kw, -1) * weights[:, of_channel]).sum(2).view(n, c, h, width)


def layer_norm(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, axes = v[0], list(range(-a["axes"], 0))
    centred = x - x.mean(axes, keepdim=True)
    y = centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + a.get("eps", 1e-5))
    y = y if (weight := w.maybe("weight")) is None else y * weight
    return y if (bias := w.maybe("bias")) is None else y + bias


def group_norm(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x = v[0].reshape(len(v[0]), a["groups"], -1)
    centred = x - x.mean(2, keepdim=True)
    y = (centred / torch.sqrt((centred * centred).mean(2, keepdim=True) + a.get("eps", 1e-5))).view(v[0].shape)
    shape = [-1, *[1] * (y.ndim - 2)]
    y = y if (weight := w.maybe("weight")) is None else y * weight.view(shape)
    return y if (bias := w.maybe("bias")) is None else y + bias.view(shape)


def activation(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return act(a["kind"], v[0], w.take("a") if a["kind"] == "prelu" else a.get("a"))


def clamp(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return v[0].clamp(a.get("low", -math.inf), a.get("high", math.inf))


def binary(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    def compute(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
        if ("scalar" in a) != (len(v) == 1):
            raise FormatError("two inputs, or one and a scalar")
        if len(v) == 2:
            return function(v[0], v[1])
        scalar = torch.tensor(float(a["scalar"]), dtype=torch.float64)
        return function(scalar, v[0]) if a.get("scalar_first", False) else function(v[0], scalar)

    return compute


def simple(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda v, w, a: function(v[0])


def permute(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return v[0].permute(a["axes"])


def squeeze(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    if any(v[0].shape[i] != 1 for i in a["axes"]):
        raise FormatError(f"squeezes axes {a['axes']} of {tuple(v[0].shape)}")
    return v[0].squeeze(tuple(a["axes"]))


def unsqueeze(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, rank = v[0], v[0].ndim + len(a["axes"])
    for axis in sorted(i % rank for i in a["axes"]):
        x = x.unsqueeze(axis)
    return x


def take_slice(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, axis = v[0], a["axis"] % v[0].ndim
    return x[(slice(None),) * axis + (slice(a.get("start", 0), a.get("stop"), a.get("step", 1)),)]


def pixel_shuffle(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    (n, c, h, width), f = v[0].shape, a["factor"]
    return v[0].view(n, c // f**2, f, f, h, width).permute(0, 1, 4, 2, 5, 3).reshape(n, c // f**2, h * f, width * f)


def pixel_unshuffle(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    (n, c, h, width), f = v[0].shape, a["factor"]
    return (
        v[0].reshape(n, c, h // f, f, width // f, f).permute(0, 1, 3, 5, 2, 4).reshape(n, c * f**2, h // f, width // f)
    )


def channel_shuffle(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    n, c, *rest = v[0].shape
    return v[0].reshape(n, a["groups"], c // a["groups"], *rest).transpose(1, 2).reshape(v[0].shape)


def pad(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, mode = v[0], a.get("mode", "constant")
    before, after = list(a["before"]), list(a["after"])
    if min(*before, *after, 0) < 0:
        raise FormatError(f"borders {before}, {after}")
    if mode == "constant":
        pairs = [n for both in reversed(list(zip(before, after))) for n in both]
        return F.pad(x, pairs, value=a.get("value", 0.0))
    for axis, (b, e) in enumerate(zip(before, after)):
        n = x.shape[axis]
        places = torch.arange(-b, n + e)
        if mode == "circular":
            places = places % n
        elif mode == "replicate":
            places = places.clamp(0, n - 1)
        elif mode == "reflect":
            places = (n - 1) - ((n - 1) - places.abs()).abs()
        else:
            raise FormatError(f"mode {mode}")
        x = x.index_select(axis, places)
    return x


def pooled(x: Tensor, a: Mapping[str, Any], fill: float) -> tuple[Tensor, int, int]:
    """The map with its border, filled up far enough for ceil_mode, and how many windows there are."""
    top, bottom, left, right = a.get("pad", [0] * 4)
    counts, extra = [], []
    for d, k, s, dil, (b, e) in zip(
        x.shape[2:], a["window"], a["stride"], a.get("dilation", [1, 1]), ((top, bottom), (left, right))
    ):
        reach = dil * (k - 1) + 1
        n = (d + b + e - reach) // s + 1
        if a.get("ceil_mode", False):
            n = -(-(d + b + e - reach) // s) + 1
            if (n - 1) * s >= d + b:
                n -= 1
        counts.append(n)
        extra.append(max((n - 1) * s + reach - (d + b + e), 0))
    bordered = F.pad(x, [left, right + extra[1], top, bottom + extra[0]], value=fill)
    return bordered, counts[0], counts[1]


def windows(x: Tensor, a: Mapping[str, Any], rows: int, columns: int) -> list[Tensor]:
    (kh, kw), (sh, sw), (dh, dw) = a["window"], a["stride"], a.get("dilation", [1, 1])
    return [
        x[:, :, i * dh : i * dh + (rows - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]


def max_pool2d(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, rows, columns = pooled(v[0], a, -math.inf)
    best, *others = windows(x, a, rows, columns)
    for other in others:
        best = torch.maximum(best, other)
    return best


def avg_pool2d(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, rows, columns = pooled(v[0], a, 0.0)
    total = sum(windows(x, a, rows, columns))
    if "divisor" in a:
        return total / a["divisor"]
    ones = torch.ones(1, 1, *v[0].shape[2:], dtype=torch.float64)
    if a.get("count_include_pad", True):
        top, bottom, left, right = a.get("pad", [0] * 4)
        ones = F.pad(ones, [left, right, top, bottom], value=1.0)
        ones = F.pad(ones, [0, x.shape[3] - ones.shape[3], 0, x.shape[2] - ones.shape[2]])
    else:
        ones, _, _ = pooled(ones, a, 0.0)
    return total / sum(windows(ones, a, rows, columns))


def adaptive(mean: bool) -> Callable[..., Tensor]:
    def compute(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
        x, (rows, columns) = v[0], a["size"]

        def parts(extent: int, count: int) -> list[slice]:
            return [slice(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]

        out = torch.empty(*x.shape[:2], rows, columns, dtype=torch.float64)
        for i, r in enumerate(parts(x.shape[2], rows)):
            for j, c in enumerate(parts(x.shape[3], columns)):
                block = x[:, :, r, c]
                out[:, :, i, j] = block.mean((2, 3)) if mean else block.amax((2, 3))
        return out

    return compute


def resize(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x = v[0]
    if ("size" in a) == ("scale" in a):
        raise FormatError("size or scale, and not both")
    aligned, mode = a.get("align_corners", False), a["mode"]
    for axis, i in ((2, 0), (3, 1)):
        n = x.shape[axis]
        m = a["size"][i] if "size" in a else math.floor(n * a["scale"][i])
        step = n / m if "size" in a else 1 / a["scale"][i]
        at = torch.arange(m, dtype=torch.float64)
        if mode == "nearest":
            x = x.index_select(axis, (at * step).floor().long().clamp(max=n - 1))
            continue
        if mode != "bilinear":
            raise FormatError(f"mode {mode}")
        if aligned:
            place = at * ((n - 1) / (m - 1) if m > 1 else 0.0)
        else:
            place = ((at + 0.5) * step - 0.5).clamp(min=0)
        low = place.floor().long().clamp(max=n - 1)
        part = (place - low).view(-1, *[1] * (3 - axis))
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, (low + 1).clamp(max=n - 1)) * part
    return x


def frequency_bands(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    x, maps, bands = v[0], v[1], a["bands"]
    if maps.shape[1] not in (len(bands), len(bands) + 1) or maps.shape[2:] != x.shape[2:]:
        raise FormatError(f"maps {tuple(maps.shape)} of {len(bands)} bands")
    (h, width), single = x.shape[2:], torch.float32
    half = width // 2 + 1

    def kept(extent: int, table: Tensor, band: int) -> Tensor:
        scale = torch.tensor(float(len(table)), dtype=single) / torch.tensor(float(extent), dtype=single)
        nearest = (torch.arange(extent, dtype=single) * scale).floor().long().clamp(max=len(table) - 1)
        return (table[nearest].abs() < 0.5 / band + 1e-8).double()

    y, before = torch.zeros_like(x), x
    for i, band in enumerate(bands):
        rows = kept(h, torch.fft.fftfreq(64, dtype=single), band)
        mask = rows[:, None] * kept(half, torch.fft.rfftfreq(64, dtype=single), band)
        low = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(h, width))
        y, before = y + maps[:, i : i + 1] * (before - low), low
    return y + (before if maps.shape[1] == len(bands) else maps[:, -1:] * before)


def reduction(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda v, w, a: function(v[0], dim=tuple(i % v[0].ndim for i in a["axes"]), keepdim=a.get("keep", False))


def matmul(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    if min(v[0].ndim, v[1].ndim) < 2:
        raise FormatError("matmul of a vector")
    return v[0] @ v[1]


def flatten(v: list[Tensor], w: Roles, a: Mapping[str, Any]) -> Tensor:
    return v[0].flatten(a.get("first", 0), a.get("last", -1))


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "linear": linear,
    "position_conv2d": position_conv2d,
    "batch_norm": lambda v, w, a: normalised(v[0], w, "", ("mean", "var"), a.get("eps", 1e-5)),
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "constant": lambda v, w, a: w.take("value"),
    "activation": activation,
    "clamp": clamp,
    "add": binary(torch.add),
    "sub": binary(torch.sub),
    "mul": binary(torch.mul),
    "div": binary(torch.div),
    "maximum": binary(torch.maximum),
    "minimum": binary(torch.minimum),
    "pow": lambda v, w, a: v[0] ** a["exponent"],
    "abs": simple(torch.abs),
    "neg": simple(torch.neg),
    "exp": simple(torch.exp),
    "log": simple(torch.log),
    "sqrt": simple(torch.sqrt),
    "rsqrt": simple(torch.rsqrt),
    "reshape": lambda v, w, a: v[0].reshape(a["shape"]),
    "flatten": flatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "permute": permute,
    "expand": lambda v, w, a: v[0].expand(a["shape"]),
    "concat": lambda v, w, a: torch.cat(v, a["axis"]),
    "slice": take_slice,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "pad": pad,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive(True),
    "adaptive_max_pool2d": adaptive(False),
    "frequency_bands": frequency_bands,
    "resize": resize,
    "mean": reduction(torch.mean),
    "sum": reduction(torch.sum),
    "max": reduction(torch.amax),
    "min": reduction(torch.amin),
    "dynamic_relu": dynamic_relu,
    "softmax": lambda v, w, a: torch.softmax(v[0], a["axis"]),
    "log_softmax": lambda v, w, a: torch.log_softmax(v[0], a["axis"]),
    "matmul": matmul,
}


def check_attributes(op: str, a: Mapping[str, Any]) -> None:
    if op not in OPERATIONS:
        raise FormatError(f"no operation {op}")
    needed, possible = ATTRIBUTES[op]
    if op == "conv2d":
        method = a.get("method", "dense")
        if method not in METHODS:
            raise FormatError(f"no method {method}")
        needed, possible = (x | y for x, y in zip((needed, possible), METHOD_ATTRIBUTES[method]))
    if missing := needed - set(a):
        raise FormatError(f"{op} lacks {', '.join(sorted(missing))}")
    if unknown := set(a) - needed - possible:
        raise FormatError(f"{op} has no {', '.join(sorted(unknown))}")


def compute(op: str, inputs: list[Tensor], tensors: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> Tensor:
    """What one operation makes, in double precision."""
    check_attributes(op, attributes)
    roles = Roles(tensors)
    result = OPERATIONS[op]([x.double() for x in inputs], roles, attributes)
    if roles.left:
        raise FormatError(f"{op} has no tensors {', '.join(sorted(roles.left))}")
    return result


def extent(e: Any, values: Mapping[str, Tensor], depth: int = 0) -> int:
    """An integer or an expression."""
    if isinstance(e, int) and not isinstance(e, bool):
        return e
    if not isinstance(e, list) or len(e) != 3 or depth == 32:
        raise FormatError(f"{e!r} is no extent")
    if e[0] == "dim":
        return values[e[1]].shape[e[2]]
    a, b = extent(e[1], values, depth + 1), extent(e[2], values, depth + 1)
    if e[0] in ("div", "ceil_div") and b <= 0:
        raise FormatError(f"divides by {b}")
    if e[0] == "div":
        return a // b
    if e[0] == "ceil_div":
        return -(-a // b)
    functions: dict[str, Callable[[int, int], int]] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "max": max,
        "min": min,
    }
    if e[0] not in functions:
        raise FormatError(f"no operation {e[0]} on extents")
    return functions[e[0]](a, b)


EXTENTS = {
    "reshape": ("shape",),
    "expand": ("shape",),
    "pad": ("before", "after"),
    "adaptive_avg_pool2d": ("size",),
    "adaptive_max_pool2d": ("size",),
    "resize": ("size",),
}


class Network:
    """A network file, read and checked as far as it can be without an input."""

    def __init__(self, path: str | Path) -> None:
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
        self.tensors = load_file(path)
        self.graph = json.loads(header["__metadata__"]["kdna.graph"])
        if self.graph.get("version") != 1:
            raise FormatError(f"version {self.graph.get('version')}")
        if set(self.graph) != {"version", "inputs", "outputs", "nodes"}:
            raise FormatError(f"keys {sorted(self.graph)}")
        made, used = {i["name"] for i in self.graph["inputs"]}, set()
        for node in self.graph["nodes"]:
            attributes = {k: v for k, v in node.items() if k not in ("op", "name", "in", "out", "tensors")}
            check_attributes(node["op"], attributes)
            if unknown := set(node.get("in", [])) - made:
                raise FormatError(f"{node['out']} reads {sorted(unknown)} before it is made")
            if node["out"] in made:
                raise FormatError(f"{node['out']} is made twice")
            made.add(node["out"])
            names = set(node.get("tensors", {}).values())
            if missing := names - set(self.tensors):
                raise FormatError(f"{node['out']}: no tensor {sorted(missing)}")
            used |= names
        if left := set(self.tensors) - used:
            raise FormatError(f"tensors that no node names: {sorted(left)[:5]}")
        if missing := {o["value"] for o in self.graph["outputs"]} - made:
            raise FormatError(f"outputs that no node makes: {sorted(missing)}")

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by name."""
        values: dict[str, Tensor] = {}
        if len(inputs) != len(self.graph["inputs"]):
            raise FormatError(f"{len(inputs)} inputs instead of {len(self.graph['inputs'])}")
        for described, x in zip(self.graph["inputs"], inputs):
            shape = described["shape"]
            if len(shape) != x.ndim or any(want not in (None, have) for want, have in zip(shape, x.shape)):
                raise FormatError(f"input {described['name']} has the extents {tuple(x.shape)}, not {shape}")
            values[described["name"]] = x.double()
        last: dict[str, int] = {}
        for i, node in enumerate(self.graph["nodes"]):
            last |= {name: i for name in self.reads(node)}
        kept = {o["value"] for o in self.graph["outputs"]}
        for i, node in enumerate(self.graph["nodes"]):
            a = {k: v for k, v in node.items() if k not in ("op", "name", "in", "out", "tensors")}
            for key in EXTENTS.get(node["op"], ()):
                if key in a:
                    a[key] = [extent(e, values) for e in a[key]]
            if node["op"] == "slice":
                a |= {key: extent(a[key], values) for key in ("start", "stop") if key in a}
            tensors = {role: self.tensors[name] for role, name in node.get("tensors", {}).items()}
            try:
                values[node["out"]] = compute(node["op"], [values[n] for n in node.get("in", [])], tensors, a)
            except (FormatError, RuntimeError, IndexError) as error:
                raise FormatError(f"{node['out']} ({node['op']}): {error}") from error
            for name in self.reads(node):
                if last[name] == i and name not in kept:
                    del values[name]
        return {o["name"]: values[o["value"]] for o in self.graph["outputs"]}

    def reads(self, node: Mapping[str, Any]) -> set[str]:
        """The values that a node reads, those of its expressions included."""
        found = set(node.get("in", []))

        def walk(e: Any) -> None:
            if isinstance(e, list):
                if len(e) == 3 and e[0] == "dim":
                    found.add(e[1])
                else:
                    for part in e:
                        walk(part)

        for key, attribute in node.items():
            if key not in ("in", "op", "name", "out", "tensors"):
                walk(attribute)
        return found
