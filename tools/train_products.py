#!/usr/bin/env python3
"""What over-parameterising an adapter as a product does (docs/questions.md): adapts fashion_dna to inverted images.

Only the filter and spatial factors of the children are trained, by gradient descent with momentum. With depth D a factor 1 + a is the
product of D factors, which are trained together and multiplied out at the end: the network that is deployed is the same.
For every depth the learning rate is chosen on 1,000 training images that are not trained on, with seed 0; then come all seeds, on
the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from idx import read_idx
from kdna_torch import build
from train_fashion import accuracy, normalise
from training import channels_last

ADAPTERS = ("static_filter_attn", "static_spatial_attn")


class Product(nn.Module):
    """An adapter a as 1 + a = (1 + a_1) (1 + a_2) .. (1 + a_D); at the beginning all factors but the first are 1."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, *a: Tensor) -> Tensor:
        return torch.stack(a).add(1).prod(0) - 1

    def right_inverse(self, a: Tensor) -> tuple[Tensor, ...]:
        return a, *(torch.zeros_like(a) for _ in range(self.depth - 1))


def with_products(net: nn.Module, depth: int) -> list[nn.Parameter]:
    """Makes every adapter a product, freezes the rest, and returns what is trained."""
    net.requires_grad_(False)
    for m in list(net.modules()):
        for name in ADAPTERS:
            if isinstance(getattr(m, name, None), nn.Parameter):
                parametrize.register_parametrization(m, name, Product(depth))
    trained = [p for name, p in net.named_parameters() if any(a in name for a in ADAPTERS)]
    for p in trained:
        p.requires_grad_(True)
    return trained


def multiplied_out(net: nn.Module) -> nn.Module:
    """The network with its adapters as plain parameters again."""
    for m in list(net.modules()):
        for name in ADAPTERS:
            if parametrize.is_parametrized(m, name):
                parametrize.remove_parametrizations(m, name)
    return net


def adapted(base: dict[str, Tensor], x: Tensor, y: Tensor, depth: int, rate: float, epochs: int, seed: int) -> nn.Module:
    net = channels_last(build("fashion_dna"))
    net.load_state_dict({**net.state_dict(), **base})
    net.eval()
    optimiser = torch.optim.SGD(with_products(net, depth), rate, momentum=0.9)
    rng = torch.Generator().manual_seed(seed)
    steps = epochs * (len(x) // 50)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=rng).split(50):
            loss = F.cross_entropy(net(normalise(x[part]).contiguous(memory_format=torch.channels_last)), y[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return multiplied_out(net)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist", help="gzipped IDX files")
    parser.add_argument("--base", type=Path, default=Path(__file__).parents[1] / "examples/data/fashion_dna.safetensors")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)

    def read(prefix: str) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(read_idx(args.data / f"{prefix}-images-idx3-ubyte.gz"))
        return 255 - images, torch.from_numpy(read_idx(args.data / f"{prefix}-labels-idx1-ubyte.gz")).long()

    (images, labels), (tested, wanted) = read("train"), read("t10k")
    base = load_file(args.base)
    chosen, chosen_labels = images[-1000:], labels[-1000:]

    def data(seed: int) -> tuple[Tensor, Tensor]:
        some = torch.randperm(len(images) - 1000, generator=torch.Generator().manual_seed(seed))[:2000]
        return images[some], labels[some]

    for depth in args.depths:
        found = {
            rate: accuracy(adapted(base, *data(0), depth, rate, args.epochs, 0), chosen, chosen_labels)
            for rate in args.rates
        }
        best = max(found, key=found.__getitem__)
        print(f"depth {depth}: " + ", ".join(f"rate {r:g} {a:.1f} %" for r, a in found.items()), flush=True)
        results = [
            accuracy(adapted(base, *data(seed), depth, best, args.epochs, seed), tested, wanted)
            for seed in range(args.seeds)
        ]
        text = ", ".join(f"{a:.2f}" for a in results)
        print(f"depth {depth}, rate {best:g}, test images, seeds 0 to {args.seeds - 1}: {text} %", flush=True)


if __name__ == "__main__":
    main()
