"""Subclasses of ``Conv2d`` that compute what a ``Conv2d`` does, such as those which pad by TensorFlow's rule, become one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def half_extents(conv: nn.Conv2d) -> tuple[int, ...]:
    """The padding that keeps a map's size at stride 1, for kernels of odd extents."""
    return tuple((k - 1) * d // 2 for k, d in zip(conv.kernel_size, conv.dilation))


def plain(conv: nn.Conv2d, padding: tuple[int, ...]) -> nn.Conv2d:
    """A ``Conv2d`` on the same parameters."""
    made = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        tuple(conv.stride),
        padding,
        conv.dilation,
        conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)


def equivalent(conv: nn.Conv2d, x: Tensor, y: Tensor) -> nn.Conv2d | None:
    """A ``Conv2d`` that turns x into y as ``conv`` did, by the padding of ``conv`` or by that which keeps the size; None without."""
    if "weight" not in conv._parameters or not isinstance(y, Tensor) or conv.padding_mode != "zeros":
        return None
    paddings = [] if isinstance(conv.padding, str) else [tuple(conv.padding)]
    for padding in dict.fromkeys([*paddings, half_extents(conv)]):
        lost = (d * (k - 1) - 2 * p for k, d, p in zip(conv.kernel_size, conv.dilation, padding))
        if y.shape[2:] != tuple(n - less for n, less in zip(x.shape[2:], lost)):
            continue
        made = plain(conv, padding)
        if torch.allclose(made(x), y, rtol=1e-4, atol=1e-4 * float(y.abs().max())):
            return made
    return None


@torch.no_grad()
def with_plain_convolutions(net: nn.Module, image: Tensor) -> list[str]:
    """Replaces, in place, layers of stride 1 with a forward of their own by a ``Conv2d`` which computes the same from this image.

    At stride 1 padding does not depend on the size of the image, so what agrees here agrees for every size. Returns their names.
    Kernels that the forward changes (standardised weights), or padding that differs, are found by the comparison, and stay.
    """
    found: dict[str, nn.Conv2d | None] = {}

    def compare(name: str, conv: nn.Conv2d, x: Tensor, y: Tensor) -> None:
        found[name] = equivalent(conv, x, y) if found.get(name, True) is not None else None

    special = {
        name: m
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d) and type(m).forward is not nn.Conv2d.forward and max(m.stride) == 1
    }
    hooks = [
        m.register_forward_hook(lambda m, given, out, name=name: compare(name, m, given[0], out))
        for name, m in special.items()
    ]
    try:
        net(image)
    finally:
        for hook in hooks:
            hook.remove()
    replaced = {name: conv for name, conv in found.items() if conv is not None}
    for name, conv in replaced.items():
        holder, _, attribute = name.rpartition(".")
        setattr(net.get_submodule(holder), attribute, conv)
    return list(replaced)
