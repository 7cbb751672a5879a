"""ResNet18 and MobileNetV2 with dynamic convolutions, with the state_dict keys of the methods' public code.

Which convolutions are dynamic: ODConv: all but the stem and the shortcuts; DyConv: all but the stem; DCD: the 3x3 of
the blocks, and the classifier; KernelWarehouse: all but ResNet18's stem (MobileNetV2's stem is dynamic).
"""

from __future__ import annotations

from typing import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .dynamic import DCDConv2d, DyConv2d, DYCls, ODConv2d
from .networks import MobileNetV2, ResNet, conv, init_fan_out
from .warehouse import KWManager

# (name of a shared warehouse, cin, cout, kernel, stride, groups) -> convolution padded by kernel // 2
ConvFactory = Callable[[str, int, int, int, int, int], nn.Module]


def odconv(kernels: int) -> ConvFactory:
    def make(_: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> nn.Module:
        return ODConv2d(cin, cout, kernel, stride, kernel // 2, 1, groups, kernels)

    return make


def dyconv(kernels: int) -> ConvFactory:
    def make(_: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> nn.Module:
        return DyConv2d(cin, cout, kernel, stride, kernel // 2, 1, groups, False, kernels)

    return make


def dcd(_: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> nn.Module:
    return DCDConv2d(cin, cout, kernel, stride, kernel // 2, pool=2)


def warehouse(manager: KWManager) -> ConvFactory:
    def make(name: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> nn.Module:
        return manager.conv(name, cin, cout, kernel, stride, groups=groups)

    return make


def static(_: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> nn.Module:
    return conv(cin, cout, kernel, stride, groups)


# ---------------------------------------------------------------------------------------------------- ResNet18


class DynamicBasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, made by factories; ``before`` and ``stage`` name their warehouses.

    The first convolution and the shortcut's belong to warehouse ``before``, the second to ``stage``.
    """

    def __init__(
        self, cin: int, cout: int, stride: int, make: ConvFactory, shortcut: ConvFactory, before: str, stage: str
    ) -> None:
        super().__init__()
        self.conv1 = make(before, cin, cout, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = make(stage, cout, cout, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample: nn.Module | None = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(shortcut(before, cin, cout, 1, stride, 1), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


def dynamic_resnet18(make: ConvFactory, shortcut: ConvFactory, classes: int = 1000) -> ResNet:
    layers, cin = [], 64
    for stage, width in enumerate((64, 128, 256, 512)):
        here = str(stage)
        first = DynamicBasicBlock(cin, width, 2 if stage else 1, make, shortcut, str(max(stage - 1, 0)), here)
        layers.append(nn.Sequential(first, DynamicBasicBlock(width, width, 1, make, shortcut, here, here)))
        cin = width
    net = ResNet(layers, cin, classes)
    init_fan_out(net)
    return net


class DCDResNet(nn.Module):
    """ResNet18 whose classifier is dynamic too: key ``classifier.0.*`` instead of ``fc.*``."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        net = dynamic_resnet18(dcd, static)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.classifier = nn.Sequential(DYCls(512, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.classifier(x.mean((2, 3)))


def resnet18_kw(cell_num_ratio: float = 1) -> ResNet:
    manager = KWManager(cell_num_ratio)
    make = warehouse(manager)
    net = dynamic_resnet18(make, make)
    net.warehouse_manager = manager
    manager.store(net)
    return net


# ------------------------------------------------------------------------------------------------- MobileNetV2


class DynamicInvertedResidual(nn.Module):
    """1x1 expansion (unless expand = 1), 3x3 depthwise, 1x1 projection, made by a factory.

    The 1x1 convolutions belong to warehouse ``pw<stage>``, the depthwise one to ``dw<stage>``.
    """

    def __init__(self, cin: int, cout: int, stride: int, expand: int, make: ConvFactory, stage: int) -> None:
        super().__init__()
        hidden = cin * expand
        self.residual = stride == 1 and cin == cout

        def unit(name: str, cin: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
            return nn.Sequential(make(name, cin, hidden, kernel, stride, groups), nn.BatchNorm2d(hidden), nn.ReLU6())

        expansion = [unit(f"pw{stage}", cin, 1, 1, 1)] if expand != 1 else []
        self.conv = nn.Sequential(
            *expansion,
            unit(f"dw{stage}", hidden, 3, stride, hidden),
            make(f"pw{stage}", hidden, cout, 1, 1, 1),
            nn.BatchNorm2d(cout),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


class DynamicMobileNetV2(nn.Module):
    """x [B, 3, H, W] -> logits [B, classes], width 1.0.

    A group of blocks has a stage (the last two share one). Its first block belongs to the stage before, if that is
    another; the last 1x1 belongs to the last stage.
    """

    STAGES = (1, 2, 3, 4, 5, 6, 6)

    def __init__(self, make: ConvFactory, stem: ConvFactory, classifier: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        features: list[nn.Module] = [nn.Sequential(stem("stem", 3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU6())]
        cin, before = 32, self.STAGES[0]
        for (expand, cout, count, stride), stage in zip(MobileNetV2.GROUPS, self.STAGES):
            features.append(DynamicInvertedResidual(cin, cout, stride, expand, make, before))
            features += [DynamicInvertedResidual(cout, cout, 1, expand, make, stage) for _ in range(count - 1)]
            cin, before = cout, stage
        last = make(f"pw{before}", cin, 1280, 1, 1, 1)
        features.append(nn.Sequential(last, nn.BatchNorm2d(1280), nn.ReLU6()))
        self.features = nn.Sequential(*features)
        self.classifier = classifier(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2_odconv(kernels: int) -> DynamicMobileNetV2:
    net = DynamicMobileNetV2(odconv(kernels), static, lambda i, o: nn.Sequential(nn.Dropout(0.0), nn.Linear(i, o)))
    init_fan_out(net)
    return net


def mobilenet_v2_kw(cell_num_ratio: float = 1) -> DynamicMobileNetV2:
    manager = KWManager(cell_num_ratio)
    make = warehouse(manager)
    net = DynamicMobileNetV2(make, make, nn.Linear)
    net.warehouse_manager = manager
    manager.store(net)
    return net


DYNAMIC_ARCHS: dict[str, Callable[[], nn.Module]] = {
    "resnet18_odconv_1x": lambda: dynamic_resnet18(odconv(1), static),
    "resnet18_odconv_4x": lambda: dynamic_resnet18(odconv(4), static),
    "resnet18_dyconv_4x": lambda: dynamic_resnet18(dyconv(4), dyconv(4)),
    "resnet18_dcd": DCDResNet,
    "resnet18_kw_1x": resnet18_kw,
    "mobilenet_v2_odconv_1x": lambda: mobilenet_v2_odconv(1),
    "mobilenet_v2_odconv_4x": lambda: mobilenet_v2_odconv(4),
    "mobilenet_v2_kw_1x": mobilenet_v2_kw,
}
