"""FDConv (Chen et al., CVPR 2025): kernels from disjoint groups of frequencies, modulated by what the input is like.

Shapes: B batch, C input channels, O output channels, k kernel, n kernels, K taps over channels, H x W map. Parameter
names are those of the public code. Sigmoids are at temperature 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample


class StarReLU(nn.Module):
    """scale * relu(x)^2 + bias; keys ``scale``, ``bias`` [1]."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x) ** 2 + self.bias


class GlobalModulation(nn.Module):
    """z = starrelu(bn(fc(p))) [B, h, 1, 1] of pooled p, h = max(int(C / 16), 16), and the heads on it.

    ``channel_fc`` [C], ``filter_fc`` [O], ``spatial_fc`` [k * k] (not for k = 1) and ``kernel_fc`` [n] (not for n = 1).
    """

    def __init__(self, cin: int, cout: int, kernel: int, kernels: int) -> None:
        super().__init__()
        hidden = max(cin // 16, 16)
        self.fc = nn.Conv2d(cin, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.relu = StarReLU()
        self.channel_fc = nn.Conv2d(hidden, cin, 1)
        self.filter_fc = nn.Conv2d(hidden, cout, 1)
        self.spatial_fc = None if kernel == 1 else nn.Conv2d(hidden, kernel * kernel, 1)
        self.kernel_fc = None if kernels == 1 else nn.Conv2d(hidden, kernels, 1)

    def forward(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor | float, Tensor | None]:
        """a_c [B, C], a_f [B, O], a_s [B, k * k] in [0, 2], and a_w [B, n] in [0, 2 / n]."""
        z = self.relu(self.bn(self.fc(p)))

        def head(layer: nn.Module) -> Tensor:
            return 2 * torch.sigmoid(layer(z).flatten(1))

        taps = 1.0 if self.spatial_fc is None else head(self.spatial_fc)
        mixture = None if self.kernel_fc is None else head(self.kernel_fc) / self.kernel_fc.out_channels
        return head(self.channel_fc), head(self.filter_fc), taps, mixture


class LocalModulation(nn.Module):
    """2 sigmoid(conv1d(layernorm(p))): a factor of every weight, [B, O, C, k, k].

    Keys ``norm``, ``conv`` [O * k * k, 1, K].
    """

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.shape = (cout, kernel, kernel)
        reach = round((math.log2(cin) / 2) + 0.5) // 2 * 2 + 1
        self.norm = nn.LayerNorm(cin)
        self.conv = nn.Conv1d(1, math.prod(self.shape), reach, padding=reach // 2, bias=False)

    def forward(self, p: Tensor) -> Tensor:
        logits = self.conv(self.norm(p.flatten(1))[:, None])  # [B, O k k, C]
        return 2 * torch.sigmoid(logits.unflatten(1, self.shape).movedim(-1, 2))


class FrequencyBandModulation(nn.Module):
    """y = sum_i a_i (low_{i-1} - low_i) + low_last, low_0 = x; low_i keeps the frequencies below 1 / (2 k_i).

    a_i = 2 sigmoid(conv_i(x)) [B, 1, H, W]. Which frequencies a map of H x W keeps is a mask of 64 x 33, resized by
    nearest neighbours. Both are in float32, where 0.25 + 1e-8 is 0.25. Keys ``freq_weight_conv_list.i`` (3x3, C to 1, bias).
    """

    def __init__(self, channels: int, k_list: Sequence[int] = (2, 4, 8)) -> None:
        super().__init__()
        self.k_list = list(k_list)
        self.freq_weight_conv_list = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in self.k_list)

    def low_pass(self, x: Tensor, k: int) -> Tensor:
        h, w = x.shape[2:]
        axes = (frequencies(64, dtype=torch.float32) for frequencies in (torch.fft.fftfreq, torch.fft.rfftfreq))
        mask = torch.stack(torch.meshgrid(*axes, indexing="ij")).abs().amax(0) < 0.5 / k + 1e-8  # in float32
        mask = F.interpolate(mask[None, None].float(), (h, w // 2 + 1), mode="nearest").to(x.dtype)
        return torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(h, w))

    def forward(self, x: Tensor) -> Tensor:
        y, before = 0, x
        for k, conv in zip(self.k_list, self.freq_weight_conv_list):
            low = self.low_pass(x, k)
            y = y + 2 * torch.sigmoid(conv(x)) * (before - low)
            before = low
        return y + before


class FDConv(nn.Module):
    """y = a_f * conv(fbm(x), (sum_i a_w[i] W_i) * a_s * a_c * local), the factors from the means of x.

    Keys ``dft_weight`` [1, O k, C k // 2 + 1, 2], the half spectrum of one kernel laid out as [O k, C k];
    ``KSM_Global.*``, ``KSM_Local.*``, ``FBM.*`` (for k = 3) and ``bias``. W_i is what the i-th group of frequencies gives, sorted by
    distance from 0. ``fourier`` False: the key ``weight`` [n, O, C, k, k] instead of ``dft_weight``, the W_i as ``export``
    writes them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = False,
        kernel_num: int = 4,
        bands: bool | None = None,
        local: bool = True,
        fourier: bool = True,
    ) -> None:
        super().__init__()
        o, c, k = out_channels, in_channels, kernel_size
        self.in_channels, self.out_channels, self.kernel_size, self.kernel_num = c, o, (k, k), kernel_num
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, 1
        if fourier:
            self.alpha = min(o, c) // 2 * kernel_num
            spectrum = torch.fft.rfft2(torch.randn(o * k, c * k) * (2 / (c * k * k)) ** 0.5)
            self.dft_weight = nn.Parameter(torch.view_as_real(spectrum)[None] / max(min(o, c) // 2, 1))
            self.register_buffer("indices", self.frequencies()[None], persistent=False)
        else:
            self.weight = nn.Parameter(torch.empty(kernel_num, o, c, k, k))
        self.KSM_Global = GlobalModulation(c, o, k, kernel_num)
        if local:
            self.KSM_Local = LocalModulation(c, o, k)
        if k == 3 if bands is None else bands:
            self.FBM = FrequencyBandModulation(c)
        self.bias = nn.Parameter(torch.zeros(o)) if bias else None

    def frequencies(self) -> Tensor:
        """Rows and columns of the half spectrum, [2, n, ...]: group i holds the frequencies of kernel i."""
        rows, columns = self.out_channels * self.kernel_size[0], self.in_channels * self.kernel_size[1]
        grid = torch.meshgrid(
            torch.fft.fftfreq(rows, dtype=torch.float32),
            torch.fft.rfftfreq(columns, dtype=torch.float32),
            indexing="ij",
        )
        order = torch.sort(torch.stack(grid, -1).norm(dim=-1).flatten()).indices
        width = columns // 2 + 1
        return torch.stack([order // width, order % width]).reshape(2, self.kernel_num, -1)

    def kernels(self) -> Tensor:
        """The W_i, [n, O, C, k, k]."""
        if not hasattr(self, "dft_weight"):
            return self.weight
        return disjoint_kernels(self)

    def forward(self, x: Tensor) -> Tensor:
        p = x.mean((2, 3), keepdim=True)
        channels, filters, taps, mixture = self.KSM_Global(p)
        kernels = self.kernels()
        n, o, c, k, _ = kernels.shape
        weight = kernels if mixture is None else (mixture @ kernels.flatten(1)).view(-1, o, c, k, k)
        weight = weight * channels[:, None, :, None, None]
        if isinstance(taps, Tensor):
            weight = weight * taps.view(-1, 1, 1, k, k)
        if hasattr(self, "KSM_Local"):
            weight = weight * self.KSM_Local(p)
        image = self.FBM(x) if hasattr(self, "FBM") else x
        geometry = self.stride, self.padding, self.dilation, self.groups
        y = conv2d_per_sample(image, weight, None, *geometry) * filters[:, :, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]


def disjoint_kernels(module: nn.Module) -> Tensor:
    """The kernels [n, O, C, kh, kw] of an FDConv, the public code's or this one's: of ``dft_weight`` and ``indices``."""
    o, c, (kh, kw) = module.out_channels, module.in_channels, module.kernel_size
    kernels = []
    for spectrum, (rows, columns) in zip(module.dft_weight, module.indices):
        for row, column in zip(rows, columns):
            own = torch.zeros_like(spectrum)
            own[row, column] = spectrum[row, column] * module.alpha
            kernel = torch.fft.irfft2(torch.view_as_complex(own))
            kernels.append(kernel.view(o, kh, c, kw).transpose(1, 2))
    return torch.stack(kernels)
