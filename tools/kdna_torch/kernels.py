"""Convolutions whose kernels are composed of shared parts, given as an input, or vary over the map.

Shapes: B batch, C input channels, O output channels, k kernel, g groups, H x W map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample


class ACDCConv2d(nn.Module):
    """A convolution with W[o, c] = sum_m A[o, c, m] D[m]; the coefficients A [O, C/g, M] are an input of ``forward``.

    Key: ``atoms`` [M, kh, kw].
    """

    def __init__(
        self, atoms: int, kernel: tuple[int, int], stride: int = 1, padding: int = 0, groups: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.geometry = stride, padding, dilation, groups
        self.atoms = nn.Parameter(torch.randn(atoms, *kernel) / math.prod(kernel) ** 0.5)

    def forward(self, x: Tensor, coefficients: Tensor) -> Tensor:
        kernel = torch.einsum("ocm,mij->ocij", coefficients, self.atoms)
        return F.conv2d(x, kernel, None, *self.geometry)


class ACDCChain(nn.Module):
    """Convolutions one after another that share coefficients; keys ``coefficients`` [O, C/g, M], ``layers.i.atoms``."""

    def __init__(self, coefficients: tuple[int, int, int], layers: Sequence[ACDCConv2d], acts: Sequence[str]) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.randn(coefficients) / math.prod(coefficients[1:]) ** 0.5)
        self.layers, self.acts = nn.ModuleList(layers), acts

    def forward(self, x: Tensor) -> Tensor:
        for layer, act in zip(self.layers, self.acts):
            x = layer(x, self.coefficients)
            x = F.relu(x) if act == "relu" else x
        return x


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Value s of N takes bits [s * bits, (s + 1) * bits), counted from byte 0's lowest: uint8 [ceil(N * bits / 8)]."""
    stream = (values.reshape(-1, 1).long() >> torch.arange(bits)) & 1
    stream = F.pad(stream.flatten(), (0, -stream.numel() % 8)).view(-1, 8)
    return (stream << torch.arange(8)).sum(1).to(torch.uint8)


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of ``pack_bits``: int64 [count]."""
    stream = (packed.reshape(-1, 1).long() >> torch.arange(8)) & 1
    return (stream.flatten()[: count * bits].view(count, bits) << torch.arange(bits)).sum(1)


class SparseKernelConv2d(nn.Module):
    """A convolution with W[o, c] = alpha[o] U[idx[o, c]]; every slice of the kernel is one of n = 2^bits codewords.

    Keys: ``codebook`` [n, kh, kw] of +-1, ``index`` uint8 (idx of slice s = o * C/g + c, packed by ``pack_bits``),
    ``alpha`` [O], ``bias`` [O] (optional).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        bits: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.bits = (out_channels, in_channels // groups), bits
        self.geometry = stride, padding, 1, groups
        self.register_buffer("codebook", torch.where(torch.rand(2**bits, *kernel) < 0.5, -1.0, 1.0))
        values = torch.randint(0, 2**bits, (math.prod(self.shape),))
        self.register_buffer("index", pack_bits(values, bits))
        self.alpha = nn.Parameter(torch.ones(out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        index = unpack_bits(self.index, self.bits, math.prod(self.shape)).view(self.shape)
        kernel = self.alpha[:, None, None, None] * self.codebook[index]
        return F.conv2d(x, kernel, self.bias, *self.geometry)


class RuntimeConv2d(nn.Module):
    """A convolution whose kernel is an input, one for each sample or (N = 1) one for all; no parameters.

    ``kind``: "dense" [N, O, C/g, kh, kw], "depthwise" [N, C, kh, kw], "shared" by all channels [N, kh, kw].
    ``padding_mode``: "zeros" or "circular". With a stride every stride-th output is kept: padded circularly by k // 2,
    that is a blur followed by subsampling.
    """

    def __init__(
        self, kind: str, stride: int = 1, padding: int = 0, padding_mode: str = "zeros", groups: int = 1
    ) -> None:
        super().__init__()
        self.kind, self.stride, self.padding, self.groups = kind, stride, padding, groups
        self.padding_mode = padding_mode

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        b, c = x.shape[:2]
        groups = self.groups if self.kind == "dense" else c
        if self.kind == "depthwise":
            kernel = kernel[:, :, None]
        elif self.kind == "shared":
            kernel = kernel[:, None, None].expand(-1, c, -1, -1, -1)
        mode = "circular" if self.padding_mode == "circular" else "constant"
        x = F.pad(x, [self.padding] * 4, mode=mode)
        if len(kernel) == 1:
            return F.conv2d(x, kernel[0], None, self.stride, groups=groups)
        return conv2d_per_sample(x, kernel, None, self.stride, groups=groups)


class XVolution(nn.Module):
    """y(x0) = sum_i (w_q w_k w_v <x0, x_i> + W[i]) x_i + b over the k x k neighbours of x0; outside the map x is zero.

    ``padding`` p adds a border of zeros; x0 runs over the (H + 2p - k + 1) x (W + 2p - k + 1) centres of whole windows.
    Keys: ``weight`` [C, C, k, k] (k odd), ``bias`` [C], ``w_q``, ``w_k``, ``w_v`` [1].
    """

    def __init__(self, channels: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.w_q, self.w_k, self.w_v = (nn.Parameter(torch.ones(1)) for _ in range(3))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        k, p = self.weight.shape[-1], self.padding
        y = F.conv2d(x, self.weight, self.bias, padding=p)
        windows = F.unfold(x, k, padding=p).view(len(x), x.shape[1], k * k, -1)  # [B, C, k^2, H' W']
        centre = windows[:, :, k * k // 2, None]
        similarity = (centre * windows).sum(1, keepdim=True)  # [B, 1, k^2, H' W']
        attention = (similarity * windows).sum(2).view_as(y)
        return y + self.w_q * self.w_k * self.w_v * attention
