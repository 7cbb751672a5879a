"""The layers of KernelDNA and CondConv, written from the formulas.

Shapes: B batch, C input channels, O output channels, k kernel, g groups, H x W map.

KernelDNA child convolution (no bias, zero padding)::

    s  = sigmoid(fc2(relu(bn(fc1(mean_hw(x))))))     [B, C, 1, 1]   dynamic channel attention
    Wc = Wp * (1 + a_sp) * (1 + a_f)                 [O, C/g, k, k] static, Wp belongs to the parent
    y  = conv(s * x, Wc)
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Channel attention on the input of a child convolution: x [B, C, H, W] -> s(x) * x.

    Keys: ``se.fc1.weight`` [hidden, C, 1, 1], ``se.bn.*`` [hidden], ``se.fc2.weight`` [C, hidden, 1, 1],
    ``se.fc2.bias`` [C].
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.se = nn.Sequential(
            OrderedDict(
                fc1=nn.Conv2d(channels, hidden, 1, bias=False),
                bn=nn.BatchNorm2d(hidden),
                relu=nn.ReLU(),
                fc2=nn.Conv2d(hidden, channels, 1),
            )
        )

    def gate(self, x: Tensor) -> Tensor:
        """s(x) [B, C, 1, 1]."""
        return torch.sigmoid(self.se(x.mean((2, 3), keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def child_kernel(parent: Tensor, filter_attn: Tensor, spatial_attn: Tensor | None = None) -> Tensor:
    """Kernel of a child: parent [O, C/g, k, k], a_f [O, 1, 1, 1], a_sp [1, 1, k, k] (3x3 children only)."""
    if spatial_attn is not None:
        parent = parent * (1 + spatial_attn)
    return parent * (1 + filter_attn)


def child_conv2d(
    x: Tensor,
    parent: Tensor,
    filter_attn: Tensor,
    spatial_attn: Tensor | None = None,
    stride: int = 1,
    groups: int = 1,
) -> Tensor:
    """Child convolution with 'same' padding of an (already gated) input: x [B, C, H, W] -> [B, O, H', W']."""
    kernel = child_kernel(parent, filter_attn, spatial_attn)
    return F.conv2d(x, kernel, stride=stride, padding=parent.shape[-1] // 2, groups=groups)


def conv2d_per_sample(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Sample b is convolved with kernels[b]: x [B, C, H, W], kernels [B, O, C/g, k, k], bias [B, O].

    One grouped convolution of a single image with B * C channels.
    """
    b, o = kernels.shape[:2]
    image, bias = x.reshape(1, -1, *x.shape[2:]), None if bias is None else bias.flatten()
    y = F.conv2d(image, kernels.flatten(0, 1), bias, stride, padding, dilation, b * groups)
    return y.view(b, o, *y.shape[2:])


class CondConv2d(nn.Module):
    """A convolution whose kernel is mixed per sample from n experts.

    alpha = sigmoid(routing(mean_hw(x))) [B, n];  W[b] = sum_i alpha[b, i] * W_i;  optional bias mixed likewise.
    Keys: ``weight`` [n, O, C/g, k, k], ``bias`` [n, O] (optional), ``routing.weight`` [n, C], ``routing.bias`` [n].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        experts: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = stride, padding, groups
        shape = (experts, out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        for expert in self.weight:
            nn.init.kaiming_uniform_(expert, a=5**0.5)
        self.bias = nn.Parameter(torch.zeros(experts, out_channels)) if bias else None
        self.routing = nn.Linear(in_channels, experts)

    def forward(self, x: Tensor) -> Tensor:
        alpha = torch.sigmoid(self.routing(x.mean((2, 3))))
        kernels = (alpha @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        bias = None if self.bias is None else alpha @ self.bias
        return conv2d_per_sample(x, kernels, bias, self.stride, self.padding, groups=self.groups)
