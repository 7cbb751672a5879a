"""PyTorch: channels last, oneDNN, inference mode.

torch            eager
torch-default    dynamic layers and networks: eager, memory format left as it is by default
torch-prepacked  single layers: oneDNN's convolution with fused ReLU and reordered weights, what torch.compile calls
torch-frozen     networks: TorchScript, frozen and optimised for inference

A child in the form "child" has its kernel computed in every call, as in KernelDNA's code; "expanded" once, beforehand.
"""

from __future__ import annotations

import re
from typing import Any, Callable

import dynamic_items
import items
import kdna_torch.networks
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]


class Peer:
    VARIANTS = {
        "layer": ["torch plain", "torch-prepacked plain"],
        "child": ["torch plain", "torch expanded", "torch child"],
        "network": ["torch plain", "torch-frozen plain", "torch expanded", "torch child"],
    }

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.guard = torch.inference_mode()
        self.guard.__enter__()  # for as long as the worker lives
        one = torch.ones(1)
        self.trivial = lambda: F.relu(one)

    def versions(self) -> dict[str, str]:
        onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
        return {"PyTorch": torch.__version__.split("+")[0] + (f" with oneDNN {onednn[1]}" if onednn else "")}

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: Arrays) -> Any:
        if item["kind"] == "dynamic":
            module, image = dynamic_items.load(item, form), torch.from_numpy(tensors["x"])
            if variant == "torch":
                module, image = channels_last(module), image.clone(memory_format=torch.channels_last)
            return lambda: module(image), lambda: module(image).numpy(), ""
        x = torch.from_numpy(tensors["x"]).clone(memory_format=torch.channels_last)
        if item["kind"] == "network":
            call = self.network(item, variant, form, x)
        elif item["kind"] == "child":
            module = channels_last(items.layer_module(item, form))
            residual = torch.from_numpy(tensors["residual"]).clone(memory_format=torch.channels_last)
            call = lambda: module(x, residual)  # noqa: E731
        else:
            call = self.layer(item, variant, x)
        return call, lambda: call().numpy(), ""

    def layer(self, item: dict[str, Any], variant: str, x: Tensor) -> Callable[[], Tensor]:
        t = load_file(item["file"])
        w = t["folded.weight"].to(memory_format=torch.channels_last)
        b = t["folded.bias"]
        pad, stride, groups = [item["k"] // 2] * 2, [item["stride"]] * 2, item["groups"]
        if variant == "torch":
            return lambda: F.relu_(F.conv2d(x, w, b, stride, pad, 1, groups))
        packed = torch.ops.mkldnn._reorder_convolution_weight(w, pad, stride, [1, 1], groups, list(x.shape))
        fused = torch.ops.mkldnn._convolution_pointwise.default
        return lambda: fused(x, packed, b, pad, stride, [1, 1], groups, "relu", [], "")

    def network(self, item: dict[str, Any], variant: str, form: str, x: Tensor) -> Callable[[], Tensor]:
        # Modules look the function up when they are called, so each call puts in place the one that its form means.
        child_conv2d = remembering(ORIGINAL) if form == "expanded" else ORIGINAL
        plain = form == "plain"
        net: nn.Module = items.build(item["arch"] + ("_plain" if plain else "")).eval()
        net.load_state_dict(load_file(item["weights_plain" if plain else "weights_child"]))
        channels_last(net)
        if variant == "torch-frozen":
            script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x).eval()))
            return lambda: script(x)

        def call() -> Tensor:
            kdna_torch.networks.child_conv2d = child_conv2d
            return net(x)

        return call


def channels_last(module: nn.Module) -> nn.Module:
    """As module.to(memory_format=...), which stumbles over the adapters' five axes."""
    for p in module.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    return module


ORIGINAL = kdna_torch.networks.child_conv2d


def remembering(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """child_conv2d that makes each child kernel once."""
    kernels: dict[tuple[int, int], Tensor] = {}

    def child_conv2d(
        x: Tensor,
        parent: Tensor,
        filter_attn: Tensor,
        spatial_attn: Tensor | None = None,
        stride: int = 1,
        groups: int = 1,
    ) -> Tensor:
        key = parent.data_ptr(), filter_attn.data_ptr()
        kernel = kernels.get(key)
        if kernel is None:
            kernel = kernels[key] = kdna_torch.child_kernel(parent, filter_attn, spatial_attn)
        return F.conv2d(x, kernel, stride=stride, padding=parent.shape[-1] // 2, groups=groups)

    return child_conv2d
