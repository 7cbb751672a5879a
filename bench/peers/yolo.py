"""A network of YOLOv8n's shape, backbone and neck with three outputs, with plain or dynamic bottlenecks."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from kdna_torch.dynamic import ODConv2d  # noqa: E402
from kdna_torch.layers import SqueezeExcite, child_conv2d  # noqa: E402

FORMS = ("plain", "odconv", "kernel_dna")


class Conv(nn.Sequential):
    """Convolution without bias, BatchNorm, SiLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(cout), nn.SiLU())


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, [B, C, H, W] to the same.

    odconv: both are ODConv with one kernel, as the published YOLO recipes have it. kernel_dna: the first one is a child of the
    second one's kernel.
    """

    def __init__(self, c: int, shortcut: bool, form: str) -> None:
        super().__init__()
        self.shortcut, self.form = shortcut, form
        if form == "kernel_dna":
            self.se = SqueezeExcite(c, max(c // 4, 4))
            self.filter, self.spatial = nn.Parameter(torch.zeros(c, 1, 1, 1)), nn.Parameter(torch.zeros(1, 1, 3, 3))
        else:
            self.conv1 = self.make(c)
        self.conv2 = self.make(c)
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)

    def make(self, c: int) -> nn.Module:
        if self.form == "odconv":
            return ODConv2d(c, c, 3, padding=1, kernels=1)
        return nn.Conv2d(c, c, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "kernel_dna":
            y = child_conv2d(self.se(x), self.conv2.weight, self.filter, self.spatial)
        else:
            y = self.conv1(x)
        y = F.silu(self.bn2(self.conv2(F.silu(self.bn1(y)))))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    def __init__(self, cin: int, cout: int, n: int, shortcut: bool, form: str) -> None:
        super().__init__()
        c = cout // 2
        self.cv1, self.cv2 = Conv(cin, 2 * c, 1), Conv((2 + n) * c, cout, 1)
        self.m = nn.ModuleList(Bottleneck(c, shortcut, form) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for m in self.m:
            y.append(m(y[-1]))
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c // 2, 1), Conv(2 * c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        for _ in range(3):
            y.append(F.max_pool2d(y[-1], 5, 1, 2))
        return self.cv2(torch.cat(y, 1))


class Yolo(nn.Module):
    """[B, 3, H, W], H and W multiples of 32, to [B, 64, H/8, W/8], [B, 128, H/16, W/16], [B, 256, H/32, W/32]."""

    def __init__(self, form: str = "plain") -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C2f(32, 32, 1, True, form))
        self.p3 = nn.Sequential(Conv(32, 64, 3, 2), C2f(64, 64, 2, True, form))
        self.p4 = nn.Sequential(Conv(64, 128, 3, 2), C2f(128, 128, 2, True, form))
        self.p5 = nn.Sequential(Conv(128, 256, 3, 2), C2f(256, 256, 1, True, form), SPPF(256))
        self.up4, self.up3 = C2f(384, 128, 1, False, form), C2f(192, 64, 1, False, form)
        self.down3, self.down4 = Conv(64, 64, 3, 2), Conv(128, 128, 3, 2)
        self.out4, self.out5 = C2f(192, 128, 1, False, form), C2f(384, 256, 1, False, form)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.up4(torch.cat([F.interpolate(p5, scale_factor=2.0), p4], 1))
        n3 = self.up3(torch.cat([F.interpolate(n4, scale_factor=2.0), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        return n3, n4, n5
