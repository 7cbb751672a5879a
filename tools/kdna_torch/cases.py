"""Known-answer cases: one layer or block, its state_dict, an input and the output in double precision."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from .dynamic import DCDConv2d, DyConv2d, DYCls, ODConv2d
from .dymn import DynamicConv
from .fdconv import FDConv
from .kernels import ACDCChain, ACDCConv2d, RuntimeConv2d, SparseKernelConv2d, XVolution
from .layers import CondConv2d
from .modulated import ModulatedConv2d
from .networks import ResNet18Stage, ResNet50Layer3, ShareCluster
from .position import LSConv
from .warehouse import KWChain, KWManager


def build_kerneldna(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    stride = case["stride"]
    if case["kind"] == "resnet18_stage":
        width, cin = tensors["conv1.weight"].shape[:2]
        return ResNet18Stage(cin, width, stride)
    if case["kind"] == "resnet50_layer3":
        width, cin = tensors["block0.layers.conv1.weight"].shape[:2]
        return ResNet50Layer3(cin, width, stride)
    if case["kind"] == "mobilenet_v2_cluster":
        cin = tensors["transition.layers.pw1.weight"].shape[1]
        kids, _ = tensors["static_filter_attn1"].shape[:2]
        cout = tensors["static_filter_attn3"].shape[1]
        return ShareCluster(cin, cout, stride, kids)
    raise ValueError(f"unknown kind {case['kind']}")


def build_condconv(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    n, o, cg, k, _ = tensors["weight"].shape
    groups = case["groups"]
    return CondConv2d(cg * groups, o, k, n, case["stride"], case["padding"], groups, "bias" in tensors)


def build_odconv(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    n, o, cg, k, _ = tensors["weight"].shape
    groups = case["groups"]
    return ODConv2d(cg * groups, o, k, case["stride"], case["padding"], case.get("dilation", 1), groups, n)


def build_dyconv(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    n, o, cg, k, _ = tensors["weight"].shape
    groups, bias = case["groups"], "bias" in tensors
    return DyConv2d(cg * groups, o, k, case["stride"], case["padding"], case.get("dilation", 1), groups, bias, n)


class AsClassifier(DYCls):
    """DYCls between maps of one pixel: [B, C, 1, 1] -> [B, O, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))[:, :, None, None]


