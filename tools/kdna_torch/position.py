"""Convolutions whose kernels of every position are computed by a small network: LSConv.

Shapes: B batch, C channels, G groups of channels that share weights, k kernel, H x W map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SKA(nn.Module):
    """LSNet's small-kernel aggregation: y[c](p) = sum over the taps t of  w[c % G, t](p) * x[c](p + t), zeros outside.

    ``forward(x [B, C, H, W], w [B, G, k * k, H, W])``, k odd. It computes what the public module of this name does by a
    program for GPUs, and can stand in its place; ``export`` writes both as ``position_conv2d``.
    """

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        groups, taps = w.shape[1:3]
        k = round(taps**0.5)
        windows = F.unfold(x, k, padding=k // 2).unflatten(1, (-1, groups, taps))  # [B, C / G, G, k^2, H W]
        return (windows * w.flatten(3)[:, None]).sum(3).flatten(1, 2).view_as(x)


class NormedConv2d(nn.Sequential):
    """A convolution ``c`` without bias that keeps the map's extent, and its batch norm ``bn``."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(cout))


class LargeKernelPerception(nn.Module):
    """w = groupnorm(cv4(relu(cv3(cv2(relu(cv1(x))))))) as [B, C / share, k * k, H, W], cv2 depthwise and large.

    cv1 halves the channels; the group norm has one group for each kernel.
    """

    def __init__(self, channels: int, large: int, small: int, share: int) -> None:
        super().__init__()
        half, kernels, taps = channels // 2, channels // share, small * small
        self.cv1 = NormedConv2d(channels, half)
        self.cv2 = NormedConv2d(half, half, large, half)
        self.cv3 = NormedConv2d(half, half)
        self.cv4 = nn.Conv2d(half, kernels * taps, 1)
        self.norm = nn.GroupNorm(kernels, kernels * taps)

    def forward(self, x: Tensor) -> Tensor:
        w = self.norm(self.cv4(F.relu(self.cv3(self.cv2(F.relu(self.cv1(x)))))))
        return w.unflatten(1, (self.norm.num_groups, -1))


class LSConv(nn.Module):
    """y = bn(SKA(x, lkp(x))) + x, with LSNet's keys: ``lkp.{cv1,cv2,cv3}.{c,bn}``, ``lkp.{cv4,norm}``, ``bn``.

    ``share`` channels take the same kernel.
    """

    def __init__(self, channels: int, large: int = 7, small: int = 3, share: int = 8) -> None:
        super().__init__()
        self.lkp = LargeKernelPerception(channels, large, small, share)
        self.ska = SKA()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.ska(x, self.lkp(x))) + x
