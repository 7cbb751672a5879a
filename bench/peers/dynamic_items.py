"""The layers and networks of dynamic.py in PyTorch: weights, inputs and answers in double precision, written once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from kdna_torch import CondConv2d, DCDConv2d, DyConv2d, DynamicConv, FDConv, KWManager, LSConv  # noqa: E402
from kdna_torch import ModulatedConv2d, ODConv2d, SqueezeExcite  # noqa: E402
from kdna_torch import build, child_conv2d  # noqa: E402
from kdna_torch.checkpoint import randomise  # noqa: E402
from kdna_torch.warehouse import KWAttention  # noqa: E402

Item = dict[str, Any]
CELLS = {64: 56, 128: 47, 256: 47, 512: 27}  # of KernelWarehouse 1x in ResNet18
SAMPLES = 8  # of inputs that are made; a smaller batch is the first of them


class Child(nn.Module):
    """KernelDNA's: conv(gate(x), adapted kernel of the parent), computed in every call."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.static_filter_attn = nn.Parameter(torch.zeros(channels, 1, 1, 1))
        self.static_spatial_attn = nn.Parameter(torch.zeros(1, 1, 3, 3))
        self.gate = SqueezeExcite(channels, channels // 4)
        self.parent = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = child_conv2d(self.gate(x), self.parent.weight, self.static_filter_attn, self.static_spatial_attn)
        return F.relu(self.bn(y))


class Contextual(nn.Module):
    """relu(bn(conv(x, context))): the contexts of the samples are the module's own, and a batch takes the first of them."""

    def __init__(self, method: str, c: int) -> None:
        super().__init__()
        self.modulated = method == "modulated"
        width = 512 if self.modulated else min(max(c // 4, 32), 128)
        self.conv: nn.Module = (
            ModulatedConv2d(c, c, 3, width, padding=1) if self.modulated else DynamicConv(c, c, width, 3, padding=1)
        )
        self.context = nn.Parameter(torch.zeros(SAMPLES, width))
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        context = self.context[: len(x)]
        return F.relu(self.bn(self.conv(x, context if self.modulated else (context,))))


class Layer(nn.Module):
    """relu(bn(conv(x))), 3x3, as many filters as channels."""

    def __init__(self, method: str, c: int) -> None:
        super().__init__()
        if method == "kernel_warehouse_1x":
            manager = self.warehouse_manager = KWManager()
            self.conv: nn.Module = manager.conv("0", c, c, 3)
            # One layer of a stage by itself: it does not claim all of the cells, so store() would not do.
            manager.weights.append(nn.Parameter(torch.empty(CELLS[c], c, c, 1, 1)))
            self.conv.attention = KWAttention(c, CELLS[c], 9, manager.reduction, 1, 1, 0)
        else:
            self.conv = {
                "plain": lambda: nn.Conv2d(c, c, 3, padding=1, bias=False),
                "odconv_1x": lambda: ODConv2d(c, c, 3, padding=1, kernels=1),
                "odconv_4x": lambda: ODConv2d(c, c, 3, padding=1, kernels=4),
                "condconv_4x": lambda: CondConv2d(c, c, 3, 4, padding=1),
                "dyconv_4x": lambda: DyConv2d(c, c, 3, padding=1, bias=False, kernels=4),
                "dcd": lambda: DCDConv2d(c, c),
                "lsconv": lambda: LSConv(c),
                "fdconv": lambda: FDConv(c, c, 3, padding=1, fourier=False),
                "fdconv_kernels": lambda: FDConv(c, c, 3, padding=1, bands=False, fourier=False),
            }[method]()
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def module_of(item: Item, form: str) -> nn.Module:
    if "arch" in item:
        return build(form)
    if form in ("dymn_4x", "modulated"):
        return Contextual(form, item["channels"])
    return Child(item["channels"]) if form == "child" else Layer(form, item["channels"])


def load(item: Item, form: str) -> nn.Module:
    """The layer or network with the item's weights, in eval mode."""
    module = module_of(item, form)
    module.load_state_dict(load_file(item["weights"]))
    return module.eval()


def input_of(item: Item) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    if "arch" in item:
        x = torch.randn(SAMPLES, 3, 224, 224, generator=rng)
        return x * torch.linspace(0.5, 1.5, SAMPLES).view(-1, 1, 1, 1)
    channels, extent = item["channels"], item["extent"]
    x = torch.randn(SAMPLES, channels, extent, extent, generator=rng)
    return x + torch.randn(SAMPLES, channels, 1, 1, generator=rng)  # routers see the means


@torch.no_grad()
def make(item: Item, form: str, folder: Path) -> Item:
    """The item with the files of one of its forms."""
    stem = folder / (form if "arch" in item else f"{form}_{item['channels']}")
    weights, file = Path(f"{stem}.weights.safetensors"), Path(f"{stem}.b{item['batch']}.safetensors")
    if not file.exists():
        module, x = module_of(item, form), input_of(item)
        if weights.exists():
            module.load_state_dict(load_file(weights))
        else:
            sample = None if form.endswith("plain") else x[1::2]  # up to the largest: activations explode beyond
            randomise(module, 0, gain=2.0 if "mobilenet" in form else 1.4, sample=sample)
            save_file(dict(sorted(module.state_dict().items())), weights)
        x = x[: item["batch"]].contiguous()
        y = module.eval().double()(x.double()).float().contiguous()
        part = file.with_suffix(".part")
        save_file({"x": x, "y": y}, part)
        part.replace(file)  # last, and whole: it says that this form is made
    return item | {"weights": str(weights), "file": str(file)}
