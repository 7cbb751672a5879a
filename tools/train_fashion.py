#!/usr/bin/env python3
"""Trains a network for Fashion-MNIST, KernelDNA or plain, and reports top-1 on the test images.

The last epoch counts: nothing is picked by test accuracy. With ``--holdout N`` the last N training images are left
out of training and reported on instead of the test set (for choosing settings).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from idx import read_idx
from kdna_torch import ARCHS, build, parameter_count
from training import channels_last, parameter_groups

MEAN, STD = 0.2860, 0.3530  # of the training images / 255


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W] -> float [B, 1, H, W]."""
    return ((pixels.float() / 255 - MEAN) / STD).unsqueeze(1)


def augment(pixels: Tensor, rng: torch.Generator, margin: int = 2) -> Tensor:
    """Per image a random shift of up to ``margin`` pixels (black border) and a random horizontal flip."""
    b, h, w = pixels.shape
    padded = F.pad(pixels, (margin,) * 4)
    dy, dx = torch.randint(0, 2 * margin + 1, (2, b, 1), generator=rng)
    rows, cols = dy + torch.arange(h), dx + torch.arange(w)
    flip = torch.rand(b, 1, generator=rng) < 0.5
    cols = torch.where(flip, cols.flip(1), cols)
    return padded[torch.arange(b)[:, None, None], rows[:, :, None], cols[:, None, :]]


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 in per cent, float32, eval mode."""
    net.eval()
    hits = sum(
        int((net(normalise(x)).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500))
    )
    return 100 * hits / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=[a for a in ARCHS if a.startswith("fashion")], required=True)
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist", help="gzipped IDX files")
    parser.add_argument("--out", type=Path, required=True, help="stem of the written .pt and .safetensors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--adamw", action="store_true", help="instead of SGD: for the ConvNeXts, --lr 4e-3 --weight-decay 0.05")
    parser.add_argument("--lr", type=float, default=0.1, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.1, help="label smoothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast while training")
    parser.add_argument("--holdout", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = torch.Generator().manual_seed(args.seed)

    def read(name: str) -> Tensor:
        return torch.from_numpy(read_idx(args.data / name))

    images = read("train-images-idx3-ubyte.gz")
    labels = read("train-labels-idx1-ubyte.gz").long()
    if args.holdout:
        test_images, test_labels = images[-args.holdout :], labels[-args.holdout :]
        images, labels = images[: -args.holdout], labels[: -args.holdout]
    else:
        test_images = read("t10k-images-idx3-ubyte.gz")
        test_labels = read("t10k-labels-idx1-ubyte.gz").long()

    net = channels_last(build(args.arch))
    groups = parameter_groups(net, args.weight_decay)
    if args.adamw:
        opt: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    else:
        opt = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True, fused=True)
    steps = len(images) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        opt, args.lr, total_steps=args.epochs * steps, pct_start=0.25, cycle_momentum=False
    )
    print(f"{args.arch}: {parameter_count(net)} parameters; {vars(args)}", flush=True)

    start = time.monotonic()
    for epoch in range(1, args.epochs + 1):
        net.train()
        order = torch.randperm(len(images), generator=rng)
        total = 0.0
        for batch in order[: steps * args.batch].split(args.batch):
            x = normalise(augment(images[batch], rng)).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = F.cross_entropy(net(x), labels[batch], label_smoothing=args.smoothing)
            opt.zero_grad()
            loss.backward()
            opt.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - start
        print(f"epoch {epoch}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)

    top1 = accuracy(net, test_images, test_labels)
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    torch.save(state, args.out.with_suffix(".pt"))
    save_file(state, args.out.with_suffix(".safetensors"))
    print(f"{args.arch} seed {args.seed}: top-1 {top1:.2f} % of {len(test_labels)}", flush=True)


if __name__ == "__main__":
    main()
