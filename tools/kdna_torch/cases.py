"""Known-answer cases: one layer or block, its state_dict, an input and the output in double precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layers import CondConv2d
from .networks import ResNet18Stage, ResNet50Layer3, ShareCluster


def build_case(case: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """The module of a case (``family``, ``kind``, ``stride``, ...), its widths taken from the tensors' shapes."""
    stride = case["stride"]
    if case["family"] == "condconv":
        n, o, cg, k, _ = tensors["weight"].shape
        groups = case["groups"]
        return CondConv2d(cg * groups, o, k, n, stride, case["padding"], groups, "bias" in tensors)
    if case["family"] != "kerneldna":
        raise ValueError(f"unknown family {case['family']}")
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


@torch.no_grad()
def run_case(case: dict[str, Any], tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The case's output [B, O, H', W'], computed in double precision in eval mode."""
    module = build_case(case, tensors)
    module.load_state_dict(tensors)
    return module.double().eval()(x.double())
