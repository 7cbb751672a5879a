"""``ChildConv2d``: a convolution that reads another layer's kernel through an adapter of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdna_torch.layers import SqueezeExcite, child_kernel

GATE_AT_REST = 0.5  # sigmoid(0), what a gate with fc2 = 0 gives


def gate_width(channels: int, reduction: int) -> int:
    """Hidden units of a gate over so many channels; a reduction of 0: no gate."""
    return max(1, channels // reduction) if reduction else 0


class ChildConv2d(nn.Conv2d):
    """Takes the place of ``conv``: y = conv(s(x) * x, Wp * (1 + a_sp) * (1 + a_f)) + bias.

    Wp is the parameter ``parent.weight`` itself, so the state_dict's two entries are one tensor, and an export stores it
    once. Stride, padding, dilation and bias are those of ``conv``. ``hidden`` is the width of the gate s, 0 for none;
    kernels of one tap have no a_sp. A fresh child computes what the parent's kernel would in its place: the gate's last
    layer begins at zero, where the gate is 0.5, and 1 + a_f at 2.
    """

    def __init__(self, conv: nn.Conv2d, parent: nn.Conv2d, hidden: int) -> None:
        if conv.weight.shape != parent.weight.shape or conv.groups != parent.groups:
            raise ValueError(
                f"a child's kernel has the shape {tuple(conv.weight.shape)} in {conv.groups} groups, its parent's "
                f"{tuple(parent.weight.shape)} in {parent.groups}"
            )
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",
        )
        self.weight, self.bias = parent.weight, conv.bias
        kh, kw = conv.kernel_size
        like = {"device": parent.weight.device, "dtype": parent.weight.dtype}
        self.static_filter_attn = nn.Parameter(torch.zeros(conv.out_channels, 1, 1, 1, **like))
        self.static_spatial_attn = nn.Parameter(torch.zeros(1, 1, kh, kw, **like)) if kh * kw > 1 else None
        self.gate: SqueezeExcite | None = None
        if hidden:
            self.gate = SqueezeExcite(conv.in_channels, hidden).to(**like)
            nn.init.zeros_(self.gate.se.fc2.weight)
            nn.init.zeros_(self.gate.se.fc2.bias)
            nn.init.constant_(self.static_filter_attn, 1 / GATE_AT_REST - 1)
        self.train(conv.training)

    def adapt(self, filters: Tensor, spatial: Tensor | None, channels: Tensor | None = None) -> None:
        """Sets the factors [O], [KH, KW] and [C] of the kernel; those over channels need a gate, and lie in it.

        The gate lies between 0 and 1: channels, which are positive, are scaled so that their mean is at its rest, or the largest
        at 0.95; the filters take up the scale.
        """
        with torch.no_grad():
            if self.gate is not None:
                g = torch.ones(self.in_channels // self.groups) if channels is None else channels
                scale = min(GATE_AT_REST / g.mean().item(), 0.95 / g.max().item())
                self.gate.se.fc2.bias.copy_(torch.logit(g * scale).repeat(self.groups))
                filters = filters / scale
            self.static_filter_attn.copy_(filters.view(-1, 1, 1, 1) - 1)
            if self.static_spatial_attn is not None and spatial is not None:
                self.static_spatial_attn.copy_(spatial - 1)

    def kernel(self) -> Tensor:
        return child_kernel(self.weight, self.static_filter_attn, self.static_spatial_attn)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            x = self.gate(x)
        return self._conv_forward(x, self.kernel(), self.bias)

    def adapter_parameters(self) -> int:
        """Parameters of this child that the layer it replaces did not have."""
        return (
            sum(p.numel() for p in self.parameters())
            - self.weight.numel()
            - (0 if self.bias is None else len(self.bias))
        )
