#!/usr/bin/env python3
"""Writes known-answer cases: NAME.json says what the layer is, NAME.safetensors holds its state_dict, input and output.

Outputs are computed in double precision in eval mode and rounded to float32. The same run gives the same files.
Whole networks with their graph go to FOLDER/networks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from kdna_torch import CondConv2d, DCDConv2d, DyConv2d, DyMNBlock, FDConv, KWManager, LSConv, ODConv2d, export
from kdna_torch import formulas
from kdna_torch.cases import AsClassifier, run_case
from kdna_torch.checkpoint import randomise
from kdna_torch.fdconv import disjoint_kernels
from kdna_torch.kernels import pack_bits
from kdna_torch.networks import PyramidHead, ResNet18Stage, ResNet50Layer3, ShareCluster
from kdna_torch.warehouse import KWChain

# name, module, (kind, stride), input shape
DNA = [
    ("stage_8_12_s1", lambda: ResNet18Stage(8, 12, 1), ("resnet18_stage", 1), (1, 8, 5, 7)),
    ("stage_12_20_s2", lambda: ResNet18Stage(12, 20, 2), ("resnet18_stage", 2), (3, 12, 13, 11)),
    ("stage_5_36_s2", lambda: ResNet18Stage(5, 36, 2), ("resnet18_stage", 2), (2, 5, 9, 17)),
    ("stage_32_64_s2", lambda: ResNet18Stage(32, 64, 2), ("resnet18_stage", 2), (1, 32, 14, 14)),
    ("stage_4_8_s2_1x1", lambda: ResNet18Stage(4, 8, 2), ("resnet18_stage", 2), (2, 4, 1, 2)),
    ("r50_layer3_24_8_s2", lambda: ResNet50Layer3(24, 8, 2), ("resnet50_layer3", 2), (2, 24, 11, 9)),
    ("r50_layer3_32_12_s1", lambda: ResNet50Layer3(32, 12, 1), ("resnet50_layer3", 1), (1, 32, 6, 7)),
    ("r50_layer3_20_20_s2", lambda: ResNet50Layer3(20, 20, 2), ("resnet50_layer3", 2), (3, 20, 15, 8)),
    ("cluster_8_12_s1_k1", lambda: ShareCluster(8, 12, 1, 1), ("mobilenet_v2_cluster", 1), (1, 8, 7, 5)),
    ("cluster_12_20_s2_k2", lambda: ShareCluster(12, 20, 2, 2), ("mobilenet_v2_cluster", 2), (3, 12, 13, 9)),
    ("cluster_20_28_s2_k3", lambda: ShareCluster(20, 28, 2, 3), ("mobilenet_v2_cluster", 2), (2, 20, 8, 15)),
    ("cluster_6_8_s1_k2", lambda: ShareCluster(6, 8, 1, 2), ("mobilenet_v2_cluster", 1), (2, 6, 4, 3)),
]

# in, out, kernel, experts, stride, padding, groups, bias, (batch, height, width)
CONDCONV = [
    (6, 10, 3, 2, 1, 0, 1, False, (2, 7, 5)),
    (8, 12, 3, 4, 2, 1, 1, True, (3, 9, 11)),
    (7, 9, 1, 3, 1, 0, 1, False, (2, 5, 6)),
    (16, 20, 1, 4, 2, 0, 1, True, (1, 7, 7)),
    (5, 8, 5, 4, 1, 2, 1, False, (2, 9, 8)),
    (3, 11, 5, 2, 2, 2, 1, True, (2, 11, 10)),
    (8, 12, 3, 4, 1, 1, 2, False, (3, 6, 7)),
    (12, 8, 3, 8, 2, 0, 2, True, (2, 9, 9)),
    (4, 6, 5, 2, 1, 2, 2, False, (1, 8, 6)),
    (10, 10, 3, 4, 1, 1, 10, False, (3, 7, 9)),
    (16, 16, 3, 4, 2, 1, 16, True, (2, 10, 7)),
    (9, 9, 5, 3, 2, 2, 9, False, (2, 12, 11)),
    (24, 24, 3, 1, 1, 2, 24, False, (1, 5, 5)),
]


# in, out, kernel, kernels, stride, padding, dilation, groups, (batch, height, width)
ODCONV = [
    (6, 10, 3, 4, 1, 1, 1, 1, (3, 7, 9)),
    (12, 20, 3, 4, 2, 1, 1, 1, (2, 9, 11)),
    (10, 14, 3, 1, 1, 1, 1, 1, (3, 8, 7)),
    (10, 13, 3, 1, 2, 0, 1, 1, (1, 9, 10)),
    (17, 21, 1, 4, 1, 0, 1, 1, (3, 5, 6)),
    (24, 13, 1, 1, 1, 0, 1, 1, (3, 6, 5)),
    (16, 24, 1, 1, 2, 0, 1, 1, (2, 7, 8)),
    (15, 9, 1, 3, 2, 0, 1, 3, (2, 6, 5)),
    (20, 20, 3, 4, 1, 1, 1, 20, (3, 9, 8)),
    (21, 21, 3, 1, 2, 1, 1, 21, (2, 10, 7)),
    (9, 9, 5, 4, 2, 2, 1, 9, (2, 11, 9)),
    (8, 16, 3, 4, 1, 1, 1, 8, (2, 7, 7)),
    (8, 12, 3, 4, 1, 2, 2, 1, (2, 8, 7)),
    (12, 20, 3, 1, 1, 3, 3, 2, (2, 9, 8)),
    (8, 12, 3, 2, 1, 1, 1, 2, (3, 6, 7)),
    (12, 8, 3, 4, 2, 1, 1, 4, (2, 9, 9)),
    (3, 8, 7, 2, 2, 3, 1, 1, (2, 13, 15)),
    (6, 6, 5, 3, 1, 2, 1, 1, (1, 4, 3)),
    (5, 7, 3, 4, 1, 1, 1, 1, (2, 1, 1)),
    (272, 5, 1, 4, 1, 0, 1, 1, (2, 2, 3)),
    (1, 1, 3, 4, 1, 1, 1, 1, (3, 6, 5)),
    (1, 4, 3, 2, 1, 1, 1, 1, (3, 5, 5)),
]

# in, out, kernel, kernels, stride, padding, dilation, groups, bias, (batch, height, width)
DYCONV = [
    (9, 6, 3, 1, 1, 1, 1, 3, True, (2, 5, 4)),
    (12, 20, 3, 4, 2, 1, 1, 1, False, (2, 9, 11)),
    (3, 11, 5, 4, 2, 2, 1, 1, True, (2, 11, 10)),
    (17, 9, 1, 4, 1, 0, 1, 1, False, (3, 5, 6)),
    (7, 5, 3, 8, 1, 0, 1, 1, True, (1, 6, 5)),
    (8, 12, 3, 4, 1, 2, 2, 1, False, (2, 8, 7)),
    (8, 12, 3, 4, 1, 1, 1, 2, True, (3, 6, 7)),
    (20, 20, 3, 4, 2, 1, 1, 20, True, (2, 9, 8)),
    (16, 24, 1, 2, 2, 0, 1, 1, True, (2, 7, 8)),
    (5, 7, 3, 3, 1, 1, 1, 1, False, (3, 1, 1)),
    (11, 6, 3, 4, 1, 1, 1, 1, True, (3, 7, 9)),
    (1, 3, 3, 4, 1, 1, 1, 1, True, (2, 5, 6)),
]

# kind, in, out, kernel, stride, padding, (batch, height, width)
DCD = [
    ("basic", 16, 10, 3, 1, 1, (3, 8, 8)),
    ("basic", 9, 13, 3, 2, 1, (3, 7, 9)),
    ("basic", 12, 20, 3, 2, 1, (2, 6, 9)),
    ("basic", 20, 12, 3, 1, 1, (1, 5, 3)),
    ("basic", 4, 6, 3, 1, 1, (2, 1, 1)),
    ("basic", 3, 8, 3, 1, 1, (2, 1, 5)),
    ("basic", 33, 18, 3, 2, 1, (2, 5, 5)),
    ("conv", 16, 9, 1, 1, 0, (3, 7, 5)),
    ("conv", 40, 12, 3, 2, 1, (2, 9, 7)),
    ("conv", 20, 7, 5, 1, 2, (3, 6, 8)),
    ("conv", 50, 17, 1, 2, 0, (2, 7, 7)),
    ("conv", 64, 10, 1, 1, 0, (2, 1, 1)),
    ("conv", 37, 8, 3, 1, 1, (1, 5, 6)),
]

# in, out, L, s, batch; the public classifier has L = s = 32
DYCLS = [(20, 11, 32, 32, 2), (37, 23, 6, 5, 3), (16, 40, 12, 8, 1)]

# layers of a warehouse: in, out, kernel, stride, padding, groups, act
WIDEN_8, NARROW_16 = (8, 16, 1, 1, 0, 1, "relu"), (16, 8, 1, 1, 0, 1, "none")
CONV_8, FIRST_8, LAST_8 = (8, 8, 3, 1, 1, 1, "relu"), (8, 8, 1, 1, 0, 1, "relu"), (8, 8, 1, 1, 0, 1, "none")
TAPS = [(6, 6, 3, 1, 1, 1, "relu"), (6, 12, 3, 2, 1, 1, "relu"), (12, 6, 3, 1, 1, 1, "none")]
DEPTHWISE = [(12, 12, 3, 2, 1, 12, "relu"), (12, 12, 3, 1, 1, 12, "none")]

# name, cell_num_ratio, (in-, outplane, basis ratios), one tap to a cell, layers, (batch, height, width)
WAREHOUSE = [
    ("r1", 1, (1, 1, 1), True, [CONV_8, WIDEN_8, NARROW_16], (3, 7, 6)),
    ("r2", 2, (1, 1, 1), True, [(6, 6, 3, 1, 1, 1, "relu"), (6, 12, 1, 1, 0, 1, "none")], (2, 5, 7)),
    ("half", 0.5, (1, 0.5, 1), True, [CONV_8, LAST_8], (2, 6, 6)),
    ("r4", 4, (1, 1, 1), True, [(9, 27, 1, 1, 0, 1, "none")], (3, 5, 4)),
    ("grid", 1, (1, 1, 1), True, [(10, 15, 1, 1, 0, 1, "relu"), (15, 10, 1, 2, 0, 1, "none")], (3, 5, 5)),
    ("grid3", 1, (0.5, 1, 1), True, [(10, 7, 3, 1, 1, 1, "none")], (2, 6, 7)),
    ("taps", 1, (1, 1, 1), False, TAPS, (2, 9, 7)),
    ("taps5", 2, (0.5, 0.5, 1), False, [(6, 4, 5, 1, 2, 1, "relu"), (4, 4, 5, 1, 0, 1, "none")], (2, 7, 8)),
    ("basis", 1, (1, 1, 0.5), True, [CONV_8, WIDEN_8, NARROW_16], (3, 5, 6)),
    ("basis2", 2, (1, 1, 0.95), True, [(4, 4, 3, 1, 1, 1, "relu"), (4, 4, 3, 1, 1, 1, "none")], (2, 6, 5)),
    ("basis_half", 0.5, (1, 0.5, 0.25), True, [FIRST_8, CONV_8, LAST_8], (2, 4, 5)),
    ("depthwise", 1, (1, 1, 1), True, DEPTHWISE, (3, 9, 7)),
    ("groups", 1, (1, 0.5, 1), True, [(8, 12, 3, 1, 1, 2, "none")], (2, 6, 7)),
    ("stem", 1, (1, 1, 1), True, [(3, 10, 3, 2, 1, 1, "relu")], (2, 9, 11)),
    ("wide", 1, (1, 1, 1), True, [(272, 8, 1, 1, 0, 1, "none")], (2, 2, 3)),
    ("point", 1, (1, 1, 1), True, [(7, 7, 3, 1, 1, 1, "relu"), (7, 7, 3, 1, 1, 1, "none")], (1, 1, 1)),
]

# out, in / groups, M, layers of (kernel height, width, stride, padding, groups, dilation, act), (batch, height, width)
ACDC = [
    (6, 6, 3, [(3, 3, 1, 1, 1, 1, "relu"), (3, 3, 2, 1, 1, 1, "relu"), (3, 3, 1, 1, 1, 1, "none")], (2, 9, 8)),
    (10, 5, 2, [(3, 3, 1, 0, 1, 1, "none")], (3, 7, 6)),
    (8, 4, 4, [(3, 3, 1, 1, 1, 1, "relu"), (5, 5, 1, 2, 2, 1, "relu"), (1, 1, 1, 0, 2, 1, "none")], (2, 7, 9)),
    (9, 9, 6, [(3, 3, 1, 2, 1, 2, "relu"), (5, 5, 1, 2, 1, 1, "none")], (1, 10, 7)),
    (12, 1, 12, [(3, 3, 2, 1, 12, 1, "relu"), (3, 3, 1, 1, 12, 1, "none")], (2, 8, 9)),
    (17, 11, 1, [(5, 5, 2, 2, 1, 1, "none")], (2, 11, 9)),
    (16, 16, 3, [(3, 3, 1, 1, 1, 1, "relu"), (1, 1, 1, 0, 1, 1, "relu"), (3, 3, 1, 1, 1, 1, "none")], (3, 6, 6)),
    (5, 5, 3, [(3, 5, 1, 2, 1, 1, "none")], (2, 6, 7)),
    (7, 7, 2, [(3, 3, 1, 1, 1, 1, "relu"), (3, 3, 1, 1, 1, 1, "none")], (2, 1, 1)),
]

# in, out, kernel, bits, stride, padding, groups, bias, (batch, height, width)
SPARSE = [
    (8, 12, 3, 6, 1, 1, 1, False, (2, 7, 8)),
    (16, 20, 3, 5, 2, 1, 1, True, (3, 9, 7)),
    (7, 9, 3, 4, 1, 1, 1, True, (2, 6, 6)),
    (5, 11, 3, 3, 1, 0, 1, False, (2, 8, 7)),
    (6, 10, 3, 9, 1, 1, 2, True, (2, 5, 6)),
    (13, 13, 3, 5, 2, 1, 13, False, (3, 9, 8)),
    (24, 17, 3, 6, 1, 1, 1, True, (1, 4, 5)),
    (4, 6, 5, 7, 1, 2, 1, False, (2, 7, 6)),
    (3, 5, 3, 1, 1, 1, 1, True, (2, 1, 1)),
]

# kind, channels, out, groups, kernel height, width, one kernel for all, stride, padding, mode, (batch, height, width)
RUNTIME = [
    ("dense", 6, 10, 1, 3, 3, False, 1, 1, "zeros", (3, 7, 6)),
    ("dense", 5, 8, 1, 3, 3, True, 2, 1, "zeros", (3, 9, 8)),
    ("dense", 8, 12, 2, 3, 3, False, 2, 1, "zeros", (2, 8, 9)),
    ("dense", 6, 9, 3, 5, 5, False, 1, 2, "circular", (2, 6, 7)),
    ("dense", 17, 11, 1, 1, 1, False, 1, 0, "zeros", (3, 4, 5)),
    ("dense", 4, 4, 1, 3, 5, False, 1, 2, "zeros", (2, 6, 7)),
    ("depthwise", 10, 10, 1, 3, 3, False, 1, 1, "zeros", (3, 8, 7)),
    ("depthwise", 19, 19, 1, 5, 5, True, 2, 2, "circular", (2, 9, 10)),
    ("depthwise", 7, 7, 1, 7, 7, False, 2, 3, "zeros", (2, 11, 9)),
    ("depthwise", 8, 8, 1, 3, 3, False, 1, 0, "zeros", (1, 5, 6)),
    ("shared", 3, 3, 1, 11, 11, False, 2, 5, "circular", (2, 16, 14)),
    ("shared", 3, 3, 1, 11, 11, False, 4, 5, "circular", (3, 16, 20)),
    ("shared", 5, 5, 1, 15, 15, True, 3, 7, "circular", (2, 13, 17)),
    ("shared", 9, 9, 1, 3, 3, False, 1, 1, "zeros", (3, 6, 5)),
    ("shared", 3, 3, 1, 4, 4, True, 1, 2, "circular", (2, 7, 6)),
    ("shared", 2, 2, 1, 7, 7, False, 1, 3, "circular", (2, 3, 4)),
]

# channels, kernel, padding, (batch, height, width)
X_VOLUTION = [
    (8, 3, 1, (2, 7, 6)),
    (5, 3, 1, (3, 5, 9)),
    (17, 3, 1, (1, 6, 6)),
    (6, 5, 2, (2, 8, 7)),
    (7, 3, 0, (2, 6, 5)),
    (4, 3, 2, (2, 4, 5)),
    (6, 1, 0, (2, 5, 4)),
    (9, 3, 1, (3, 1, 1)),
]

# channels, large kernel, small kernel, channels that share one, (batch, height, width)
LSCONV = [
    (32, 7, 3, 8, (2, 7, 6)),
    (24, 5, 3, 4, (3, 5, 9)),
    (10, 7, 5, 2, (1, 6, 7)),
    (6, 3, 1, 3, (2, 5, 4)),
    (40, 7, 3, 1, (2, 4, 5)),
]

# in, out, kernel, kernels, stride, padding, dilation, bands, local, bias, (batch, height, width)
FDCONV = [
    (16, 24, 3, 4, 1, 1, 1, True, True, False, (2, 7, 6)),
    (8, 12, 3, 2, 2, 1, 1, True, True, True, (3, 9, 11)),
    (20, 18, 1, 6, 1, 0, 1, False, True, True, (2, 5, 6)),
    (12, 16, 3, 1, 1, 2, 2, True, True, False, (2, 8, 10)),
    (40, 10, 3, 5, 1, 1, 1, True, False, False, (1, 12, 14)),
    (6, 34, 5, 4, 1, 2, 1, False, True, False, (2, 6, 5)),
    (10, 12, 3, 3, 1, 1, 1, True, True, False, (2, 1, 2)),
    (4, 4, 3, 4, 1, 1, 1, True, True, False, (2, 17, 33)),
]


# in, out, kernel, kernels, context, stride, padding, dilation, groups, bias, temperature, (batch, height, width)
DYMN = [
    (6, 10, 1, 4, 16, 1, 0, 1, 1, False, 1.0, (3, 5, 7)),
    (12, 12, 3, 4, 9, 2, 1, 1, 12, True, 1.0, (2, 9, 8)),
    (8, 12, 3, 3, 32, 1, 2, 2, 2, False, 4.5, (2, 8, 7)),
    (16, 16, 5, 4, 5, 1, 2, 1, 16, False, 30.0, (1, 11, 6)),
]

# in, out, kernel, style vector (0: the style itself), demodulated, eps, stride, padding, bias, (batch, height, width)
MODULATED = [
    (6, 10, 3, 12, True, 1e-8, 1, 1, True, (3, 7, 6)),
    (9, 3, 1, 7, False, 1e-8, 1, 0, True, (2, 6, 5)),
    (8, 5, 3, 0, True, 0.25, 2, 1, False, (2, 9, 8)),
    (17, 33, 3, 5, True, 1e-8, 1, 0, False, (1, 6, 7)),
]

# name, channels, expanded, out, kernel, stride, context, (batch, frequencies, times)
DYMN_BLOCKS = [
    ("dymn_block_s1", 8, 24, 8, 3, 1, 16, (3, 10, 14)),
    ("dymn_block_s2", 6, 20, 11, 5, 2, 8, (2, 9, 12)),
]


def sample_of(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """An input [B, C, H, W] whose samples differ in size and in their channels' means."""
    rng = torch.Generator().manual_seed(seed + 1000)
    x = torch.randn(shape, generator=rng)
    return x * torch.linspace(0.5, 1.5, shape[0]).view(-1, 1, 1, 1) + torch.randn(*shape[:2], 1, 1, generator=rng)


