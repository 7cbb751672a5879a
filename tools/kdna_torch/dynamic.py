"""Dynamic convolutions whose weights are mixed or refined per sample, written from the formulas.

Shapes: B batch, C input channels, O output channels, k kernel, g groups, K kernels, H x W map. Every layer maps
x [B, C, H, W] to [B, O, H', W']. Softmax and sigmoid temperatures are 1, as at inference. Parameter names are those of
the methods' public code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample


class ODConvAttention(nn.Module):
    """z = relu(bn(fc(mean_hw(x)))) [B, h, 1, 1], h = max(int(C * reduction), 16), and the heads on it.

    ``channel_fc`` [C], ``filter_fc`` [O] (not for depthwise), ``spatial_fc`` [k * k] (not for k = 1) and ``kernel_fc``
    [K] (not for K = 1); 1x1 convolutions with bias.
    """

    def __init__(self, cin: int, cout: int, kernel: int, groups: int, reduction: float, kernels: int) -> None:
        super().__init__()
        hidden = max(int(cin * reduction), 16)
        self.fc = nn.Conv2d(cin, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.channel_fc = nn.Conv2d(hidden, cin, 1)
        depthwise = cin == cout == groups
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, cout, 1)
        self.spatial_fc = None if kernel == 1 else nn.Conv2d(hidden, kernel * kernel, 1)
        self.kernel_fc = None if kernels == 1 else nn.Conv2d(hidden, kernels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.fc(x.mean((2, 3), keepdim=True))))


class ODConv2d(nn.Module):
    """y = a_f * conv(a_c * x, W), W = a_s * sum_i a_w[i] W_i; no bias.

    a_c [B, C], a_f [B, O] and a_s [B, k, k] are sigmoids, a_w [B, K] a softmax; a head that is left out counts as one.
    Keys: ``weight`` [K, O, C/g, k, k], ``attention.*``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        kernels: int = 4,
        reduction: float = 0.0625,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (kernels, out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.attention = ODConvAttention(in_channels, out_channels, kernel_size, groups, reduction, kernels)
        for kernel in self.weight:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def kernels(self, z: Tensor) -> Tensor:
        """The samples' kernels [B, O, C/g, k, k]; [1, O, C/g, k, k] where they are all the same."""
        a, weight = self.attention, self.weight
        if a.kernel_fc is not None:
            route = torch.softmax(a.kernel_fc(z).flatten(1), 1)
            weight = (route @ weight.flatten(1)).view(-1, *weight.shape[1:])
        if a.spatial_fc is not None:
            k = weight.shape[-1]
            weight = weight * torch.sigmoid(a.spatial_fc(z)).view(-1, 1, 1, k, k)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        z = self.attention(x)
        x = x * torch.sigmoid(self.attention.channel_fc(z))
        kernels = self.kernels(z)
        geometry = self.stride, self.padding, self.dilation, self.groups
        if self.attention.kernel_fc is None and self.attention.spatial_fc is None:
            y = F.conv2d(x, kernels[0], None, *geometry)
        else:
            y = conv2d_per_sample(x, kernels, None, *geometry)
        if self.attention.filter_fc is not None:
            y = y * torch.sigmoid(self.attention.filter_fc(z))
        return y


class DyConvAttention(nn.Module):
    """softmax(fc2(relu(fc1(mean_hw(x))))) [B, K]; fc1 [h, C, 1, 1] without bias, fc2 [K, h, 1, 1] with."""

    def __init__(self, cin: int, kernels: int, ratio: float) -> None:
        super().__init__()
        hidden = kernels if cin == 3 else int(cin * ratio) + 1
        self.fc1 = nn.Conv2d(cin, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, kernels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).flatten(1), 1)


class DyConv2d(nn.Module):
    """W[b] = sum_i pi[b, i] W_i, the bias mixed likewise.

    Keys: ``weight`` [K, O, C/g, k, k], ``bias`` [K, O] (optional), ``attention.{fc1,fc2}``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        kernels: int = 4,
        ratio: float = 0.25,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (kernels, out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(kernels, out_channels)) if bias else None
        self.attention = DyConvAttention(in_channels, kernels, ratio)
        for kernel in self.weight:
            nn.init.kaiming_uniform_(kernel)

    def forward(self, x: Tensor) -> Tensor:
        route = self.attention(x)
        kernels = (route @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        bias = None if self.bias is None else route @ self.bias
        return conv2d_per_sample(x, kernels, bias, self.stride, self.padding, self.dilation, self.groups)


# --------------------------------------------------------------------------------------------------------- DCD


class Hsigmoid(nn.Module):
    """relu6(v + 3) / 3, in [0, 2]."""

    def forward(self, v: Tensor) -> Tensor:
        return F.relu6(v + 3) / 3


class SelfGate(nn.Module):
    """z -> z * hs(fc z), z [B, s]; key ``fc.0.weight`` [s, s]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, width, bias=False), Hsigmoid())

    def forward(self, z: Tensor) -> Tensor:
        return z * self.fc(z)


