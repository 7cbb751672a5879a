#!/usr/bin/env python3
"""Trains a linear Kernel-U-Net to forecast four years of weekly CO2 at Mauna Loa from the four years before.

train_forecast.py --out examples/data writes co2.csv (statsmodels' series, public domain, gaps filled linearly) and forecast.safetensors.
The first four fifths of the weeks are trained on; every window whose forecast lies in the rest is tested.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_torch import export, parameter_count
from kdna_torch.kernel_unet import KernelUNet, seasonal

LENGTH, SEASON = 208, 52


def weekly_co2() -> tuple[list[str], Tensor]:
    """The weeks' first days, and ppm."""
    from statsmodels.datasets import co2

    frame = co2.load_pandas().data.interpolate()
    return [str(day.date()) for day in frame.index], torch.from_numpy(frame["co2"].to_numpy(np.float32).copy())


def windows(series: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Pairs [B, 1, LENGTH] of every stretch and what follows, the latter inside of [first, last)."""
    starts = range(max(first - LENGTH, 0), last - 2 * LENGTH + 1)
    both = torch.stack([series[s : s + 2 * LENGTH] for s in starts])[:, None]
    return both[..., :LENGTH], both[..., LENGTH:]


class NLinear(nn.Module):
    """One dense layer from all values to all values, about the last one: what Kernel-U-Net is compared with."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(LENGTH, LENGTH)

    def forward(self, series: Tensor) -> Tensor:
        last = series[:, :, -1:]
        return self.dense(series - last) + last


def train(net: nn.Module, x: Tensor, y: Tensor, epochs: int, rng: torch.Generator) -> None:
    steps, batch = epochs * (len(x) // 32), 32
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=rng)[: len(x) // batch * batch].split(batch):
            loss = F.mse_loss(net(x[part]), y[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def error(found: Tensor, want: Tensor) -> float:
    """Root mean square, ppm."""
    return (found - want).square().mean().sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3, help="the network of the first one is written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    days, series = weekly_co2()
    split = len(series) * 4 // 5
    x, y = windows(series, LENGTH, split)
    tested, want = windows(series, split, len(series))
    print(f"{len(x)} windows for training, {len(tested)} for testing")
    print(f"the last year again, and its growth: {error(seasonal(tested, SEASON), want):.3f} ppm")
    for kind in (KernelUNet, NLinear):
        errors = []
        for seed in range(args.seeds):
            torch.manual_seed(seed)
            net = kind()
            train(net, x, y, args.epochs, torch.Generator().manual_seed(seed))
            with torch.no_grad():
                errors.append(error(net.eval()(tested), want))
            if kind is KernelUNet and not seed:
                export(net, tested[:1], args.out / "forecast.safetensors", input_names=["series"])
        found = ", ".join(f"{e:.3f}" for e in errors)
        print(f"{kind.__name__}, {parameter_count(net)} parameters, seeds 0 to {args.seeds - 1}: {found} ppm")
    rows = "".join(f"{day},{value:.2f}\n" for day, value in zip(days, series.tolist()))
    (args.out / "co2.csv").write_text("week,ppm\n" + rows)


if __name__ == "__main__":
    main()