def save(folder: Path, name: str, case: dict[str, Any], state: dict[str, torch.Tensor], x: torch.Tensor) -> None:
    y = run_case(case, state, x).float()
    save_file(dict(sorted((state | {"input": x, "output": y}).items())), folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(case, indent=1))
    print(f"{name}: {tuple(x.shape)} -> {tuple(y.shape)}, largest {y.abs().max():.3g}")


def write(
    folder: Path,
    name: str,
    case: dict[str, Any],
    module: nn.Module,
    shape: tuple[int, ...],
    seed: int,
    settled: bool = False,
) -> None:
    """A case with the module's random weights; ``settled``: with batch norms that fit the input."""
    x = sample_of(shape, seed)
    randomise(module, seed, sample=x if settled else None)
    save(folder, name, case, {k: v.detach().clone() for k, v in module.state_dict().items()}, x)


def write_dynamic(folder: Path) -> None:
    """Cases of ODConv, DyConv, DCD and KernelWarehouse."""
    for seed, (c, o, k, n, s, p, d, g, (b, h, w)) in enumerate(ODCONV, 200):
        name = f"odconv_c{c}_o{o}_k{k}_n{n}_s{s}_p{p}_d{d}_g{g}"
        case = {"family": "odconv", "stride": s, "padding": p, "groups": g} | ({"dilation": d} if d > 1 else {})
        write(folder, name, case, ODConv2d(c, o, k, s, p, d, g, n), (b, c, h, w), seed, True)
    for seed, (c, o, k, n, s, p, d, g, bias, (b, h, w)) in enumerate(DYCONV, 300):
        name = f"dyconv_c{c}_o{o}_k{k}_n{n}_s{s}_p{p}_d{d}_g{g}{'_bias' if bias else ''}"
        case = {"family": "dyconv", "stride": s, "padding": p, "groups": g} | ({"dilation": d} if d > 1 else {})
        write(folder, name, case, DyConv2d(c, o, k, s, p, d, g, bias, n), (b, c, h, w), seed, True)
    for seed, (kind, c, o, k, s, p, (b, h, w)) in enumerate(DCD, 400):
        case = {"family": "dcd", "kind": kind, "stride": s} | ({"kernel": k, "padding": p} if kind == "conv" else {})
        module = DCDConv2d(c, o, k, s, p, pool=2 if kind == "basic" else 1)
        write(folder, f"dcd_{kind}_c{c}_o{o}_k{k}_s{s}_{h}x{w}", case, module, (b, c, h, w), seed, True)
    for seed, (c, o, rank, squeeze, b) in enumerate(DYCLS, 450):
        module = AsClassifier(c, o, rank, squeeze)
        case = {"family": "dcd", "kind": "classifier"}
        write(folder, f"dcd_classifier_c{c}_o{o}_l{rank}", case, module, (b, c, 1, 1), seed, True)
    for seed, (name, ratio, (inplane, outplane, basis), taps, layers, (b, h, w)) in enumerate(WAREHOUSE, 500):
        manager = KWManager(ratio, inplane, outplane, basis, taps)
        convs = [manager.conv("", c, o, k, s, p, g) for c, o, k, s, p, g, _ in layers]
        module = KWChain(manager, convs, [act for *_, act in layers])
        case: dict[str, Any] = {"family": "kernel_warehouse", "cell_num_ratio": float(ratio)}
        case |= {"nonlocal_basis_ratio": basis} if basis < 1 else {}
        case["layers"] = []
        for _, _, k, s, p, g, act in layers:
            extra = {key: v for key, v in {"stride": s, "groups": g}.items() if v > 1}
            case["layers"].append({"kernel": k, "padding": p, "act": act} | extra)
        write(folder, f"kw_{name}", case, module, (b, layers[0][0], h, w), seed, True)
    for seed, (c, large, small, share, (b, h, w)) in enumerate(LSCONV, 1100):
        name = f"lsconv_c{c}_l{large}_k{small}_s{share}_{h}x{w}"
        module = LSConv(c, large, small, share)
        write(folder, name, {"family": "lsconv", "kernel": small}, module, (b, c, h, w), seed, True)
    for seed, (c, o, k, n, s, p, d, bands, local, bias, (b, h, w)) in enumerate(FDCONV, 1200):
        module, x = FDConv(c, o, k, s, p, d, bias, n, bands, local), sample_of((b, c, h, w), seed)
        randomise(module, seed, sample=x)
        rng = torch.Generator().manual_seed(seed)
        # That of a random kernel.
        spectrum = torch.fft.rfft2(torch.randn(o * k, c * k, generator=rng) * (1.4 / (c * k * k)) ** 0.5)
        module.dft_weight.data = torch.view_as_real(spectrum)[None] / (min(o, c) // 2)
        state = {key: v.detach().clone() for key, v in module.state_dict().items() if key != "dft_weight"}
        state["weight"] = disjoint_kernels(module.double()).float().contiguous()
        case = {"family": "fdconv", "stride": s, "padding": p, "groups": 1} | ({"dilation": d} if d > 1 else {})
        name = f"fdconv_c{c}_o{o}_k{k}_n{n}_s{s}{'_bands' if bands else ''}{'_local' if local else ''}_{h}x{w}"
        save(folder, name, case, state, x)


def write_composed(folder: Path) -> None:
    """Cases of ACDC, sparse kernels, kernels given as an input and X-volution."""

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(shape, generator=rng) * std

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=rng) + 0.5

    for seed, (o, cg, m, layers, (b, h, w)) in enumerate(ACDC, 600):
        rng = torch.Generator().manual_seed(seed)
        state = {"coefficients": normal(o, cg, m, std=(1.4 / (cg * m)) ** 0.5)}
        case = {"family": "acdc", "layers": []}
        for i, (kh, kw, s, p, g, d, act) in enumerate(layers):
            state[f"layers.{i}.atoms"] = normal(m, kh, kw, std=(kh * kw) ** -0.5)
            layer = {"stride": s, "padding": p, "groups": g, "dilation": d, "act": act}
            case["layers"].append({key: v for key, v in layer.items() if key not in ("groups", "dilation") or v > 1})
        name = f"acdc_o{o}_c{cg}_m{m}_" + "_".join(f"{kh}x{kw}" for kh, kw, *_ in layers)
        save(folder, name, case, state, sample_of((b, cg * layers[0][4], h, w), seed))
    for seed, (c, o, k, bits, s, p, g, bias, (b, h, w)) in enumerate(SPARSE, 700):
        rng = torch.Generator().manual_seed(seed)
        state = {
            "codebook": torch.randint(0, 2, (2**bits, k, k), generator=rng) * 2.0 - 1,
            "index": pack_bits(torch.randint(0, 2**bits, (o * (c // g),), generator=rng), bits),
            "alpha": uniform(o) * (c // g * k * k) ** -0.5,
        } | ({"bias": normal(o, std=0.5)} if bias else {})
        case = {"family": "sparse_kernel", "stride": s, "padding": p, "groups": g, "bits": bits}
        save(folder, f"sparse_c{c}_o{o}_k{k}_b{bits}_s{s}_g{g}", case, state, sample_of((b, c, h, w), seed))
    for seed, (kind, c, o, g, kh, kw, one, s, p, mode, (b, h, w)) in enumerate(RUNTIME, 800):
        rng = torch.Generator().manual_seed(seed)
        inner = {"dense": (o, c // g, kh, kw), "depthwise": (c, kh, kw), "shared": (kh, kw)}[kind]
        fan_in = kh * kw * (c // g if kind == "dense" else 1)
        kernel = normal(1 if one else b, *inner, std=(1.4 / fan_in) ** 0.5)
        case = {"family": "runtime_kernel", "kind": kind, "stride": s, "padding": p, "padding_mode": mode}
        case |= {"groups": g} if kind == "dense" else {}
        name = f"runtime_{kind}_c{c}_{kh}x{kw}_s{s}_{mode}_{'one' if one else 'each'}{f'_g{g}' if g > 1 else ''}"
        save(folder, name, case, {"kernel": kernel}, sample_of((b, c, h, w), seed))
    for seed, (c, k, p, (b, h, w)) in enumerate(X_VOLUTION, 900):
        rng = torch.Generator().manual_seed(seed)
        state = {"weight": normal(c, c, k, k, std=(1.4 / (c * k * k)) ** 0.5), "bias": normal(c, std=0.5)}
        state |= {"w_q": uniform(1), "w_k": -uniform(1), "w_v": uniform(1) / (c * k * k)}
        case = {"family": "x_volution", "padding": p}
        save(folder, f"xvolution_c{c}_k{k}_p{p}_{h}x{w}", case, state, sample_of((b, c, h, w), seed))


def write_contextual(folder: Path) -> None:
    """Cases of layers that are routed by a context, ``context`` [B, D]."""
    for seed, (c, o, k, n, d, s, p, dilation, g, bias, temperature, (b, h, w)) in enumerate(DYMN, 1100):
        rng = torch.Generator().manual_seed(seed)

        def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
            return torch.randn(shape, generator=rng) * std

        state = {
            "weight": normal(n, o, c // g, k, k, std=(3 / (c // g * k * k)) ** 0.5),
            "residuals.0.weight": normal(n, d, std=temperature * (2 / d) ** 0.5),
            "residuals.0.bias": normal(n, std=0.5),
            "context": normal(b, d),
        } | ({"bias": normal(n, o)} if bias else {})
        case: dict[str, Any] = {"family": "dymn", "stride": s, "padding": p, "groups": g}
        case |= {"dilation": dilation} if dilation > 1 else {}
        case |= {"temperature": temperature} if temperature != 1 else {}
        save(folder, f"dymn_c{c}_o{o}_k{k}_n{n}_s{s}_g{g}", case, state, sample_of((b, c, h, w), seed))
    for seed, (c, o, k, d, demodulate, eps, s, p, bias, (b, h, w)) in enumerate(MODULATED, 1200):
        rng = torch.Generator().manual_seed(seed)

        def normal(*shape: int, std: float = 1.0) -> torch.Tensor:
            return torch.randn(shape, generator=rng) * std

        state = {"weight": normal(o, c, k, k, std=(1.4 / (c * k * k)) ** 0.5), "context": normal(b, d or c) + (d == 0)}
        state |= {"affine.weight": normal(c, d, std=(1 / d) ** 0.5), "affine.bias": 1 + normal(c, std=0.2)} if d else {}
        state |= {"bias": normal(o)} if bias else {}
        case = {"family": "modulated", "stride": s, "padding": p} | ({} if demodulate else {"demodulate": 0})
        case |= {"eps": eps} if eps != 1e-8 else {}
        save(folder, f"modulated_c{c}_o{o}_k{k}_d{d}_s{s}", case, state, sample_of((b, c, h, w), seed))


def write_dymn_blocks(folder: Path) -> None:
    """Whole blocks as network files; their outputs are the independent formula's."""
    for seed, (name, c, e, o, k, s, d, (b, h, w)) in enumerate(DYMN_BLOCKS, 1300):
        module, x = DyMNBlock(c, e, o, k, s, d), sample_of((b, c, h, w), seed)
        randomise(module, seed, sample=x)
        path = folder / f"{name}.safetensors"
        export(module.eval(), x, path, input_names=["image"], output_names=["features"])
        case, state = {"stride": s, "kernel": k}, {key: t.double().numpy() for key, t in module.state_dict().items()}
        y = torch.from_numpy(formulas.dymn_block(case, state, x.double().numpy()))
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path) | {"input.image": x, "output.features": y.float()}
        save_file(dict(sorted(tensors.items())), path, metadata)


def write_networks(folder: Path) -> None:
    """Network files that also hold ``input.NAME`` and ``output.NAME``, which a reader has to take out first."""
    folder.mkdir(parents=True, exist_ok=True)
    head = PyramidHead(channels=16, classes=5).eval()
    randomise(head, 1000)
    maps = [sample_of((2, 16, h, w), 1000 + i) for i, (h, w) in enumerate(((12, 10), (6, 5), (3, 3)))]
    levels = ("p3", "p4", "p5")
    outputs = [f"{level}.{part}" for level in levels for part in PyramidHead.BRANCHES]
    write_dymn_blocks(folder)
    path = folder / "pyramid_head.safetensors"
    export(head, maps, path, output_names=outputs)
    values = [y.float() for level in head.double()(*(x.double() for x in maps)) for y in level]
    with safe_open(path, "pt") as file:
        names, metadata = [i["name"] for i in json.loads(file.metadata()["kdna.graph"])["inputs"]], file.metadata()
    tensors = load_file(path) | {f"input.{n}": x for n, x in zip(names, maps)}
    tensors |= {f"output.{n}": y.detach() for n, y in zip(outputs, values)}
    save_file(dict(sorted(tensors.items())), path, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, make, (kind, stride), shape) in enumerate(DNA):
        write(folder, name, {"family": "kerneldna", "kind": kind, "stride": stride}, make(), shape, seed)
    for seed, (c, o, k, n, s, p, g, bias, (b, h, w)) in enumerate(CONDCONV, 100):
        name = f"condconv_c{c}_o{o}_k{k}_n{n}_s{s}_p{p}_g{g}{'_bias' if bias else ''}"
        case = {"family": "condconv", "stride": s, "padding": p, "groups": g}
        write(folder, name, case, CondConv2d(c, o, k, n, s, p, g, bias), (b, c, h, w), seed)
    write_dynamic(folder)
    write_composed(folder)
    write_contextual(folder)
    write_networks(folder / "networks")


if __name__ == "__main__":
    main()
