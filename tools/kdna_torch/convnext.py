"""ConvNeXt (Liu et al., arXiv 2201.03545), plain and in a KernelDNA form of our own: KernelDNA's paper names ConvNeXt-Tiny and publishes
no layout (docs/networks.md has the reasons for this one).

Keys are timm's (``stages.i.blocks.j.{conv_dw, norm, mlp.fc1, mlp.fc2, gamma}``), with the two dense layers of a block as 1x1
convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import SqueezeExcite, child_kernel

TINY_DEPTHS, TINY_WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)
GROUP = 3  # blocks: two children and their parent


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of each pixel, [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class PointwiseChild(nn.Module):
    """A 1x1 convolution with the kernel of ``parent``: conv(s(x) * x, Wp * (1 + a_f)) + bias, two attentions as in the paper.

    A gate is 0.5 at rest and no BatchNorm follows that would take it up, so 1 + a_f begins at 2.
    """

    def __init__(self, cin: int, cout: int, hidden: int) -> None:
        super().__init__()
        self.se1 = SqueezeExcite(cin, hidden)
        self.static_filter_attn = nn.Parameter(torch.ones(cout, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(cout))

    def forward(self, x: Tensor, parent: Tensor) -> Tensor:
        return F.conv2d(self.se1(x), child_kernel(parent, self.static_filter_attn), self.bias)


class Mlp(nn.Module):
    """Expansion to 4 C, GELU, projection; of a child (``shared``), both kernels are its parent's."""

    def __init__(self, width: int, shared: bool) -> None:
        super().__init__()
        if shared:
            self.fc1 = PointwiseChild(width, 4 * width, width // 4)
            self.fc2 = PointwiseChild(4 * width, width, width // 4)
        else:
            self.fc1, self.fc2 = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor, parent: Mlp | None = None) -> Tensor:
        if parent is None:
            return self.fc2(F.gelu(self.fc1(x)))
        return self.fc2(F.gelu(self.fc1(x, parent.fc1.weight)), parent.fc2.weight)


class Block(nn.Module):
    """x + gamma * mlp(norm(dw7x7(x))), [B, C, H, W]."""

    def __init__(self, width: int, shared: bool) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.mlp = Mlp(width, shared)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor, parent: Mlp | None = None) -> Tensor:
        return x + self.gamma.view(1, -1, 1, 1) * self.mlp(self.norm(self.conv_dw(x)), parent)


class Stage(nn.Module):
    """Blocks behind a transition. ``shared``: in every three of them, two children stand before their parent."""

    def __init__(self, cin: int, width: int, depth: int, shared: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if cin == width else nn.Sequential(LayerNorm2d(cin), nn.Conv2d(cin, width, 2, 2))
        grouped = depth // GROUP * GROUP if shared else 0
        self.parents = [at // GROUP * GROUP + GROUP - 1 if at < grouped else at for at in range(depth)]
        self.blocks = nn.ModuleList(Block(width, self.parents[at] != at) for at in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for at, block in enumerate(self.blocks):
            parent = self.parents[at]
            x = block(x) if parent == at else block(x, self.blocks[parent].mlp)
        return x


class Head(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(x.mean((2, 3))))


class ConvNeXt(nn.Module):
    """x [B, channels, H, W] -> logits [B, classes]. ``shared`` names the stages of parents and children, counted from 0."""

    def __init__(
        self,
        shared: tuple[int, ...] = (),
        depths: tuple[int, ...] = TINY_DEPTHS,
        widths: tuple[int, ...] = TINY_WIDTHS,
        channels: int = 3,
        patch: int = 4,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], patch, patch), LayerNorm2d(widths[0]))
        self.stages = nn.Sequential(
            *(
                Stage(widths[max(at - 1, 0)], width, depth, at in shared)
                for at, (width, depth) in enumerate(zip(widths, depths))
            )
        )
        self.head = Head(widths[-1], classes)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(m.weight, std=0.02)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))


def fashion_convnext(shared: tuple[int, ...]) -> ConvNeXt:
    """For 28x28 grey images: stages at 14x14, 7x7 and 3x3."""
    net = ConvNeXt(shared, (1, 6, 3), (16, 32, 64), channels=1, patch=2, classes=10)
    for m in net.modules():
        if isinstance(m, Block):
            nn.init.constant_(m.gamma, 0.1)  # 1e-6 is for hundreds of epochs
    return net


CONVNEXT_ARCHS = {
    "convnext_tiny": lambda: ConvNeXt((2, 3)),
    "convnext_tiny_plain": ConvNeXt,
    "fashion_convnext_dna": lambda: fashion_convnext((1, 2)),
    "fashion_convnext_plain": lambda: fashion_convnext(()),
}
