"""What the training scripts share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def channels_last(net: nn.Module) -> nn.Module:
    """Lays the kernels of 2-D convolutions out as NHWC, which is what the CPU's convolutions want."""
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            m.to(memory_format=torch.channels_last)
    return net


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on convolution and linear weights only: not on biases, batch norms and static adapters."""
    decay, free = [], []
    for name, p in net.named_parameters():
        (free if p.ndim == 1 or "static_" in name else decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
