#!/usr/bin/env python3
"""Writes known gradients for tests/train: layers.safetensors and network.safetensors in the folder given.

Every case holds its tensors, an input, the gradient of the output or the labels, and under ``grad.NAME`` the gradient of each
of them by PyTorch's autograd in double precision, with batch norms in eval mode. The same run gives the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from kdna_torch.checkpoint import randomise
from kdna_torch.layers import SqueezeExcite
from kdna_torch.networks import ResNet18Stage, ShareCluster
from make_cases import sample_of

# channels, filters, kernel, groups, stride, padding, dilation, hidden units of the gate (0: none), what else, activation, input
LAYERS = [
    (7, 19, 3, 1, 1, 1, 1, 3, "spatial filter bn", "relu", (2, 5, 6)),
    (6, 6, 3, 1, 1, 1, 1, 2, "spatial filter bn residual", "relu", (3, 4, 5)),
    (5, 9, 3, 1, 2, 1, 1, 0, "spatial filter bn", "relu6", (2, 7, 6)),
    (9, 6, 1, 1, 1, 0, 1, 4, "filter bn", "relu6", (2, 4, 3)),
    (5, 5, 1, 1, 1, 0, 1, 0, "filter bn residual", "none", (2, 3, 4)),
    (6, 10, 1, 1, 2, 0, 1, 0, "bn", "relu", (2, 5, 5)),
    (8, 8, 3, 8, 2, 1, 1, 0, "bn", "relu6", (2, 6, 7)),
    (19, 19, 3, 19, 1, 1, 1, 2, "spatial filter bn", "relu", (2, 4, 4)),
    (6, 9, 3, 3, 1, 0, 1, 2, "spatial filter bn", "none", (1, 5, 6)),
    (4, 6, 3, 1, 1, 2, 2, 0, "spatial filter bias", "relu", (2, 6, 5)),
    (3, 5, 5, 1, 2, 2, 1, 1, "spatial filter bias bn", "relu", (2, 8, 7)),
    (6, 7, 1, 1, 1, 0, 1, 0, "bias", "none", (4, 1, 1)),
]


class Layer(nn.Module):
    """act( BN( (1 + a_f) * conv(g(x) * x, W * (1 + a_sp)) + bias ) + x )"""

    def __init__(self, c: int, o: int, k: int, g: int, s: int, p: int, d: int, hidden: int, parts: str, act: str) -> None:
        super().__init__()
        self.moves, self.act, self.residual = {"stride": s, "padding": p, "dilation": d, "groups": g}, act, "residual" in parts
        self.conv = nn.Conv2d(c, o, k, groups=g, bias="bias" in parts)
        self.static_spatial = nn.Parameter(torch.zeros(1, 1, k, k)) if "spatial" in parts else None
        self.static_filter = nn.Parameter(torch.zeros(o, 1, 1, 1)) if "filter" in parts else None
        self.gate = SqueezeExcite(c, hidden) if hidden else None
        self.bn = nn.BatchNorm2d(o) if "bn" in parts else None

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.conv.weight
        for adapter in (self.static_spatial, self.static_filter):
            kernel = kernel if adapter is None else kernel * (1 + adapter)
        y = F.conv2d(x if self.gate is None else self.gate(x), kernel, self.conv.bias, **self.moves)
        y = y if self.bn is None else self.bn(y)
        y = y + x if self.residual else y
        return {"none": lambda t: t, "relu": F.relu, "relu6": F.relu6}[self.act](y)


class Network(nn.Module):
    """A stage of ResNet18, pooling, a cluster of MobileNetV2, and a classifier: [B, 5, H, W] -> [B, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.cluster, self.fc = ResNet18Stage(5, 8, 1), ShareCluster(8, 8, 2, 2), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cluster(F.max_pool2d(self.stage(x), 3, 2, 1)).mean((2, 3)))


def prepared(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights in double that are float32's, and the tensors that a file holds."""
    randomise(module.eval(), seed)
    state = {k: v.detach().clone() for k, v in module.state_dict().items() if v.is_floating_point()}
    module.double()
    return state


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {f"grad.{name}": p.grad.float() for name, p in module.named_parameters()}


def write_layers(path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for i, (c, o, k, g, s, p, d, hidden, parts, act, (b, h, w)) in enumerate(LAYERS):
        layer = Layer(c, o, k, g, s, p, d, hidden, parts, act)
        state = prepared(layer, 2000 + i)
        x = sample_of((b, c, h, w), i)
        x_double = x.double().requires_grad_()
        y = layer(x_double)
        up = torch.randn(y.shape, generator=torch.Generator().manual_seed(i))
        y.backward(up.double())
        case = state | gradients(layer) | {"input": x, "grad.input": x_double.grad.float(), "up": up, "output": y.float()}
        tensors |= {f"{i}.{name}": t.detach() for name, t in case.items()}
        metadata[str(i)] = f"{g} {s} {p} {d} {act} {int('residual' in parts)}"
    save_file(dict(sorted(tensors.items())), path, metadata)


def write_network(path: Path) -> None:
    net = Network()
    state = prepared(net, 3000)
    x, labels = sample_of((3, 5, 9, 8), 3000), torch.tensor([4, 0, 5])
    x_double = x.double().requires_grad_()
    loss = F.cross_entropy(net(x_double), labels)
    loss.backward()
    case = state | gradients(net) | {"input": x, "grad.input": x_double.grad.float(), "loss": loss.detach().float()}
    save_file(dict(sorted(case.items())), path, {"labels": " ".join(str(int(label)) for label in labels)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_layers(folder / "layers.safetensors")
    write_network(folder / "network.safetensors")


if __name__ == "__main__":
    main()
