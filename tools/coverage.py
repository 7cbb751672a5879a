#!/usr/bin/env python3
"""Exports known networks with random weights, and prints which of them come out the same.

    python coverage.py [--only NAMES] [--kdna-run PROGRAM] [--output TABLE.md]

Every network of torchvision and timm in the lists below gets seeded weights, with batch norms far from identity. It is
exported (the exporter compares the file with the module in double precision, at two sizes) and, with --kdna-run, run by
``PROGRAM --model F --input X.npy --output Y.npy``, whose output is compared with the module's in double precision.
Exit codes: 0 all well or refused, 1 a wrong result.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdna_torch import ExportError, export
from kdna_torch.checkpoint import settle
from kdna_torch.interpret import Network

TORCHVISION = (
    "alexnet vgg11 vgg16_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 inception_v3 googlenet "
    "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet1_0 shufflenet_v2_x1_0 squeezenet1_1 efficientnet_b0 "
    "efficientnet_v2_s regnet_y_400mf regnet_x_400mf convnext_tiny"
).split()
SEGMENTATION = "fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large".split()
TIMM = (
    "resnet26d resnet50_gn ecaresnet26t seresnet33ts skresnet18 resnest14d res2net50_26w_4s resnetv2_50 "
    "resnetv2_50x1_bit nf_resnet50 eca_nfnet_l0 regnetx_002 regnety_002 regnetz_b16 efficientnet_b0 efficientnet_lite0 "
    "tf_efficientnet_b0 tf_efficientnetv2_b0 tf_efficientnet_cc_b0_4e mixnet_s tf_mixnet_s mnasnet_100 mobilenetv2_100 "
    "mobilenetv3_large_100 tf_mobilenetv3_large_100 mobilenetv4_conv_small fbnetc_100 fbnetv3_b spnasnet_100 "
    "ghostnet_100 ghostnetv2_100 hardcorenas_a lcnet_050 tinynet_e rexnet_100 repvgg_a0 repghostnet_050 mobileone_s0 "
    "repvit_m0_9 densenet121 darknet53 cspresnet50 cspdarknet53 dla34 dpn68 hrnet_w18_small ese_vovnet19b_dw selecsls42 "
    "inception_v4 inception_resnet_v2 xception41 legacy_xception convnext_atto convnextv2_atto convmixer_768_32 "
    "inception_next_tiny starnet_s1 fastvit_t8 poolformer_s12 hgnet_tiny hgnetv2_b0 gernet_s tresnet_m vgg11_bn "
    "edgenext_xx_small mobilevit_xxs efficientvit_b0 rdnet_tiny"
).split()


def make_torchvision(name: str) -> nn.Module:
    import torchvision

    more = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(name, weights=None, **more)


def make_segmentation(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None, weights_backbone=None)


def make_timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False)


@torch.no_grad()
def scatter(module: nn.Module, seed: int, sample: Tensor) -> None:
    """Seeded weights that keep activations in a sane range, and norms far from identity."""
    rng = torch.Generator().manual_seed(seed)

    def normal(t: Tensor, std: float) -> None:
        t.copy_(torch.randn(t.shape, generator=rng) * std)

    def uniform(t: Tensor, low: float, high: float) -> None:
        t.copy_(torch.rand(t.shape, generator=rng) * (high - low) + low)

    norms = {name for name, m in module.named_modules() if "Norm" in type(m).__name__ or isinstance(m, _BatchNorm)}
    for name, t in module.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        if not t.is_floating_point():
            continue
        if leaf == "running_var":
            uniform(t, 0.5, 2.0)
        elif leaf == "running_mean":
            normal(t, 0.2)
        elif owner in norms and leaf == "weight":
            uniform(t, 0.5, 1.5)
        elif t.ndim >= 2 and leaf in ("weight", "kernel") and t[0].numel() > 1:
            fan_in = t[0].numel() if "experts" not in leaf else t.shape[-1]
            normal(t, (1.4 / fan_in) ** 0.5)
        elif leaf in ("gamma", "gain", "scale") or t.ndim >= 3:
            uniform(t, 0.2, 0.8)
        elif t.numel() and t.ndim and leaf != "attn_mask":
            normal(t, 0.2)
    settle(module, sample, rng)


def run_program(program: str, network: Path, x: Tensor, want: Tensor) -> float:
    """The relative error of what the program gives for x; raises RuntimeError with its message where it fails."""
    source, target = network.with_suffix(".x.npy"), network.with_suffix(".y.npy")
    np.save(source, x.numpy().astype(np.float32))
    command = [program, "--model", str(network), "--input", str(source), "--output", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    found = torch.from_numpy(np.load(target)).double()
    if found.shape != want.shape:
        raise RuntimeError(f"extents {tuple(found.shape)}, expected {tuple(want.shape)}")
    return ((found - want).abs().max() / want.abs().max()).item()


def examine(
    name: str, make: Callable[[str], nn.Module], size: int, program: str | None
) -> tuple[str, str, str, str, bool]:
    """nodes, error, verdict, seconds, and whether all is well."""
    start, notes, wrong = time.time(), [], False
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(7))
    nodes, error, verdict = "", "", ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.safetensors")
        try:
            net = make(name).eval()
            scatter(net, 1, torch.cat([x, x.flip(3)]))
            graph = export(net, x, path, say=notes.append)
            nodes, network = str(len(graph["nodes"])), Network(path)
            exact = next(iter(network([x]).values()))
            verdict = "the same" if exact.abs().max() > 0 else "all zero"
            error = "< 1e-9"
            if program:
                found = run_program(program, path, x, exact)
                error, wrong = f"{found:.1e}", not found < 1e-3
                verdict = "WRONG" if wrong else verdict
        except ExportError as refused:
            verdict = f"refused: {refused}"
            wrong = "error of the exporter" in verdict
        except RuntimeError as failed:
            verdict, wrong = f"FAILED: {(str(failed).splitlines() or [''])[0]}", True
    return nodes, error, "; ".join([verdict, *notes]).replace("|", "\\|"), f"{time.time() - start:.0f}", not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="these networks only")
    parser.add_argument("--size", type=int, default=128, help="height and width of the example")
    parser.add_argument("--kdna-run", help="a program that runs network files")
    parser.add_argument("--output", type=Path, help="where the table goes too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lists: list[tuple[str, list[str], Callable[[str], nn.Module]]] = [
        ("torchvision", TORCHVISION, make_torchvision),
        ("torchvision", SEGMENTATION, make_segmentation),
        ("timm", TIMM, make_timm),
    ]
    rows = ["| network | nodes | relative error | verdict | s |", "| --- | --- | --- | --- | --- |"]
    print(*rows, sep="\n", flush=True)
    good = True
    for package, names, make in lists:
        for name in names:
            if args.only and name not in args.only and f"{package}:{name}" not in args.only:
                continue
            *cells, well = examine(name, make, args.size, args.kdna_run)
            good = good and well
            rows.append(f"| {package} {name} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
            if args.output:
                args.output.write_text("\n".join(rows) + "\n")
    same, refused = sum("the same" in row for row in rows), sum("refused:" in row for row in rows)
    summary: Any = f"{same} the same, {refused} refused, {len(rows) - 2 - same - refused} otherwise"
    print(summary)
    if args.output:
        args.output.write_text("\n".join(rows) + f"\n\n{summary}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
