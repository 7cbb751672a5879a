#!/usr/bin/env python3
"""Writes known-answer cases: NAME.json says what the layer is, NAME.safetensors holds its state_dict, input and output.

Outputs are computed in double precision in eval mode and rounded to float32. The same run gives the same files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from kdna_torch import CondConv2d
from kdna_torch.cases import run_case
from kdna_torch.checkpoint import randomise
from kdna_torch.networks import ResNet18Stage, ResNet50Layer3, ShareCluster

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


def write(folder: Path, name: str, case: dict[str, Any], module: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    randomise(module, seed)
    state = {k: v.detach().clone() for k, v in module.state_dict().items()}
    rng = torch.Generator().manual_seed(seed + 1000)
    x = torch.randn(shape, generator=rng)
    x = x * torch.linspace(0.5, 1.5, shape[0]).view(-1, 1, 1, 1) + torch.randn(*shape[:2], 1, 1, generator=rng)
    y = run_case(case, state, x).float()
    save_file(dict(sorted((state | {"input": x, "output": y}).items())), folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(case, indent=1))
    print(f"{name}: {tuple(shape)} -> {tuple(y.shape)}, largest {y.abs().max():.3g}")


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


if __name__ == "__main__":
    main()
