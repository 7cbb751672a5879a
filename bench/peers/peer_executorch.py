"""XNNPACK by way of ExecuTorch, which lowers PyTorch modules to it.

xnnpack         input and output as PyTorch has them, which XNNPACK transposes
xnnpack-nhwc    channels last
"""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

import items
import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from safetensors.torch import load_file
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]


class Layer(nn.Module):
    """A convolution with the BatchNorm folded in, and ReLU."""

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        t = load_file(item["file"])
        o, i, k = item["o"], item["i"], item["k"]
        self.conv = nn.Conv2d(i, o, k, item["stride"], k // 2, groups=item["groups"])
        self.conv.load_state_dict({"weight": t["folded.weight"], "bias": t["folded.bias"]})

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Program:
    """A module, lowered for inputs like x."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        edge = to_edge_transform_and_lower(torch.export.export(module, (x,)), partitioner=[XnnpackPartitioner()])
        self.buffer = edge.to_executorch().buffer  # what is loaded refers to it
        self.loaded = portable_lib._load_for_executorch_from_buffer(self.buffer)

    def __call__(self, x: Tensor) -> Tensor:
        return self.loaded.forward((x,))[0]


class Peer:
    VARIANTS = {
        "layer": ["xnnpack plain", "xnnpack-nhwc plain"],
        "child": [],
        "network": ["xnnpack plain", "xnnpack-nhwc plain"],
    }

    def __init__(self, threads: int) -> None:
        logging.disable(logging.WARNING)
        portable_lib._unsafe_reset_threadpool(threads)
        one = torch.ones(1, 1)
        program = Program(nn.ReLU().eval(), one)
        self.trivial = lambda: program(one)

    def versions(self) -> dict[str, str]:
        return {"ExecuTorch": version("executorch")}

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: Arrays) -> Any:
        if item["kind"] == "layer":
            module: nn.Module = Layer(item)
        else:
            module = items.build(item["arch"] + "_plain")
            module.load_state_dict(load_file(item["weights_plain"]))
        module.eval()
        x = torch.from_numpy(tensors["x"]).clone()
        if variant == "xnnpack-nhwc":
            x = x.to(memory_format=torch.channels_last)
        program = Program(module, x)
        return lambda: program(x), lambda: program(x).numpy(), ""
