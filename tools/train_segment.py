#!/usr/bin/env python3
"""Trains segment_dna or segment_plain on scenes of ``make_scenes.py`` and reports the mean IoU on the test scenes.

The last epoch counts: nothing is picked by test score. With ``--holdout N`` the last N training scenes are left out of
training and reported on instead of the test scenes (for choosing settings). Writes OUT.safetensors, a network file
(``docs/graph-file.md``), and OUT.json, what came out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from idx import read_idx
from kdna_torch import build, export, multiply_adds, parameter_count
from make_scenes import CLASSES, SIZE
from training import channels_last, parameter_groups

MEAN, STD = 0.45, 0.22  # of the training scenes / 255, rounded


def read_scenes(stem: Path) -> tuple[Tensor, Tensor]:
    """Grey values and classes, uint8 [N, SIZE, SIZE]."""
    names = [stem.with_name(f"{stem.name}-{part}-idx3-ubyte.gz") for part in ("images", "labels")]
    images, labels = (torch.from_numpy(read_idx(name)) for name in names)
    return images, labels


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W] -> float [B, 1, H, W]."""
    return ((pixels.float() / 255 - MEAN) / STD).unsqueeze(1)


def confusion_of(labels: Tensor, found: Tensor) -> Tensor:
    """Pixels of each true class (rows) taken for each class (columns), int64 [CLASSES, CLASSES]."""
    pairs = (labels.long() * CLASSES + found).flatten()
    return torch.bincount(pairs, minlength=CLASSES * CLASSES).view(CLASSES, CLASSES)


@torch.no_grad()
def evaluate(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The confusion matrix of a network; float32, eval mode."""
    net.eval()
    found = [net(normalise(x)).argmax(1) for x in images.split(50)]
    return confusion_of(labels, torch.cat(found))


def intersection_over_union(counts: Tensor) -> Tensor:
    """IoU of each class in per cent: its pixels found, over those that are or were taken for it."""
    right = counts.diagonal().double()
    return 100 * right / (counts.sum(0) + counts.sum(1) - right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=("segment_dna", "segment_plain"), required=True)
    parser.add_argument("--scenes", type=Path, required=True, help="folder with the scenes train and test")
    parser.add_argument("--out", type=Path, required=True, help="stem of the written .safetensors and .json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-2, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast while training")
    parser.add_argument("--limit", type=int, help="use only the first training scenes")
    parser.add_argument("--holdout", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = torch.Generator().manual_seed(args.seed)
    images, labels = read_scenes(args.scenes / "train")
    if args.holdout:
        test_images, test_labels = images[-args.holdout :], labels[-args.holdout :]
        images, labels = images[: -args.holdout], labels[: -args.holdout]
    else:
        test_images, test_labels = read_scenes(args.scenes / "test")
    images, labels = images[: args.limit], labels[: args.limit]

    net = channels_last(build(args.arch))
    opt = torch.optim.AdamW(parameter_groups(net, args.weight_decay), lr=args.lr, fused=True)
    steps = len(images) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, args.lr, total_steps=args.epochs * steps, pct_start=0.25)
    print(f"{args.arch}: {parameter_count(net)} parameters; {vars(args)}", flush=True)

    start = time.monotonic()
    for epoch in range(1, args.epochs + 1):
        net.train()
        order = torch.randperm(len(images), generator=rng)[: steps * args.batch]
        total = 0.0
        for step, batch in enumerate(order.split(args.batch), 1):
            x, truth = normalise(images[batch]), labels[batch].long()
            if torch.rand((), generator=rng) < 0.5:
                x, truth = x.flip(3), truth.flip(2)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = F.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), truth)
            opt.zero_grad()
            loss.backward()
            opt.step()
            schedule.step()
            total += loss.item()
            if step % 100 == 0 or step == steps:
                mean, total = total / ((step - 1) % 100 + 1), 0.0
                seconds = time.monotonic() - start
                print(f"epoch {epoch}, step {step} of {steps}: loss {mean:.4f}, {seconds:.0f} s", flush=True)

    counts = evaluate(net, test_images, test_labels)
    iou = intersection_over_union(counts)
    report = {
        "arch": args.arch,
        "seed": args.seed,
        "parameters": parameter_count(net),
        "multiply_adds": multiply_adds(args.arch, (1, SIZE, SIZE)),
        "scenes": len(test_labels),
        "loss": round(mean, 4),
        "mean_iou": round(iou.mean().item(), 3),
        "iou": [round(v, 2) for v in iou.tolist()],
        "pixel_accuracy": round(100 * (counts.diagonal().sum() / counts.sum()).item(), 3),
        "confusion": counts.tolist(),
    }
    args.out.with_suffix(".json").write_text(json.dumps(report) + "\n")
    export(net.eval(), normalise(test_images[:2]), args.out.with_suffix(".safetensors"))
    print(f"{args.arch} seed {args.seed}: mean IoU {report['mean_iou']} % on {len(test_labels)} scenes", flush=True)


if __name__ == "__main__":
    main()
