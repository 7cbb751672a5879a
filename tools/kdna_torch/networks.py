"""KernelDNA networks and their plain counterparts.

KernelDNA forms use the state_dict keys of the method's reference code; plain forms use torchvision's keys.
A parent kernel is one parameter: its children read it, so the state_dict holds it once.

F = parent (its own kernel), S = child (a parent's kernel, adapted).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import SqueezeExcite, child_conv2d


def conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution without bias, padded by kernel // 2."""
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)


def downsample(cin: int, cout: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))


def init_fan_out(module: nn.Module) -> None:
    """kaiming_normal (fan_out, relu) for every convolution weight; all else keeps its default."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")


# ---------------------------------------------------------------------------------------------------- ResNet18


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B, cin, H, W] -> [B, cout, H/stride, W/stride]."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(cin, cout, 3, stride)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = conv(cout, cout, 3)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = downsample(cin, cout, stride) if stride != 1 or cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18Stage(nn.Module):
    """Six 3x3 convolutions, [B, C, H, W] -> [B, P, H/stride, W/stride].

    conv1 (own), child 0 and child 1 of conv2, conv2 (F), child 2 of conv3, conv3 (F). With ``shared=False`` every
    child convolution owns its kernel (``convs.k.weight``) and has no gate: the plain twin of the same shape.
    """

    KIDS = 3

    def __init__(self, cin: int, width: int, stride: int = 2, shared: bool = True) -> None:
        super().__init__()
        self.shared = shared
        if shared:
            self.static_spatial_attn = nn.Parameter(torch.zeros(self.KIDS, 1, 1, 3, 3))
            self.static_filter_attn = nn.Parameter(torch.zeros(self.KIDS, width, 1, 1, 1))
        self.conv1 = conv(cin, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.downsample = downsample(cin, width, stride)
        if shared:
            self.se = nn.ModuleList(SqueezeExcite(width, width // 4) for _ in range(self.KIDS))
        else:
            self.convs = nn.ModuleList(conv(width, width, 3) for _ in range(self.KIDS))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(self.KIDS))
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width, 3)
        self.bn3 = nn.BatchNorm2d(width)

    def child(self, k: int, x: Tensor, parent: Tensor) -> Tensor:
        if self.shared:
            x = child_conv2d(self.se[k](x), parent, self.static_filter_attn[k], self.static_spatial_attn[k])
        else:
            x = self.convs[k](x)
        return self.bns[k](x)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = shortcut = F.relu(self.child(0, x, self.conv2.weight) + shortcut)
        x = F.relu(self.child(1, x, self.conv2.weight))
        x = shortcut = F.relu(self.bn2(self.conv2(x)) + shortcut)
        x = F.relu(self.child(2, x, self.conv3.weight))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


# ---------------------------------------------------------------------------------------------------- ResNet50


class Bottleneck(nn.Module):
    """torchvision's v1.5 bottleneck: 1x1, 3x3 (stride), 1x1; out = 4 * width."""

    def __init__(self, cin: int, width: int, stride: int = 1) -> None:
        super().__init__()
        cout = 4 * width
        self.conv1 = conv(cin, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, cout, 1)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = downsample(cin, cout, stride) if stride != 1 or cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ParentBottleneck(nn.Module):
    """A bottleneck that owns its kernels, in KernelDNA's key layout (``layers.*``, ``downsample.{conv,bn}``)."""

    def __init__(self, cin: int, width: int, stride: int = 1) -> None:
        super().__init__()
        cout = 4 * width
        self.layers = nn.Sequential(
            OrderedDict(
                conv1=conv(cin, width, 1),
                bn1=nn.BatchNorm2d(width),
                relu1=nn.ReLU(),
                conv2=conv(width, width, 3, stride),
                bn2=nn.BatchNorm2d(width),
                relu2=nn.ReLU(),
                conv3=conv(width, cout, 1),
                bn3=nn.BatchNorm2d(cout),
            )
        )
        self.downsample: nn.Module | None = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(
                OrderedDict(conv=conv(cin, cout, 1, stride), bn=nn.BatchNorm2d(cout))
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.layers(x) + shortcut)


