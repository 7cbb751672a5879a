"""Layers that are routed by a context as single nodes: DyMN's and StyleGAN2's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dynamic_export import geometry, keys, layer, temperature
from .operations import pair
from .trace import Node, Tracer
from .values import Inexpressible


@layer("DynamicConv")
def dymn(tracer: Tracer, module: Any, x: Tensor, g: Any = None) -> Node | None:
    """DyMN's, of this package and of the public code, whose context is g[0] [B, H, 1, 1]."""
    if g is None or not hasattr(module, "residuals") or module.weight.ndim != 4:
        return None
    if module.att_groups != 1:
        raise Inexpressible(f"attention in {module.att_groups} groups of channels")
    tensors = keys(module, "residuals.0", "bias")
    tensors = {role.replace("residuals.0", "residuals"): tensor for role, tensor in tensors.items()}
    temperature(tracer, module, tensors, ["residuals"])
    shape = module.out_channels, module.in_channels // module.groups, *pair(module.kernel_size)
    tensors["weight"] = module.weight.view(module.k, *shape)
    return Node("conv2d", [x, g[0]], tensors, method="dymn", **geometry(module))


@layer("DyReLUB")
def dynamic_relu(tracer: Tracer, module: Any, x: Tensor, g: Any) -> Node:
    theta = Node("linear", [Node("flatten", [g[0]], first=1)], keys(module.coef_net[-1], "weight", "bias"))
    return Node("dynamic_relu", [x, theta])


@layer("ModulatedConv2d")
def modulated(tracer: Tracer, module: Any, x: Tensor, w: Tensor) -> Node | None:
    """This package's. Upsampling is a transposed convolution of the modulated input, demodulated behind."""
    if not hasattr(module, "up") or not hasattr(module, "affine"):
        return None  # another one of this name
    attributes: dict[str, Any] = {} if module.demodulate else {"demodulate": False}
    attributes |= {"eps": module.eps} if module.demodulate and module.eps != 1e-8 else {}
    if module.up == 1:
        tensors = keys(module, "weight", "bias", "affine")
        return Node("conv2d", [x, w], tensors, method="modulated", **geometry(module), **attributes)
    style: Any = w if module.affine is None else Node("linear", [w], keys(module.affine, "weight", "bias"))
    h, v = pair(module.padding)
    y = Node(
        "conv_transpose2d",
        [Node("mul", [x, Node("unsqueeze", [style], axes=[2, 3])])],
        {"weight": module.weight.transpose(0, 1)},
        stride=pair(module.up),
        pad=[h, v],
    )
    if module.demodulate:
        squares = module.weight.double().square().sum((2, 3))
        eps = torch.full(squares.shape[:1], module.eps, dtype=torch.float64)
        norm = Node("linear", [Node("mul", [style, style])], {"weight": squares, "bias": eps})
        y = Node("mul", [y, Node("unsqueeze", [Node("rsqrt", [norm])], axes=[2, 3])])
    if module.bias is None:
        return y
    return Node("add", [y, Node("constant", [], {"value": module.bias[None, :, None, None]})])
