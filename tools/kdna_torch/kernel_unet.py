"""Kernel-U-Net (You et al., arXiv 2401.01479) in its linear form: convolutions whose kernel, stride and patch are one length."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KernelUNet(nn.Module):
    """Forecasts the next values of a series [N, 1, L] as [N, 1, L], L the product of ``patches``.

    The encoder cuts the series into patches, patches into patches of patches, and so on; at each level one kernel, the same for
    all patches, turns a patch into one vector. The decoder is its mirror image, and adds the encoder's vectors of the same level.
    A kernel that is linear in its patch is a convolution with stride = kernel, and a transposed one on the way back.
    The last value of the series is subtracted in front and added behind (the paper's normalisation, that of NLinear).
    """

    def __init__(self, patches: tuple[int, ...] = (4, 13, 4), widths: tuple[int, ...] = (8, 16, 16)) -> None:
        super().__init__()
        if len(patches) != len(widths):
            raise ValueError(f"{len(patches)} levels of patches have {len(widths)} widths")
        channels = (1, *widths)
        levels = list(zip(patches, channels, channels[1:]))
        self.encoder = nn.ModuleList(nn.Conv1d(c, d, p, stride=p) for p, c, d in levels)
        self.decoder = nn.ModuleList(nn.ConvTranspose1d(d, c, p, stride=p) for p, c, d in reversed(levels))

    def forward(self, series: Tensor) -> Tensor:
        last = series[:, :, -1:]
        x, skips = series - last, []
        for kernel in self.encoder:
            x = kernel(x)
            skips.append(x)
        skips.pop()  # the latent vector itself
        for kernel in self.decoder:
            x = kernel(x)
            if skips:
                x = x + skips.pop()
        return x + last


def seasonal(series: Tensor, season: int) -> Tensor:
    """The last season once more, plus the growth from the season before to it, for as many values as there are."""
    count = series.shape[-1]
    growth = (series[..., -season:] - series[..., -2 * season : -season]).mean(-1, keepdim=True)
    ahead = torch.arange(count)
    return series[..., count - season + ahead % season] + growth * (ahead // season + 1)