class ChildBottleneck(nn.Module):
    """A bottleneck with its own two 1x1 convolutions whose 3x3 is a child of a parent's: [B, 4w, H, W] -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        cout = 4 * width
        self.half1 = nn.Sequential(
            OrderedDict(
                conv1=conv(cout, width, 1),
                bn1=nn.BatchNorm2d(width),
                relu=nn.ReLU(),
                se=SqueezeExcite(width, width // 4),
            )
        )
        self.half2 = nn.Sequential(
            OrderedDict(
                bn2=nn.BatchNorm2d(width),
                relu=nn.ReLU(),
                conv3=conv(width, cout, 1),
                bn3=nn.BatchNorm2d(cout),
            )
        )

    def forward(self, x: Tensor, parent: Tensor, filter_attn: Tensor, spatial_attn: Tensor) -> Tensor:
        y = child_conv2d(self.half1(x), parent, filter_attn, spatial_attn)
        return F.relu(self.half2(y) + x)


class ResNet50Layer3(nn.Module):
    """block0, then three pairs (child i, parent i); child i adapts the 3x3 of parent i."""

    KIDS = 3

    def __init__(self, cin: int, width: int, stride: int = 2) -> None:
        super().__init__()
        self.static_filter_attn = nn.Parameter(torch.zeros(self.KIDS, width, 1, 1, 1))
        self.static_spatial_attn = nn.Parameter(torch.zeros(self.KIDS, 1, 1, 3, 3))
        self.block0 = ParentBottleneck(cin, width, stride)
        self.parents = nn.ModuleList(ParentBottleneck(4 * width, width) for _ in range(self.KIDS))
        self.kids = nn.ModuleList(ChildBottleneck(width) for _ in range(self.KIDS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block0(x)
        for i, (kid, parent) in enumerate(zip(self.kids, self.parents)):
            kernel = parent.layers.conv2.weight
            x = parent(kid(x, kernel, self.static_filter_attn[i], self.static_spatial_attn[i]))
        return x


class ResNet50Layer4(nn.Module):
    """block0, one child, last_block; the child adapts the 3x3 of last_block."""

    def __init__(self, cin: int, width: int, stride: int = 2) -> None:
        super().__init__()
        self.static_filter_attn2 = nn.Parameter(torch.zeros(1, width, 1, 1, 1))
        self.static_spatial_attn = nn.Parameter(torch.zeros(1, 1, 1, 3, 3))
        self.block0 = ParentBottleneck(cin, width, stride)
        self.blocks = nn.ModuleList([ChildBottleneck(width)])
        self.last_block = ParentBottleneck(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.last_block.layers.conv2.weight
        x = self.block0(x)
        x = self.blocks[0](x, kernel, self.static_filter_attn2[0], self.static_spatial_attn[0])
        return self.last_block(x)


class ResNet(nn.Module):
    """ImageNet ResNet: x [B, 3, H, W] -> logits [B, classes]."""

    def __init__(self, layers: list[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def resnet18(plain: bool = False, classes: int = 1000) -> ResNet:
    def layer(cin: int, width: int, stride: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(cin, width, stride), BasicBlock(width, width))

    stage = layer if plain else ResNet18Stage
    net = ResNet([layer(64, 64, 1), layer(64, 128, 2), stage(128, 256, 2), stage(256, 512, 2)], 512, classes)
    init_fan_out(net)
    return net


def resnet50(plain: bool = False, classes: int = 1000) -> ResNet:
    def layer(cin: int, width: int, stride: int, count: int) -> nn.Sequential:
        rest = [Bottleneck(4 * width, width) for _ in range(count - 1)]
        return nn.Sequential(Bottleneck(cin, width, stride), *rest)

    layers = [layer(64, 64, 1, 3), layer(256, 128, 2, 4)]
    if plain:
        layers += [layer(512, 256, 2, 6), layer(1024, 512, 2, 3)]
    else:
        layers += [ResNet50Layer3(512, 256), ResNet50Layer4(1024, 512)]
    net = ResNet(layers, 2048, classes)
    if plain:
        init_fan_out(net)
    return net


# ------------------------------------------------------------------------------------------------- MobileNetV2


def conv_bn_relu6(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(cin, cout, kernel, stride, groups), nn.BatchNorm2d(cout), nn.ReLU6())


class InvertedResidual(nn.Module):
    """torchvision's block: 1x1 expansion (unless expand = 1), 3x3 depthwise, 1x1 projection."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        self.residual = stride == 1 and cin == cout
        expansion = [conv_bn_relu6(cin, hidden, 1)] if expand != 1 else []
        self.conv = nn.Sequential(
            *expansion,
            conv_bn_relu6(hidden, hidden, 3, stride, hidden),
            conv(hidden, cout, 1),
            nn.BatchNorm2d(cout),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


class ClusterBlock(nn.Module):
    """An inverted residual that owns its kernels, in KernelDNA's key layout (``layers.*``), expansion 6."""

    def __init__(self, cin: int, cout: int, stride: int, residual: bool) -> None:
        super().__init__()
        hidden = 6 * cin
        self.residual = residual
        self.layers = nn.Sequential(
            OrderedDict(
                pw1=conv(cin, hidden, 1),
                bn1=nn.BatchNorm2d(hidden),
                relu1=nn.ReLU6(),
                dw=conv(hidden, hidden, 3, stride, hidden),
                bn2=nn.BatchNorm2d(hidden),
                relu2=nn.ReLU6(),
                pw2=conv(hidden, cout, 1),
                bn3=nn.BatchNorm2d(cout),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class ClusterChild(nn.Module):
    """A child block [B, c, H, W] -> same: both 1x1 kernels are a parent's, the depthwise kernel and BN its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden, squeeze = 6 * width, width // 4
        self.dwconv = conv(hidden, hidden, 3, 1, hidden)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.bn3 = nn.BatchNorm2d(width)
        self.se1 = SqueezeExcite(width, squeeze)
        self.se3 = SqueezeExcite(hidden, squeeze)

    def forward(self, x: Tensor, pw1: Tensor, filter1: Tensor, pw2: Tensor, filter3: Tensor) -> Tensor:
        t = F.relu6(self.bn1(child_conv2d(self.se1(x), pw1, filter1)))
        t = F.relu6(self.bn2(self.dwconv(t)))
        return self.bn3(child_conv2d(self.se3(t), pw2, filter3)) + x


class ShareCluster(nn.Module):
    """transition, children, last_block (the parent): [B, cin, H, W] -> [B, cout, H/stride, W/stride]."""

    def __init__(self, cin: int, cout: int, stride: int, kids: int) -> None:
        super().__init__()
        self.static_filter_attn1 = nn.Parameter(torch.zeros(kids, 6 * cout, 1, 1, 1))
        self.static_filter_attn3 = nn.Parameter(torch.zeros(kids, cout, 1, 1, 1))
        self.transition = ClusterBlock(cin, cout, stride, residual=False)
        self.blocks = nn.ModuleList(ClusterChild(cout) for _ in range(kids))
        self.last_block = ClusterBlock(cout, cout, 1, residual=True)

    def forward(self, x: Tensor) -> Tensor:
        pw1, pw2 = self.last_block.layers.pw1.weight, self.last_block.layers.pw2.weight
        x = self.transition(x)
        for i, block in enumerate(self.blocks):
            x = block(x, pw1, self.static_filter_attn1[i], pw2, self.static_filter_attn3[i])
        return self.last_block(x)


class MobileNetV2(nn.Module):
    """x [B, 3, H, W] -> logits [B, classes]. Width 1.0 or 0.5; ``plain`` gives torchvision's network."""

    # expansion, channels at width 1.0, blocks, stride of the first
    GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, width: float = 1.0, plain: bool = False, classes: int = 1000) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            """Scale to a multiple of eight, losing no more than a tenth."""
            result = max(8, int(channels * width + 4) // 8 * 8)
            return result + 8 if result < 0.9 * channels * width else result

        cin = scaled(32)
        features: list[nn.Module] = [conv_bn_relu6(3, cin, 3, 2)]
        for expand, channels, count, stride in self.GROUPS:
            cout = scaled(channels)
            if plain or count < 3:
                for i in range(count):
                    features.append(InvertedResidual(cin if i == 0 else cout, cout, stride if i == 0 else 1, expand))
            else:  # the group's blocks are one cluster, at the index of the last of them
                features += [nn.Sequential() for _ in range(count - 1)]
                features.append(ShareCluster(cin, cout, stride, count - 2))
            cin = cout
        last = max(1280, int(1280 * width))
        features.append(conv_bn_relu6(cin, last, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(last, classes))
        init_fan_out(self)
        for m in self.modules():
            if isinstance(m, nn.Conv2d) and m.bias is not None:
                nn.init.zeros_(m.bias)
        nn.init.normal_(self.classifier[1].weight, 0, 0.01)
        nn.init.zeros_(self.classifier[1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


# ----------------------------------------------------------------------------------------------- Fashion-MNIST

FASHION_WIDTHS = (32, 64)  # w1, P


class FashionNet(nn.Module):
    """Small network for 28x28 grey images: x [B, 1, 28, 28] -> logits [B, 10].

    3x3 stem (1 -> w1), 2x2 max pooling, one basic block, one six-convolution stage (w1 -> P, stride 2), pooled
    classifier. ``plain=True`` gives the twin whose stage owns all its kernels.
    """

    def __init__(self, plain: bool = False, widths: tuple[int, int] = FASHION_WIDTHS, classes: int = 10) -> None:
        super().__init__()
        w1, width = widths
        self.conv1 = conv(1, w1, 3)
        self.bn1 = nn.BatchNorm2d(w1)
        self.layer1 = nn.Sequential(BasicBlock(w1, w1))
        self.layer3 = ResNet18Stage(w1, width, stride=2, shared=not plain)
        self.fc = nn.Linear(width, classes)
        init_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(x)), 2))  # pooling and ReLU commute; this order is cheaper
        return self.fc(self.layer3(self.layer1(x)).mean((2, 3)))


# -------------------------------------------------------------------------------------------------- Segmentation

SEGMENT_WIDTHS = (16, 32, 64)


class SegmentNet(nn.Module):
    """Encoder and decoder for scenes of items: x [B, 1, H, W] -> logits [B, classes, H, W], H and W divisible by 4.

    3x3 stem (1 -> w0), two six-convolution stages of stride 2 (w0 -> w1 -> w2), then back: a transposed convolution
    (w2 -> w1), the first stage's output beside it, a six-convolution stage (2 w1 -> w1), a transposed convolution
    (w1 -> w0), the stem's output beside it, a 3x3 convolution (2 w0 -> w0), a 1x1 classifier of each pixel.
    ``shared`` names the stages of parents and children: the widest one, which has most of the kernels' parameters.
    Without any, this is the twin whose layers own all their kernels.
    """

    def __init__(
        self,
        shared: Collection[str] = ("encode2",),
        widths: tuple[int, int, int] = SEGMENT_WIDTHS,
        classes: int = 11,
    ) -> None:
        super().__init__()
        w0, w1, w2 = widths
        self.conv1 = conv(1, w0, 3)
        self.bn1 = nn.BatchNorm2d(w0)
        self.encode1 = ResNet18Stage(w0, w1, stride=2, shared="encode1" in shared)
        self.encode2 = ResNet18Stage(w1, w2, stride=2, shared="encode2" in shared)
        self.up1 = nn.ConvTranspose2d(w2, w1, 2, stride=2)
        self.decode1 = ResNet18Stage(2 * w1, w1, stride=1, shared="decode1" in shared)
        self.up0 = nn.ConvTranspose2d(w1, w0, 2, stride=2)
        self.conv2 = conv(2 * w0, w0, 3)
        self.bn2 = nn.BatchNorm2d(w0)
        self.classes = nn.Conv2d(w0, classes, 1)
        init_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        full = F.relu(self.bn1(self.conv1(x)))
        half = self.encode1(full)
        x = self.decode1(torch.cat([half, self.up1(self.encode2(half))], 1))
        x = F.relu(self.bn2(self.conv2(torch.cat([full, self.up0(x)], 1))))
        return self.classes(x)


# ----------------------------------------------------------------------------------------------------- Detection


class PyramidHead(nn.Module):
    """A detection head for the levels of a feature pyramid, as in RTMDet and RetinaNet-SepBN: the kernels are one for all
    levels, and each level has batch norms of its own.

    Maps [B, C, Hi, Wi] -> for each level class scores [B, classes, Hi, Wi] and distances to the sides of a box
    [B, 4, Hi, Wi]. Keys: ``convs.{scores,boxes}.i.weight`` [C, C, 3, 3], ``bns.{scores,boxes}.level.i.*`` [C],
    ``scores``, ``boxes`` (1x1 with bias).
    """

    BRANCHES = ("scores", "boxes")

    def __init__(self, channels: int, classes: int, levels: int = 3, depth: int = 2) -> None:
        super().__init__()

        def norms() -> nn.ModuleList:
            return nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(depth))

        self.convs = nn.ModuleDict(
            {b: nn.ModuleList(conv(channels, channels, 3) for _ in range(depth)) for b in self.BRANCHES}
        )
        self.bns = nn.ModuleDict({b: nn.ModuleList(norms() for _ in range(levels)) for b in self.BRANCHES})
        self.scores = nn.Conv2d(channels, classes, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)

    def branch(self, name: str, level: int, x: Tensor) -> Tensor:
        for convolution, bn in zip(self.convs[name], self.bns[name][level]):
            x = F.relu(bn(convolution(x)))
        return x

    def forward(self, *maps: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [
            (self.scores(self.branch("scores", i, x)), F.relu(self.boxes(self.branch("boxes", i, x))))
            for i, x in enumerate(maps)
        ]


ARCHS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_1d2": lambda: MobileNetV2(0.5),
    "resnet18_plain": lambda: resnet18(plain=True),
    "resnet50_plain": lambda: resnet50(plain=True),
    "mobilenet_v2_plain": lambda: MobileNetV2(plain=True),
    "mobilenet_v2_1d2_plain": lambda: MobileNetV2(0.5, plain=True),
    "fashion_dna": FashionNet,
    "fashion_plain": lambda: FashionNet(plain=True),
    "segment_dna": SegmentNet,
    "segment_plain": lambda: SegmentNet(shared=()),
}


def build(arch: str) -> nn.Module:
    """A freshly initialised network by name (see ``ARCHS``)."""
    return ARCHS[arch]()


def parameter_count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def multiply_adds(arch: str, size: tuple[int, int, int]) -> int:
    """Multiply-adds of all convolutions and linear layers, gates included, for one input of size (C, H, W)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        net, x = build(arch).eval().requires_grad_(False), torch.empty(1, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return counter.get_total_flops() // 2