class DCDBranch(nn.Module):
    """The parts that DCD's convolutions and its classifier share.

    From pooled features p: z = gate(fc.0 p) [B, s], Phi = fc_phi z [B, L, L], Lambda = hs(fc_scale z) [B, O];
    the low-rank path maps q [B, L, N] to bn2(Phi bn1(q)) + bn1(q).
    """

    def __init__(self, features: int, out_channels: int, rank: int, squeeze: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(features, squeeze, bias=False), SelfGate(squeeze))
        self.fc_phi = nn.Linear(squeeze, rank * rank, bias=False)
        self.fc_scale = nn.Linear(squeeze, out_channels, bias=False)
        self.hs = Hsigmoid()
        self.bn1: nn.Module = nn.BatchNorm2d(rank)
        self.bn2 = nn.BatchNorm1d(rank)

    def coefficients(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Phi [B, L, L] and Lambda [B, O]."""
        z = self.fc(p)
        rank = self.bn2.num_features
        return self.fc_phi(z).view(-1, rank, rank), self.hs(self.fc_scale(z))


class DCDConv2d(DCDBranch):
    """y = Lambda * conv(x) + p (bn2(Phi q') + q'), q' = bn1(q x); q is 1x1 with the convolution's stride, no bias.

    ``pool`` x ``pool`` average pooling (adaptive) gives the features of the gates: 2 in basic blocks, 1 in bottlenecks,
    where also L = int(sqrt(pool^2 C)) and s = max(pool^2 C, L^2) // 16, at least 4 for pool 2.
    Keys: ``conv.weight`` [O, C, k, k], ``q.weight`` [L, C, 1, 1], ``p.weight`` [O, L, 1, 1], ``bn1.*``, ``bn2.*`` [L],
    ``fc.0.weight`` [s, pool^2 C], ``fc.1.fc.0.weight`` [s, s], ``fc_phi.weight`` [L^2, s], ``fc_scale.weight`` [O, s].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        pool: int = 2,
    ) -> None:
        features = pool * pool * in_channels
        rank = math.isqrt(features)
        squeeze = max(features, rank * rank) // 16
        super().__init__(features, out_channels, rank, max(squeeze, 4) if pool == 2 else squeeze)
        self.pool = pool
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.q = nn.Conv2d(in_channels, rank, 1, stride, bias=False)
        self.p = nn.Conv2d(rank, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        phi, scale = self.coefficients(F.adaptive_avg_pool2d(x, self.pool).flatten(1))
        q = self.bn1(self.q(x))
        flat = q.flatten(2)
        u = (self.bn2(phi @ flat) + flat).view_as(q)
        return self.p(u) + scale[:, :, None, None] * self.conv(x)


class DYCls(DCDBranch):
    """DCD's classifier, x [B, C] -> [B, O]: Lambda * (cls x + bias) + cls_p (bn2(Phi q') + q'), q' = bn1(cls_q x).

    Keys as for ``DCDConv2d``, with ``cls``, ``cls_q`` and ``cls_p`` in place of ``conv``, ``q`` and ``p``.
    """

    def __init__(self, in_features: int, out_features: int, rank: int = 32, squeeze: int = 32) -> None:
        super().__init__(in_features, out_features, rank, squeeze)
        self.cls = nn.Linear(in_features, out_features)
        self.cls_q = nn.Linear(in_features, rank, bias=False)
        self.cls_p = nn.Linear(rank, out_features, bias=False)
        self.bn1 = nn.BatchNorm1d(rank)

    def forward(self, x: Tensor) -> Tensor:
        phi, scale = self.coefficients(x)
        q = self.bn1(self.cls_q(x))
        u = self.bn2((phi @ q[:, :, None]).squeeze(2)) + q
        return self.cls_p(u) + scale * self.cls(x)