def build_dcd(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    if case["kind"] == "classifier":
        o, c = tensors["cls.weight"].shape
        return AsClassifier(c, o, *tensors["cls_q.weight"].shape[:1], *tensors["fc.0.weight"].shape[:1])
    o, c = tensors["conv.weight"].shape[:2]
    if case["kind"] == "basic":
        return DCDConv2d(c, o, 3, case["stride"], 1, pool=2)
    if case["kind"] == "conv":
        return DCDConv2d(c, o, case["kernel"], case["stride"], case["padding"], pool=1)
    raise ValueError(f"unknown kind {case['kind']}")


def build_kernel_warehouse(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """The output channels follow from how many cells a layer mixes: m = (k / k_e)^2 (O / o_e) (C / g / c_e)."""
    n, o_e, c_e, k_e, _ = tensors["warehouse_manager.weights.0"].shape
    basis = case.get("nonlocal_basis_ratio", 1)
    shapes = []
    for i, layer in enumerate(case["layers"]):
        prefix = f"convs.{i}.attention."
        cin, groups = tensors[f"{prefix}fc1.weight"].shape[1], layer.get("groups", 1)
        mixtures = len(tensors[prefix + ("basis_bias" if basis < 1 else "fc2.bias")]) // (n + 1)
        per_column = (layer["kernel"] // k_e) ** 2 * (cin // groups // c_e)
        shapes.append((cin, mixtures // per_column * o_e, groups))
    manager = KWManager(
        case["cell_num_ratio"],
        Fraction(c_e, math.gcd(*(c // g for c, _, g in shapes))),
        Fraction(o_e, math.gcd(*(o for _, o, _ in shapes))),
        basis,
        spatial_partition=k_e == 1,
    )
    convs = [
        manager.conv("", c, o, layer["kernel"], layer.get("stride", 1), layer["padding"], g)
        for (c, o, g), layer in zip(shapes, case["layers"])
    ]
    return KWChain(manager, convs, [layer["act"] for layer in case["layers"]])


def build_acdc(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    layers = []
    for i, layer in enumerate(case["layers"]):
        m, kh, kw = tensors[f"layers.{i}.atoms"].shape
        groups, dilation = layer.get("groups", 1), layer.get("dilation", 1)
        layers.append(ACDCConv2d(m, (kh, kw), layer["stride"], layer["padding"], groups, dilation))
    return ACDCChain(tuple(tensors["coefficients"].shape), layers, [layer["act"] for layer in case["layers"]])


def build_sparse_kernel(case: dict[str, Any], tensors: dict[str, Tensor], channels: int) -> nn.Module:
    return SparseKernelConv2d(
        channels,
        len(tensors["alpha"]),
        tuple(tensors["codebook"].shape[1:]),
        case["bits"],
        case["stride"],
        case["padding"],
        case["groups"],
        "bias" in tensors,
    )


def build_dymn(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """``weight`` is [K, O, C/g, k, k] in a case, and a row of numbers for each kernel in the module."""
    n, o, cg, k, _ = tensors["weight"].shape
    groups, context = case["groups"], tensors["residuals.0.weight"].shape[1]
    geometry = case["stride"], case.get("dilation", 1), case["padding"], groups
    return DynamicConv(cg * groups, o, context, k, *geometry, "bias" in tensors, n, case.get("temperature", 1.0))


def build_modulated(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    o, c, k, _ = tensors["weight"].shape
    style = tensors["affine.weight"].shape[1] if "affine.weight" in tensors else 0
    demodulate, eps = case.get("demodulate", 1) != 0, case.get("eps", 1e-8)
    geometry = case["padding"], case["stride"]
    return ModulatedConv2d(c, o, k, style, demodulate, *geometry, bias="bias" in tensors, eps=eps)


def build_fdconv(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    n, o, c, k, _ = tensors["weight"].shape
    bands, local = (any(key.startswith(part) for key in tensors) for part in ("FBM.", "KSM_Local."))
    geometry = case["stride"], case["padding"], case.get("dilation", 1)
    return FDConv(c, o, k, *geometry, "bias" in tensors, n, bands, local, fourier=False)


def build_lsconv(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    kernels, large = len(tensors["lkp.cv4.bias"]), tensors["lkp.cv2.c.weight"].shape[-1]
    channels, small = len(tensors["bn.weight"]), case["kernel"]
    return LSConv(channels, large, small, channels * small**2 // kernels)


BUILDERS = {
    "kerneldna": build_kerneldna,
    "condconv": build_condconv,
    "odconv": build_odconv,
    "dyconv": build_dyconv,
    "dcd": build_dcd,
    "kernel_warehouse": build_kernel_warehouse,
    "acdc": build_acdc,
    "dymn": build_dymn,
    "modulated": build_modulated,
    "fdconv": build_fdconv,
    "lsconv": build_lsconv,
}


def build_case(case: dict[str, Any], tensors: dict[str, Tensor], x: Tensor) -> nn.Module:
    """The module of a case (``family``, ``kind``, ``stride``, ...), its widths taken from the tensors' shapes."""
    family = case["family"]
    if family == "sparse_kernel":
        return build_sparse_kernel(case, tensors, x.shape[1])
    if family == "runtime_kernel":
        mode = case["padding_mode"]
        return RuntimeConv2d(case["kind"], case["stride"], case["padding"], mode, case.get("groups", 1))
    if family == "x_volution":
        return XVolution(x.shape[1], tensors["weight"].shape[-1], case["padding"])
    if family not in BUILDERS:
        raise ValueError(f"unknown family {family}")
    return BUILDERS[family](case, tensors)


class OnContext(nn.Module):
    """A layer of an image and a context [B, D], which DyMN's takes as the first of a block's values."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.layer(x, (context,) if isinstance(self.layer, DynamicConv) else context)


def load_case(case: dict[str, Any], tensors: dict[str, Tensor], x: Tensor) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The case's module with its weights, in eval mode, and what it is called with."""
    module = build_case(case, tensors, x).eval()
    if case["family"] == "runtime_kernel":
        return module, (x, tensors["kernel"])
    if "context" not in tensors:
        module.load_state_dict(tensors)
        return module, (x,)
    state = {key: tensor for key, tensor in tensors.items() if key != "context"}
    module.load_state_dict(state | {"weight": state["weight"].view(module.weight.shape)})
    return OnContext(module), (x, tensors["context"])


@torch.no_grad()
def run_case(case: dict[str, Any], tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The case's output [B, O, H', W'], computed in double precision in eval mode."""
    module, inputs = load_case(case, tensors, x)
    return module.double()(*(tensor.double() for tensor in inputs))
