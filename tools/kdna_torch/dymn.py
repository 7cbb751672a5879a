"""DyMN's dynamic inverted residual block (Schmid, Koutini, Widmer, arXiv 2310.15648), written from the paper's formulas.

Shapes: B batch, C channels, F x T map (frequency, time), H context, K kernels. Parameter names are those of the public code
(github.com/fschmid56/EfficientAT), whose checkpoints' tensors have the same meaning.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample

Context = tuple[Tensor, Tensor, Tensor]


class DynamicConv(nn.Module):
    """W[b] = sum_i a[b, i] W_i, a = softmax(residuals(h) / temperature) of the block's context h [B, H, 1, 1] = g[0].

    Keys: ``weight`` [1, 1, K, O C/g k k], ``residuals.0.{weight [K, H], bias [K]}``, ``bias`` [K, O] (optional). The
    temperature falls from 30 to 1 in training, and is not in the state_dict.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        context_dim: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        k: int = 4,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.k, self.att_groups, self.temperature = k, 1, temperature
        self.residuals = nn.Sequential(nn.Linear(context_dim, k))
        kernels = torch.empty(k, out_channels, in_channels // groups, kernel_size, kernel_size)
        for kernel in kernels:
            nn.init.kaiming_normal_(kernel, mode="fan_out")
        self.weight = nn.Parameter(kernels.view(1, 1, k, -1))
        self.bias = nn.Parameter(torch.zeros(k, out_channels)) if bias else None

    def forward(self, x: Tensor, g: Context) -> Tensor:
        route = torch.softmax(self.residuals(g[0].flatten(1)) / self.temperature, 1)
        shape = self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size
        kernels = (route @ self.weight[0, 0]).view(-1, *shape)
        bias = None if self.bias is None else route @ self.bias
        return conv2d_per_sample(x, kernels, bias, self.stride, self.padding, self.dilation, self.groups)


class DyReLUB(nn.Module):
    """max over m of a_m x + b_m, for every channel with coefficients of the context.

    theta = 2 sigmoid(coef_net(h)) - 1 [B, C, 2M]; a_1 = 1 + theta_1, a_m = theta_m, b_m = theta_{M+m} / 2.
    Keys: ``coef_net.0.{weight [2MC, H], bias [2MC]}``.
    """

    def __init__(self, channels: int, context_dim: int, M: int = 2) -> None:
        super().__init__()
        self.channels, self.M = channels, M
        self.coef_net = nn.Sequential(nn.Linear(context_dim, 2 * M * channels))

    def forward(self, x: Tensor, g: Context) -> Tensor:
        theta = (2 * torch.sigmoid(self.coef_net(g[0].flatten(1))) - 1).view(-1, self.channels, 2 * self.M)
        lines = []
        for m in range(self.M):
            slope = theta[:, :, m] + (1 if m == 0 else 0)
            lines.append(x * slope[:, :, None, None] + 0.5 * theta[:, :, self.M + m, None, None])
        y = lines[0]
        for line in lines[1:]:
            y = torch.maximum(y, line)
        return y


class CoordAtt(nn.Module):
    """x sigmoid(g_f) sigmoid(g_t), with g_f [B, C, F, 1] and g_t [B, C, 1, T] of the context."""

    def forward(self, x: Tensor, g: Context) -> Tensor:
        return x * torch.sigmoid(g[1]) * torch.sigmoid(g[2])


class ContextGen(nn.Module):
    """The block's context: means over time and over frequency, in a row, through a shared 1x1 convolution.

    z = hard_swish(joint_norm(joint_conv([mean_T x; mean_F x]))) [B, H, F + T]; h = mean of z; g_f = conv_f(z of F), g_t =
    conv_t(z of T), pooled as the block strides.
    """

    def __init__(self, context_dim: int, in_ch: int, exp_ch: int, stride: int = 1) -> None:
        super().__init__()
        self.joint_conv = nn.Conv2d(in_ch, context_dim, 1, bias=False)
        self.joint_norm = nn.BatchNorm2d(context_dim, eps=0.001, momentum=0.01)
        self.conv_f, self.conv_t = nn.Conv2d(context_dim, exp_ch, 1), nn.Conv2d(context_dim, exp_ch, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Context:
        frequencies = x.shape[2]
        means = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        z = F.hardswish(self.joint_norm(self.joint_conv(means)))
        f, t = z[:, :, :frequencies], z[:, :, frequencies:].transpose(2, 3)
        if self.stride > 1:
            f = F.avg_pool2d(f, (3, 1), (self.stride, 1), (1, 0))
            t = F.avg_pool2d(t, (1, 3), (1, self.stride), (0, 1))
        return z.mean(2, keepdim=True), self.conv_f(f), self.conv_t(t)


class DyMNBlock(nn.Module):
    """Expansion, depthwise and projection, all dynamic with the context of the block's input; DyReLU-B and coordinate
    attention behind the depthwise convolution, hard_swish (``hard``) or ReLU behind the expansion. Names are those of DY_Block.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        context_dim: int = 32,
        hard: bool = True,
        k: int = 4,
    ) -> None:
        super().__init__()

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=0.001, momentum=0.01)

        self.residual = stride == 1 and in_channels == out_channels
        self.exp_conv = DynamicConv(in_channels, expanded, context_dim, 1, k=k)
        self.exp_norm, self.act = norm(expanded), F.hardswish if hard else F.relu
        self.depth_conv = DynamicConv(
            expanded, expanded, context_dim, kernel, stride, padding=kernel // 2, groups=expanded, k=k
        )
        self.depth_norm = norm(expanded)
        self.depth_act, self.ca = DyReLUB(expanded, context_dim), CoordAtt()
        self.proj_conv = DynamicConv(expanded, out_channels, context_dim, 1, k=k)
        self.proj_norm = norm(out_channels)
        self.context_gen = ContextGen(context_dim, in_channels, expanded, stride)

    def forward(self, x: Tensor) -> Tensor:
        g = self.context_gen(x)
        y = self.act(self.exp_norm(self.exp_conv(x, g)))
        y = self.ca(self.depth_act(self.depth_norm(self.depth_conv(y, g)), g), g)
        y = self.proj_norm(self.proj_conv(y, g))
        return y + x if self.residual else y
