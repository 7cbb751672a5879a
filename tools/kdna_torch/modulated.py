"""StyleGAN2's modulated convolution (Karras et al., arXiv 1912.04958), written from equations 1 to 3.

Shapes: B batch, C input channels, O output channels, k kernel, D style vector, H x W map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample


class ModulatedConv2d(nn.Module):
    """s = affine(w), W'[b, o, c] = s[b, c] W[o, c], W''[b, o] = W'[b, o] / sqrt(sum W'[b, o]^2 + eps); y = conv(x, W'').

    ``forward(x, w)``: x [B, C, H, W], w [B, style_dim], or the style [B, C] itself where ``style_dim`` is 0.
    ``demodulate=False`` leaves W' as it is, as in layers that make an image's colours. ``up``: a transposed convolution of
    this stride, without the blur that StyleGAN2 puts behind it. Keys: ``weight`` [O, C, k, k], ``affine.weight`` [C, D],
    ``affine.bias`` [C], ``bias`` [O] (optional). Gains of equalised learning rates are taken to be in the weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_dim: int = 0,
        demodulate: bool = True,
        padding: int = 0,
        stride: int = 1,
        up: int = 1,
        bias: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.padding, self.stride, self.up, self.demodulate, self.eps = padding, stride, up, demodulate, eps
        fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size) / fan_in**0.5)
        self.affine = nn.Linear(style_dim, in_channels) if style_dim else None
        if self.affine is not None:
            nn.init.ones_(self.affine.bias)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = w if self.affine is None else self.affine(w)
        kernels = self.weight * style[:, None, :, None, None]
        if self.demodulate:
            kernels = kernels * torch.rsqrt(kernels.square().sum((2, 3, 4), keepdim=True) + self.eps)
        if self.up == 1:
            y = conv2d_per_sample(x, kernels, None, self.stride, self.padding)
        else:
            b, o = kernels.shape[:2]
            image = x.reshape(1, -1, *x.shape[2:])
            y = F.conv_transpose2d(image, kernels.transpose(1, 2).flatten(0, 1), None, self.up, self.padding, groups=b)
            y = y.view(b, o, *y.shape[2:])
        return y if self.bias is None else y + self.bias[:, None, None]


class StyledConv2d(nn.Module):
    """A layer of StyleGAN2's synthesis network: sqrt(2) lrelu(modulated(x, w) + noise_strength noise + bias), slope 0.2.

    Keys besides those of ``conv``: ``noise`` [H, W], ``noise_strength`` [], ``bias`` [O].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, style_dim: int, extent: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, kernel_size, style_dim, padding=kernel_size // 2)
        self.register_buffer("noise", torch.randn(extent, extent))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = self.conv(x, w) + self.noise * self.noise_strength
        return F.leaky_relu(y + self.bias[:, None, None], 0.2) * math.sqrt(2)
