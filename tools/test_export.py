#!/usr/bin/env python3
"""Checks of kdna_torch.export: every operation, what is refused, sizes that change, shared weights, dynamic layers.

    python test_export.py      or      pytest test_export.py

With KDNA_RUN=PROGRAM the files are also run by that program (examples/kdna_run.cpp), and compared with the module.

``export`` itself compares each file with the module in double precision at two sizes; the tests look at what was written,
and run the file at a further size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, safe_open
from torch import Tensor, nn

import kdna_torch
from kdna_torch import ARCHS, ExportError, LSConv, Node, ODConv2d, build, export, register
from kdna_torch.cases import load_case
from kdna_torch.checkpoint import CheckpointError, randomise, read_checkpoint
from kdna_torch.dynamic import DCDConv2d, DYCls, DyConv2d
from kdna_torch.dymn import DyMNBlock, DynamicConv
from kdna_torch.extents import Dim, Ratio, combine
from kdna_torch.fdconv import FDConv
from kdna_torch.interpret import FormatError, Network, extent
from kdna_torch.kernel_unet import KernelUNet, seasonal
from kdna_torch.layers import CondConv2d
from kdna_torch.modulated import ModulatedConv2d, StyledConv2d
from kdna_torch.networks import PyramidHead
from kdna_torch.trace import DoublePrecision
from kdna_torch.warehouse import KWChain, KWManager

torch.set_num_threads(1)  # the layers are small
PROGRAM = os.environ.get("KDNA_RUN", "")
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scatter(module: nn.Module) -> nn.Module:
    """Random weights, and batch norms far from identity."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, t in module.state_dict().items():
            if not t.is_floating_point():
                continue
            t.copy_(torch.randn(t.shape, generator=rng) * 0.3)
            if name.endswith("running_var"):
                t.copy_(torch.rand(t.shape, generator=rng) * 1.5 + 0.5)
            elif name.endswith("weight") and t.ndim == 1:
                t.add_(1)
    return module.eval()


class Function(nn.Module):
    """A module of one function of its inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


class Exported:
    """What ``export`` wrote."""

    def __init__(self, module: nn.Module, inputs: Any, **options: Any) -> None:
        self.said: list[str] = []
        self.inputs = (
            list(inputs.values()) if isinstance(inputs, dict) else [inputs] if isinstance(inputs, Tensor) else inputs
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.safetensors")
            self.graph = export(module, inputs, path, say=self.said.append, **options)
            assert [p.name for p in Path(folder).iterdir()] == ["net.safetensors"]
            with safe_open(path, "pt") as file:
                assert json.loads(file.metadata()["kdna.graph"]) == self.graph
            self.network, self.tensors, self.bytes = Network(path), load_file(path), path.read_bytes()
        self.nodes = self.graph["nodes"]
        self.ops = [node["op"] for node in self.nodes]

    def run_program(self, program: str) -> None:
        """Runs the file by the library, on the example."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.safetensors")
            path.write_bytes(self.bytes)
            words = [program, "--model", str(path)]
            for option, names in (("--input", self.graph["inputs"]), ("--output", self.graph["outputs"])):
                words += [option, *(f"{n['name']}={folder}/{option[2:]}{i}.npy" for i, n in enumerate(names))]
            for i, x in enumerate(self.inputs):
                np.save(f"{folder}/input{i}.npy", x.float().numpy())
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, (done.returncode, done.stderr, self.nodes)
            for i, (name, want) in enumerate(self.network([x.double() for x in self.inputs]).items()):
                found = torch.from_numpy(np.load(f"{folder}/output{i}.npy")).double()
                assert found.shape == want.shape, (name, found.shape, want.shape, self.nodes)
                error = ((found - want).abs().max() / want.abs().max().clamp(min=1e-30)).item()
                assert error < 1e-4, (name, error, self.nodes)

    def shapes(self) -> list[list[int | None]]:
        return [i["shape"] for i in self.graph["inputs"]]


def check(module: Any, *inputs: Tensor, more: list[tuple[int, ...]] | None = None, **options: Any) -> Exported:
    """Exports, and compares at further sizes of a single input."""
    module = module if isinstance(module, nn.Module) else Function(module)
    module.eval()
    exported = Exported(module, inputs, **options)
    if PROGRAM:
        exported.run_program(PROGRAM)
    assert not more or not exported.said, exported.said
    for shape in more or ():
        x = noise(*shape, seed=9).double()
        module.double()
        with DoublePrecision():
            want = module(x.clone())
        module.float()
        found = next(iter(exported.network([x]).values()))
        torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)
    return exported


def refused(module: Any, *inputs: Tensor, says: str | tuple[str, ...], **options: Any) -> str:
    module = module if isinstance(module, nn.Module) else Function(module)
    with tempfile.TemporaryDirectory() as folder:
        try:
            export(module.eval(), inputs, Path(folder, "net.safetensors"), **options)
        except ExportError as error:
            text = str(error)
            assert all(part in text for part in ([says] if isinstance(says, str) else says)), text
            assert not list(Path(folder).iterdir())
            return text
    raise AssertionError(f"not refused: {says}")


IMAGE = noise(1, 4, 12, 16)
SMALL = [(3, 4, 9, 11), (1, 4, 20, 13)]
FREE = [[None, 4, None, None]]


# ------------------------------------------------------------------------------------------------ every operation


def test_layers() -> None:
    for layer in (
        nn.Conv2d(4, 6, 3, 2, 1),
        nn.Conv2d(4, 8, (3, 1), (1, 2), (2, 0), (2, 1), groups=2, bias=False),
        nn.Conv2d(4, 6, 4, padding="same", dilation=2),
        nn.Conv2d(4, 6, 3, padding="valid"),
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        nn.ConvTranspose2d(4, 6, (2, 4), (2, 3), (0, 1), dilation=2, bias=False),
        nn.BatchNorm2d(4, eps=1e-3),
        nn.BatchNorm2d(4, affine=False),
        nn.GroupNorm(2, 4),
        nn.GroupNorm(2, 4, affine=False),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ):
        exported = check(scatter(layer), IMAGE, more=SMALL)
        assert len(exported.nodes) == 1 and exported.shapes() == FREE, exported.nodes
        assert not any(name.startswith("folded") for name in exported.tensors)
    rows = noise(3, 5, 6)
    for layer in (
        nn.Linear(6, 4),
        nn.Linear(6, 4, bias=False),
        nn.LayerNorm(6),
        nn.LayerNorm((5, 6), 1e-4),
        nn.PReLU(5),
    ):
        assert len(check(scatter(layer), rows, more=[(4, 5, 6)]).nodes) == 1
    check(scatter(nn.BatchNorm1d(5)), rows, more=[(2, 5, 6)])
    check(scatter(nn.LayerNorm(16, elementwise_affine=False)), IMAGE)
    check(scatter(nn.RMSNorm(6, eps=1e-5)), rows)
    assert check(scatter(nn.Conv1d(5, 3, 3, padding=1)), rows).ops == ["unsqueeze", "conv2d", "squeeze"]
    for turned in (nn.ConvTranspose1d(5, 4, 3, stride=3), nn.ConvTranspose1d(5, 10, 4, 2, 1, 1, groups=5, bias=False, dilation=2)):
        assert check(scatter(turned), rows, more=[(2, 5, 6)]).ops == ["unsqueeze", "conv_transpose2d", "squeeze"]
    circular = check(scatter(nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular")), IMAGE, more=SMALL)
    assert circular.ops == ["conv2d"] and circular.nodes[0]["pad_mode"] == "circular"
    assert check(scatter(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")), IMAGE, more=SMALL).ops == [
        "pad",
        "conv2d",
    ]


def test_activations() -> None:
    kinds = {
        nn.ReLU(): "relu",
        nn.ReLU(True): "relu",
        nn.ReLU6(): "relu6",
        nn.Sigmoid(): "sigmoid",
        nn.SiLU(True): "silu",
        nn.Hardsigmoid(): "hard_sigmoid",
        nn.Hardswish(): "hard_swish",
        nn.Tanh(): "tanh",
        nn.GELU(): "gelu",
        nn.GELU("tanh"): "gelu_tanh",
        nn.Mish(): "mish",
        nn.ELU(): "elu",
        nn.ELU(0.5): "elu",
        nn.CELU(): "elu",
        nn.LeakyReLU(): "leaky_relu",
        nn.LeakyReLU(0.2, True): "leaky_relu",
        nn.RReLU(): "leaky_relu",
        nn.PReLU(): "prelu",
        nn.PReLU(4): "prelu",
        nn.Hardtanh(0, 6): "relu6",
    }
    for module, kind in kinds.items():
        exported = check(module, IMAGE * 3)
        assert [n.get("kind") for n in exported.nodes] == [kind], (module, exported.nodes)
    for module in (
        nn.Hardtanh(-2, 1),
        nn.Softplus(),
        nn.Softplus(2),
        nn.SELU(),
        nn.CELU(0.7),
        nn.LogSigmoid(),
        nn.Softsign(),
        nn.GLU(1),
        nn.Softmax(1),
        nn.LogSoftmax(2),
        nn.Tanhshrink(),
        nn.Softmax2d(),
    ):
        check(module, IMAGE * 3)
    for function in (
        torch.relu,
        F.relu6,
        torch.sigmoid,
        torch.tanh,
        F.silu,
        F.hardswish,
        torch.relu_,
        Tensor.sigmoid,
        lambda x: F.leaky_relu_(x.clone(), 0.3),
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: x.clamp_min(0.1),
        lambda x: torch.clamp(x, max=0.2),
    ):
        assert len(check(function, IMAGE).nodes) == 1


def test_arithmetic() -> None:
    column, constant = noise(4, 1, 1, seed=3), noise(1, 4, 12, 16, seed=4)
    for function in (
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: 2 / (x.abs() + 1),
        lambda x: x * 2.5 - 1,
        lambda x: -x / 4,
        lambda x: x**2,
        lambda x: torch.pow(x.abs(), 0.5),
        lambda x: x.square(),
        lambda x: x.add(x, alpha=0.5),
        lambda x: torch.sub(x, x * x, alpha=2),
        lambda x: torch.rsub(x, 3),
        lambda x: x.exp().log(),
        lambda x: x.abs().sqrt(),
        lambda x: (x.abs() + 1).rsqrt(),
        lambda x: (x.abs() + 1).reciprocal(),
        lambda x: torch.maximum(x, x * 2),
        lambda x: torch.min(x, -x),
        lambda x: torch.max(x * 3, torch.tensor(0.5)),
        lambda x: x * torch.tensor(3.0),
        lambda x: torch.addcmul(x, x, x, value=0.5),
        lambda x: torch.lerp(x, -x, 0.25),
        lambda x: torch.neg(x).mul_(2),
    ):
        assert not any(op == "constant" for op in check(function, IMAGE, more=SMALL).ops)
    assert check(lambda x: x * column + column, IMAGE, more=SMALL).ops == ["constant", "mul", "add"]
    assert "fixed" in check(lambda x: x + constant, IMAGE).said[0]


def test_shapes() -> None:
    for function in (
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x, 2),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]),
        lambda x: x.reshape(-1, 2, *x.shape[-2:]),
        lambda x: x.unflatten(1, (2, -1)),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.transpose(1, -1),
        lambda x: x.mT,
        lambda x: x.movedim(1, -1),
        lambda x: x.unsqueeze(2).squeeze(2),
        lambda x: x[:, None],
        lambda x: x[:, 1],
        lambda x: x[..., 1:-1, ::2],
        lambda x: x[:, -2:],
        lambda x: x[:, :, : x.shape[2] // 2],
        lambda x: x[:, [3, 1, 0, 2]],
        lambda x: x[:, torch.tensor([0, 2])],
        lambda x: x.narrow(1, 1, 2),
        lambda x: x.select(1, -1),
        lambda x: x[:, 1, :, None],
        lambda x: x[:, None, 2, ..., None],
        lambda x: x.index_select(1, torch.tensor([2, 3, 0])),
        lambda x: torch.cat([x, x * 2], 1),
        lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda x: torch.stack([x, -x], 2),
        lambda x: torch.cat(x.split([1, 3], dim=1)[::-1], dim=1),
        lambda x: x.split(3, 1)[1],
        lambda x: x.unbind(1)[2],
        lambda x: x.tensor_split(3, 1)[0],
        lambda x: x.mean((2, 3), keepdim=True).expand_as(x) + x,
        lambda x: x.mean((2, 3), True).expand(-1, -1, x.shape[2], 5),
        lambda x: x.repeat(1, 2, 1, 1),
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x.roll((1, -2), (2, 3)),
        lambda x: F.pixel_shuffle(x, 2),
        lambda x: x.flip(1),
        lambda x: F.pixel_unshuffle(x[:, :, :8, :8], 2),
        lambda x: F.channel_shuffle(x, 2),
        lambda x: F.pad(x, (1, 2, 0, 3)),
        lambda x: F.pad(x, (1, 2), value=3.5),
        lambda x: F.pad(x, (2, 1, 1, 2), "reflect"),
        lambda x: F.pad(x, (-1, 2, 1, -2)),
        lambda x: F.pad(x, (2, 1, 1, 2), "replicate"),
        lambda x: F.pad(x, (2, 1, 1, 2), "circular"),
        lambda x: x.view_as(x),
        lambda x: x.contiguous().clone().detach() * 1,
        lambda x: x.swapaxes(2, 3),
        lambda x: x.new_zeros(1).add(1) * x,
        lambda x: x.float().to(torch.float32).type_as(x) + 1,
        lambda x: torch.broadcast_to(x.mean(1, keepdim=True), x.shape) - x,
    ):
        more = [(3, 4, 9, 11), (1, 4, 20, 14)]
        exported = check(function, IMAGE, more=more)
        assert exported.shapes() == FREE and not exported.said, exported.said
    squeezed = check(lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1), IMAGE, more=SMALL)
    assert squeezed.ops == ["mean", "squeeze", "squeeze"]


def attend(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x * 2, x)


class Attending(nn.Module):
    """nn.MultiheadAttention in its forms; the second output are the weights."""

    def __init__(self, mask: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.mask = noise(5, 5) if mask else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        other = x * 2 if self.attention.kdim == 8 else x[:, :, :6]
        return self.attention(x, other, other, attn_mask=self.mask, average_attn_weights=self.mask is None)


def test_multihead_attention() -> None:
    for options in (
        {"batch_first": True},
        {"bias": False},
        {"kdim": 6, "vdim": 6},
        {"mask": True, "batch_first": True},
    ):
        exported = check(scatter(Attending(**options)), noise(2, 5, 8) if "batch_first" in options else noise(5, 2, 8))
        assert exported.ops.count("matmul") == 2 and exported.ops.count("softmax") == 1
        assert exported.ops.count("linear") == 4
    free = check(scatter(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), noise(2, 5, 8), more=[(1, 5, 8)])
    assert free.shapes() == [[None, 5, 8]] and "mean" not in free.ops
    refused(Attending(add_bias_kv=True), noise(5, 2, 8), says="keys of its own")


def test_unfold() -> None:
    for arguments in ((3,), ((2, 3), 1, (0, 1), 2), (2, 2, 1, 1)):
        exported = check(lambda x, a=arguments: F.unfold(x, *a), IMAGE, more=SMALL)
        assert exported.ops == ["conv2d", "flatten"]


def test_resizes_that_are_products_of_matrices() -> None:
    for function in (
        lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
        lambda x: F.interpolate(x, (7, 30), mode="bicubic", align_corners=True),
        lambda x: F.interpolate(x, (5, 9), mode="bilinear", antialias=True),
        lambda x: F.interpolate(x, scale_factor=(1.5, 0.7), mode="nearest-exact"),
    ):
        exported = check(function, IMAGE)
        assert exported.ops == ["constant", "matmul", "constant", "matmul"] and len(exported.said) == 1
        assert exported.shapes() == [[None, *IMAGE.shape[1:]]], exported.shapes()


def test_windows_and_reductions() -> None:
    for function in (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, (2, 3), ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, 1, dilation=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, True),
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 5)),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.AdaptiveMaxPool2d((2, 3)),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.interpolate(x, scale_factor=(1.5, 0.7)),
        lambda x: F.interpolate(x, (7, 5), mode="bilinear"),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        lambda x: F.interpolate(x, (3, 4), mode="area"),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True),
        nn.Upsample(scale_factor=2),
        nn.UpsamplingBilinear2d(scale_factor=2),
        lambda x: x.mean((2, 3)),
        lambda x: x.sum(1, keepdim=True),
        lambda x: x.amax(-1),
        lambda x: torch.amin(x, (1, 2), True),
        lambda x: x.max(1)[0],
        lambda x: torch.min(x, dim=2).values,
        lambda x: x.softmax(1),
        lambda x: torch.log_softmax(x, -1),
        lambda x: x @ x.mT,
        lambda x: torch.matmul(x.mT, x),
        lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)),
        lambda x: x.logsumexp(1),
        lambda x: x.var(1, unbiased=False),
        lambda x: x.std(1, keepdim=True),
        lambda x: torch.var_mean(x, 1)[0],
        lambda x: x.norm(p=2, dim=(2, 3), keepdim=True),
        lambda x: F.normalize(x, dim=1),
        lambda x: torch.linalg.vector_norm(x, dim=1),
        lambda x: F.avg_pool2d(x, x.size()[2:]),
        lambda x: F.max_pool2d(x, x.shape[2:]),
        lambda x: attend(x.mean(2).mT),
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    ):
        exported = check(function, IMAGE, more=SMALL)
        assert exported.shapes() == FREE and not exported.said, exported.said
    # an extent that is computed with a fraction stays an expression where the fraction is one of small numbers
    odd = check(lambda x: F.interpolate(x, scale_factor=0.3, recompute_scale_factor=True), IMAGE)
    assert odd.said and odd.shapes() == [[None, 4, 12, 16]]


def test_nothing_left_of_what_does_nothing_in_eval() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Identity(), nn.Dropout2d(), nn.ReLU(), nn.AlphaDropout())
    assert check(net, IMAGE).ops == ["activation"]
    assert check(nn.Identity(), IMAGE).graph["outputs"] == [{"name": "output", "value": "input"}]


# -------------------------------------------------------------------------------------------------------- extents


class Crop(nn.Module):
    """A decoder that crops what the encoder kept, with Python's int, min and // on extents."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(self.down(x), scale_factor=2)
        h, w = min(x.shape[2], y.shape[2]), min(x.shape[3], y.shape[3])
        top = int((x.shape[2] - h) / 2)
        return x[:, :, top : top + h, :w] + y[:, :, :h, :w]


class SamePadding(nn.Module):
    """TensorFlow's padding, which depends on the extents."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        pads = [max((math.ceil(n / 2) - 1) * 2 + 2 + 1 - n, 0) for n in x.shape[-2:]]
        h, w = pads
        return self.conv(F.pad(x, [w // 2, w - w // 2, h // 2, h - h // 2]))


class C2f(nn.Module):
    """YOLOv8's block: a list that grows while it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1 = nn.Conv2d(4, 8, 1)
        self.m = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.SiLU(inplace=True)) for _ in range(2))
        self.cv2 = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        x = x.view(b, 2, c // 2, h, w)
        return torch.transpose(x, 1, 2).contiguous().view(b, -1, h, w)


def test_extents_follow_the_input() -> None:
    for module in (Crop(), SamePadding(), C2f(), Shuffle()):
        exported = check(module, IMAGE, more=[(2, 4, 13, 17), (1, 4, 9, 32)])
        assert exported.shapes() == FREE and not exported.said
    reshape = check(Shuffle(), IMAGE).nodes[0]
    assert reshape["shape"] == [["dim", "x", 0], 2, 2, ["dim", "x", 2], ["dim", "x", 3]]


class Levels(nn.Module):
    """A top-down path over maps of several sizes, with a convolution that all levels share."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        y = low + F.interpolate(high, size=low.shape[-2:], mode="nearest")
        return self.head(y), self.head(high)


def test_several_inputs_and_shared_weights() -> None:
    exported = check(scatter(Levels()), IMAGE, IMAGE[:, :, ::2, ::2])
    assert [i["name"] for i in exported.graph["inputs"]] == ["low", "high"] and exported.shapes() == FREE * 2
    assert sorted(exported.tensors) == ["head.bias", "head.weight"] and exported.ops.count("conv2d") == 2
    names = [o["name"] for o in exported.graph["outputs"]]
    assert names == ["output.0", "output.1"] and len({o["value"] for o in exported.graph["outputs"]}) == 2
    named = Exported(Levels().eval(), {"low": IMAGE, "high": IMAGE}, output_names=["a", "b"])
    assert [o["name"] for o in named.graph["outputs"]] == ["a", "b"]


def test_a_detection_head_keeps_one_kernel_for_all_levels() -> None:
    head = scatter(PyramidHead(channels=8, classes=3))
    exported = check(head, noise(2, 8, 12, 10), noise(2, 8, 6, 5), noise(2, 8, 3, 3))
    kernels = [n["tensors"]["weight"] for n in exported.nodes if n["op"] == "conv2d"]
    shared = [name for name in head.state_dict() if name.endswith("weight") and not name.startswith("bns.")]
    assert len(shared) == 6 and sorted(kernels) == sorted(shared * 3)
    norms = [n["tensors"]["mean"] for n in exported.nodes if n["op"] == "batch_norm"]
    assert len(set(norms)) == len(norms) == 12
    assert set(exported.tensors) == {k for k in head.state_dict() if not k.endswith("num_batches_tracked")}


def test_known_network() -> None:
    """The network file among the golden cases holds the outputs of the module with its weights."""
    path = GOLDEN / "networks" / "pyramid_head.safetensors"
    with safe_open(path, "pt") as file:
        graph = json.loads(file.metadata()["kdna.graph"])
    tensors = load_file(path)
    inputs = [tensors.pop(f"input.{i['name']}").double() for i in graph["inputs"]]
    outputs = {o["name"]: tensors.pop(f"output.{o['name']}") for o in graph["outputs"]}
    head = PyramidHead(channels=16, classes=5)
    head.load_state_dict(tensors, strict=False)  # the file has no num_batches_tracked
    assert set(tensors) == {k for k in head.state_dict() if not k.endswith("num_batches_tracked")}
    found = [y for level in head.double().eval()(*inputs) for y in level]
    for want, y in zip(outputs.values(), found):
        torch.testing.assert_close(y.float(), want, rtol=1e-6, atol=1e-6)


def test_tied_parameters_are_kept_once() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net[2].weight = net[0].weight
    exported = check(scatter(net), noise(2, 6))
    assert sorted(exported.tensors) == ["0.bias", "0.weight", "2.bias"]
    assert exported.nodes[2]["tensors"] == {"weight": "0.weight", "bias": "2.bias"}


class Lost(nn.Module):
    """What reads an extent in a way that no expression can follow."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_extents_that_must_stay() -> None:
    def said(function: Callable[[Tensor], Tensor], shape: list[int | None], what: str) -> None:
        exported = check(Lost(function), IMAGE)
        assert exported.shapes() == [shape], exported.graph["inputs"]
        assert len(exported.said) == 1 and exported.said[0].startswith(f"{what} fixed to the example's"), exported.said

    fully_connected = nn.Linear(4 * 12 * 16, 3).double()
    said(lambda x: F.linear(x.flatten(1), fully_connected.weight), [None, 4, 12, 16], "height and width")
    said(lambda x: x * math.sqrt(x.shape[2]), [None, 4, 12, 16], "height and width")
    said(lambda x: torch.cat([x[i : i + 1] * 2 for i in range(x.shape[0])]), [1, 4, None, None], "batch")
    said(lambda x: x.view(1, 4, 12, 16) + 1, [1, 4, 12, 16], "all extents")
    said(lambda x: x * 2 if x.shape[2] < 20 else x * 3, [None, 4, 12, 16], "height and width")
    said(lambda x: x.flip(3), [None, 4, 12, 16], "height and width")
    position = noise(1, 4, 12, 16)
    said(lambda x: x + position, [None, 4, 12, 16], "height and width")
    said(lambda x: x[:, :, :14], [None, 4, 12, 16], "height and width")  # cuts nothing at the example's height


def test_branches_on_extents() -> None:
    def padded(x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if h % 4 or w % 4:
            x = F.pad(x, (0, -w % 4, 0, -h % 4))
        return F.avg_pool2d(x, 4)

    def even_only(x: Tensor) -> Tensor:
        if x.shape[2] % 4:
            raise ValueError("a multiple of 4 is needed")
        return F.avg_pool2d(x, 4)

    # the example needs no border, other sizes do; a size that the module itself refuses is no reason
    assert check(Lost(padded), IMAGE).shapes() == [[None, 4, 12, 16]]
    assert check(Lost(padded), IMAGE, sizes="alike").shapes() == FREE
    assert check(Lost(even_only), IMAGE).shapes() == FREE
    refused(Lost(padded), IMAGE, sizes="some", says="any or alike")


def test_extents_as_numbers() -> None:
    def simam(x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        d = (x - x.mean((2, 3), keepdim=True)).pow(2)
        return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / (w * h - 1) + 1e-4)) + 0.5)

    for function in (
        simam,
        lambda x: x / x.shape[2],
        lambda x: x * (x.shape[2] / x.shape[3]),
        lambda x: 1 + x * x.numel(),
    ):
        assert check(Lost(function), IMAGE, more=SMALL).shapes() == FREE


def test_more_than_five_axes_between_reshapes() -> None:
    def windows(x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 4, 4, w // 4, 4, c)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 16, c)

    def to_depth(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, c * 4, h // 2, w // 2)

    for function in (
        windows,
        to_depth,
        lambda x: x.view(1, -1, 2, 2, *x.shape[2:], 1).transpose(2, 3).flatten(1, 3).flatten(3)[0],
    ):
        check(Lost(function), IMAGE)
    refused(lambda x: x.view(1, 4, 3, 4, 4, 4) + 1, IMAGE, says="6 axes")
    refused(lambda x: x.view(1, 4, 3, 4, 4, 4), IMAGE, says="6 axes")


def test_einsum() -> None:
    weight, rows = noise(3, 4), noise(2, 4, 5)
    for function in (
        lambda x: torch.einsum("nchw,oc->nohw", x, weight),
        lambda x: torch.einsum("nchw,nchv->nchwv", x, x),
        lambda x: torch.einsum("nchw,nkhw->nck", x, x),
        lambda x: torch.einsum("nchw->nwc", x),
        lambda x: torch.einsum("nchw,nc->nhw", x, x.mean((2, 3))),
    ):
        check(Lost(function), IMAGE, more=SMALL)
    check(lambda x: torch.einsum("bik,bjk", x, x), rows)
    refused(lambda x: torch.einsum("...k,...k", x, x), rows, says="ellipsis")
    refused(lambda x: torch.einsum("ij,jk,kl->il", x, x.mT, x), noise(2, 3), says="the equation")


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


def test_modules_as_they_come() -> None:
    assert check(lambda x: Swish.apply(x) + 1, IMAGE).ops == ["activation", "mul", "add"]
    for module in (
        torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        nn.DataParallel(nn.Conv2d(4, 4, 3)),
        torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
        torch.compile(nn.Conv2d(4, 4, 3)),
    ):
        assert check(module, IMAGE).ops == ["conv2d"]


def test_expressions() -> None:
    h = Dim.make(13, ("dim", "x", 2))
    assert ((h * 2) // 2).expr == h.expr and (h + 1 - 1).expr == h.expr and h - h == 0 and not isinstance(h - h, Dim)
    for made, value in (
        (h // 2, 6),
        (-(-h // 2), 7),
        (math.ceil(h / 2), 7),
        (math.floor(h / 2), 6),
        (h % 4, 1),
        (2 * h + 3, 29),
        (math.ceil(h * 0.5), 7),
        (combine("max", h, 20), 20),
        (abs(h - 20), 7),
        (20 - h, 7),
        (h**2, 169),
        (math.floor((h + 1) / 2 * 3), 21),
        (divmod(h, 5)[1], 3),
    ):
        assert isinstance(made, Dim) and made == value, (made, value)
        listed = json.loads(json.dumps(made.expr))
        assert extent(listed, {"x": torch.empty(1, 1, 13, 1)}) == value
    assert isinstance(h / 2, Ratio) and (h / 2) == 6.5 and f"{h}" == "13" and h == 13 and [0] * 14 and hash(h) == 13


# --------------------------------------------------------------------------------------------------- what is folded


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / torch.sqrt(var + 1e-5), self.bias, padding=1)


def test_what_parameters_alone_give_is_folded() -> None:
    layer = scatter(Standardised(4, 4, 3))
    exported = check(nn.Sequential(layer, layer), IMAGE, more=SMALL)
    assert exported.ops == ["conv2d"] * 2 and sorted(exported.tensors) == ["0.bias", "folded.0.conv2d.weight"]


def test_batch_norm_is_kept_exactly() -> None:
    net = scatter(nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)))
    exported = check(net, IMAGE)
    assert exported.ops == ["conv2d", "batch_norm"]
    assert all(torch.equal(exported.tensors[k], t) for k, t in net.state_dict().items() if t.is_floating_point())
    half = check(scatter(nn.Conv2d(4, 4, 3)).half().float().bfloat16(), IMAGE)
    assert half.tensors["weight"].dtype == torch.bfloat16


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main, self.aux = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.aux(x).cumsum(1).argmax(1)  # never used, and not even in the file
        return self.main(x)


def test_what_no_output_needs_is_left_out() -> None:
    assert sorted(check(Auxiliary(), IMAGE).tensors) == ["main.bias", "main.weight"]


def test_outputs() -> None:
    def names(function: Callable[[Tensor], Any]) -> list[str]:
        return [o["name"] for o in Exported(Function(function), IMAGE).graph["outputs"]]

    assert names(lambda x: {"out": x + 1, "aux": {"a": x * 2, "b": [x, -x]}, "none": None}) == [
        "out",
        "aux.a",
        "aux.b.0",
        "aux.b.1",
    ]
    assert names(lambda x: (x + 1, (x, [x * 2]))) == ["output.0", "output.1.0", "output.1.1.0"]
    assert names(lambda x: [x.abs(), torch.ones(2)]) == ["output.0", "output.1"]


# --------------------------------------------------------------------------------------------------- in-place calls


def test_in_place_calls() -> None:
    def residual(x: Tensor) -> Tensor:
        y = x * 2
        y += x
        y.add_(1).mul_(3)
        F.relu(y, inplace=True)
        return y

    def before_use(x: Tensor) -> Tensor:
        y = x + 1
        z = y.detach()
        y.relu_()
        return z * 2 + y  # z shows the same memory

    def view_no_longer_used(x: Tensor) -> Tensor:
        y = x * 2
        z = y[:, :2]
        w = z * 3
        y.sigmoid_()
        return torch.cat([w, y], 1)

    for function in (residual, before_use, view_no_longer_used, lambda x: x.relu_() + x):
        check(function, IMAGE, more=SMALL)

    def through_a_view(x: Tensor) -> Tensor:
        y = x * 2
        y[:, :2].relu_()
        return y

    def assigned(x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = 1
        return y

    def into_constant(x: Tensor) -> Tensor:
        y = torch.zeros(1, 4, 12, 16)
        y.copy_(x)
        return y

    refused(through_a_view, IMAGE, says="in place through a view")
    refused(assigned, IMAGE, says="assigning to a part")
    refused(into_constant, IMAGE, says="into a constant")


# --------------------------------------------------------------------------------------------------------- refusals


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real if False else x.cumsum(1)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), Inner())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + 1


def branch_on_values(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def test_refusals() -> None:
    refused(Outer(), IMAGE, says=("body.1 (Inner)", "cumsum"))
    refused(branch_on_values, IMAGE, says=("__bool__", "control flow"))
    for function, says in {
        (lambda x: x.sum()): "0 axes",
        (lambda x: x.view(1, 2, 2, 3, 4, 16)): "6 axes",
        (lambda x: x * x.mean().item()): "item",
        (lambda x: x * float(x.mean())): "__float__",
        (lambda x: torch.where(x > 0, x, -x)): "no operation of the file is gt",
        (lambda x: x.cumprod(2)): "cumprod",
        (lambda x: x.argmax(1)): "argmax",
        (lambda x: x.max(1)[1] * 1.0): "index of an element",
        (lambda x: F.conv2d(x, x[:1])): "the kernel depends on the input",
        (lambda x: F.interpolate(x[:, :, 0], scale_factor=2, mode="linear")): "3 axes",
        (lambda x: F.dropout(x, 0.5)): "is active",
        (lambda x: F.batch_norm(x, None, None, training=True)): "statistics of the batch",
        (lambda x: x[x > 0]): "gt",
        (lambda x: x.to(torch.int64)): "cast to integers",
        (lambda x: x // 2): "floordiv",
        (lambda x: torch.polar(x, x)): "polar",
        (lambda x: (x, 3)): "an output is a int",
        (lambda x: None): "gives no tensor",
        (lambda x: x / 0): "not finite",
    }.items():
        refused(function, IMAGE, says=says)
    refused(Function(lambda x: x).train(), noise(2, 3).long(), says="floating-point")
    refused(torch.jit.trace(nn.Sequential(nn.ReLU()), IMAGE), IMAGE, says="scripted")
    refused(nn.Conv2d(3, 4, 3), IMAGE, says="RuntimeError")  # the module's own complaint
    wrapped = nn.Sequential(nn.ReLU(), torch.jit.script(nn.Conv2d(4, 4, 3)))
    refused(wrapped, IMAGE, says=("1: ", "scripted"))
    refused(nn.ReLU(), IMAGE, input_names=["a", "b"], says="names")
    refused(nn.ReLU(), IMAGE, output_names=["a", "b"], says="names")


def test_values_that_the_trace_does_not_see() -> None:
    """Results that were computed outside of PyTorch's functions are found out by the second input."""

    def unseen(x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            hidden = x * 2
        return x + hidden

    refused(unseen, IMAGE, says="does not see")
    counter = iter(range(100))
    refused(lambda x: x + next(counter), IMAGE, says=())
    refused(lambda x: x + torch.rand(1), IMAGE, says=())


# --------------------------------------------------------------------------------------------------- dynamic layers


def test_networks_of_this_package() -> None:
    for name in (
        "fashion_dna",
        "fashion_plain",
        "segment_dna",
        "segment_plain",
        "fashion_convnext_dna",
        "resnet18",
        "mobilenet_v2_1d2",
        "resnet18_dcd",
        "resnet18_kw_1x",
        "resnet18_dyconv_4x",
        "mobilenet_v2_odconv_1x",
    ):
        net, x = build(name), noise(2, 1 if name.startswith(("fashion", "segment")) else 3, 32, 32)
        randomise(net, 1, sample=x)
        exported = check(net, x)
        methods = {n.get("method", "dense") for n in exported.nodes if n["op"] == "conv2d"}
        expected = {
            "resnet18": "kernel_dna",
            "fashion_dna": "kernel_dna",
            "segment_dna": "kernel_dna",
            "fashion_convnext_dna": "kernel_dna",
            "mobilenet_v2_1d2": "kernel_dna",
            "resnet18_dcd": "dcd",
            "resnet18_kw_1x": "kernel_warehouse",
            "resnet18_dyconv_4x": "dyconv",
            "mobilenet_v2_odconv_1x": "odconv",
        }
        assert expected.get(name, "dense") in methods, (name, methods)
        if "kernel_dna" in methods:  # every gate went into its convolution, and the parents are kept once
            children = [n for n in exported.nodes if n.get("method") == "kernel_dna"]
            assert all("fc1" in n["tensors"] and "bn.mean" in n["tensors"] for n in children)
            assert not any(n.get("kind") == "sigmoid" for n in exported.nodes)
            assert all(n["tensors"]["weight"] in net.state_dict() for n in children)
    assert set(ARCHS) >= {"resnet50"}


def test_kernel_unet() -> None:
    net, dense = KernelUNet((2, 3, 2), (4, 5, 6)), nn.Linear(3, 5)
    exported = check(scatter(net), noise(3, 1, 12), more=[(7, 1, 12)])
    assert [op for op in exported.ops if op.startswith("conv")] == ["conv2d"] * 3 + ["conv_transpose2d"] * 3
    # A level is one dense layer on every patch: what the paper calls its kernel.
    level = nn.Conv1d(1, 5, 3, stride=3)
    level.weight.data, level.bias.data = dense.weight.data[:, None], dense.bias.data
    series = noise(2, 1, 12)
    assert torch.allclose(level(series).transpose(1, 2), dense(series.view(2, 4, 3)), atol=1e-6)
    years = torch.arange(8.0)[None] + torch.tensor([0.0, 5, 0, 5, 0, 5, 0, 5])  # grows by 2 in a season of 2
    assert torch.allclose(seasonal(years, 2), years + 8)


def test_known_cases() -> None:
    """The layers of the golden cases, with their weights."""
    families = set()
    for path in sorted(GOLDEN.glob("*.json")):
        case, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        x = tensors.pop("input")
        tensors.pop("output")
        if case["family"] in ("runtime_kernel", "x_volution"):
            continue
        module, inputs = load_case(case, tensors, x)
        exported = check(module, *inputs)
        methods = {n.get("method", n["op"]) for n in exported.nodes if n["op"].endswith("conv2d")}
        own = {"kerneldna": "kernel_dna", "sparse_kernel": "sparse", "lsconv": "position_conv2d"}
        family = own.get(case["family"], case["family"])
        assert family in methods or case.get("kind") == "classifier", (path, methods)  # that one is traced
        families.add(family)
    assert len(families) == 12, families


class NormNeverCalled(ODConv2d):
    """A copy of ODConv whose attention has a batch norm that forward never calls."""

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.attention.fc(x.mean((2, 3), keepdim=True)))
        x = x * torch.sigmoid(self.attention.channel_fc(z))
        y = kdna_torch.layers.conv2d_per_sample(x, self.kernels(z), None, self.stride, self.padding)
        return y * torch.sigmoid(self.attention.filter_fc(z))


class WithTemperature(ODConv2d):
    def forward(self, x: Tensor) -> Tensor:
        z, t = self.attention(x), self.attention.temperature
        kernel = (torch.softmax(self.attention.kernel_fc(z).flatten(1) / t, 1) @ self.weight.flatten(1)).view(
            -1, *self.weight.shape[1:]
        )
        kernel = kernel * torch.sigmoid(self.attention.spatial_fc(z) / t).view(-1, 1, 1, 3, 3)
        x = x * torch.sigmoid(self.attention.channel_fc(z) / t)
        y = kdna_torch.layers.conv2d_per_sample(x, kernel, None, 1, 1)
        return y * torch.sigmoid(self.attention.filter_fc(z) / t)


class OtherFormula(ODConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.001


def test_odconv_variants() -> None:
    torch.manual_seed(0)
    x = noise(2, 8, 6, 7)
    net = scatter(ODConv2d(8, 6, 3, padding=1))
    used = check(net, x)
    assert used.tensors["attention.bn.running_mean"].equal(net.attention.bn.running_mean)
    assert used.nodes[0]["kernel"] == [6, 8, 3, 3] and used.nodes[0]["tensors"]["weight"] == "weight"
    port = scatter(nn.Sequential(NormNeverCalled(8, 6, 3, padding=1)))
    assert check(port, x).nodes[0]["tensors"]["attention.bn.running_mean"].startswith("folded.")
    refused(port, x, odconv_bn="yes", says=("0 (NormNeverCalled)", "conv2d odconv"))
    check(port, x, odconv_bn="no")
    refused(net, x, odconv_bn="no", says="conv2d odconv")
    warm = scatter(WithTemperature(8, 6, 3, padding=1))
    warm.attention.temperature = 4.0
    said = check(warm, x).said
    assert len(said) == 1 and "temperature 4" in said[0]
    refused(scatter(OtherFormula(8, 6, 3, padding=1)), x, says="forward does not compute")
    net.attention.bn.eps = 1e-3
    check(net, x)


# Layers with the attributes and keys of the methods' public code.


class Attention(nn.Module):
    """ODConv's: what there is no head for is a method that gives one."""

    def __init__(self, cin: int, cout: int, kernel: int, groups: int, kernels: int) -> None:
        super().__init__()
        self.kernel_size, self.kernel_num, self.temperature = kernel, kernels, 1.0
        self.avgpool, self.relu = nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True)
        self.fc, self.bn = nn.Conv2d(cin, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.channel_fc, self.func_channel = nn.Conv2d(16, cin, 1), self.channels
        self.func_filter = self.func_spatial = self.func_kernel = self.skip
        if not cin == cout == groups:
            self.filter_fc, self.func_filter = nn.Conv2d(16, cout, 1), self.filters
        if kernel > 1:
            self.spatial_fc, self.func_spatial = nn.Conv2d(16, kernel * kernel, 1), self.taps
        if kernels > 1:
            self.kernel_fc, self.func_kernel = nn.Conv2d(16, kernels, 1), self.kernels

    def skip(self, _: Tensor) -> float:
        return 1.0

    def channels(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.channel_fc(z) / self.temperature)

    def filters(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.filter_fc(z) / self.temperature)

    def taps(self, z: Tensor) -> Tensor:
        return torch.sigmoid(
            self.spatial_fc(z).view(len(z), 1, 1, 1, self.kernel_size, self.kernel_size) / self.temperature
        )

    def kernels(self, z: Tensor) -> Tensor:
        return F.softmax(self.kernel_fc(z).view(len(z), -1, 1, 1, 1, 1) / self.temperature, 1)

    def forward(self, x: Tensor) -> Any:
        z = self.relu(self.bn(self.fc(self.avgpool(x))))
        return self.func_channel(z), self.func_filter(z), self.func_spatial(z), self.func_kernel(z)


def per_sample(x: Tensor, kernels: Tensor, layer: Any) -> Tensor:
    n, o = kernels.shape[:2]
    y = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]),
        kernels.flatten(0, 1),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups * n,
    )
    return y.view(n, o, *y.shape[2:])


def public_odconv(cin: int, cout: int, kernel: int, groups: int, kernels: int) -> nn.Module:
    class ODConv2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_planes, self.out_planes, self.kernel_size, self.kernel_num = cin, cout, kernel, kernels
            self.stride, self.padding, self.dilation, self.groups = 2, kernel // 2, 1, groups
            self.attention = Attention(cin, cout, kernel, groups, kernels)
            self.weight = nn.Parameter(torch.randn(kernels, cout, cin // groups, kernel, kernel))
            self._forward_impl = self._forward_impl_pw1x if kernel == 1 and kernels == 1 else self._forward_impl_common

        def _forward_impl_common(self, x: Tensor) -> Tensor:
            channels, filters, taps, mixture = self.attention(x)
            weight = (taps * mixture * self.weight.unsqueeze(0)).sum(1).expand(len(x), -1, -1, -1, -1)
            return per_sample(x * channels, weight, self) * filters

        def _forward_impl_pw1x(self, x: Tensor) -> Tensor:
            channels, filters, _, _ = self.attention(x)
            y = F.conv2d(
                x * channels, self.weight.squeeze(0), None, self.stride, self.padding, self.dilation, self.groups
            )
            return y * filters

        def forward(self, x: Tensor) -> Tensor:
            return self._forward_impl(x)

    return ODConv2d()


class Dynamic_conv2d(nn.Module):
    """DyConv's, at the temperature that its training starts with."""

    def __init__(self, cin: int, cout: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.in_planes, self.out_planes, self.kernel_size, self.K = cin, cout, kernel, 4
        self.stride, self.padding, self.dilation, self.groups = 1, kernel // 2, 1, 1
        self.attention = nn.Module()
        self.attention.fc1, self.attention.fc2 = nn.Conv2d(cin, 3, 1, bias=False), nn.Conv2d(3, 4, 1)
        self.attention.temperature = 34
        self.weight = nn.Parameter(torch.randn(4, cout, cin, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(4, cout)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        a = self.attention
        route = F.softmax(a.fc2(F.relu(a.fc1(F.adaptive_avg_pool2d(x, 1)))).view(len(x), -1) / a.temperature, 1)
        y = per_sample(x, (route @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:]), self)
        return y if self.bias is None else y + (route @ self.bias)[:, :, None, None]


def public_warehouse(rows: bool) -> nn.Module:
    """A warehouse's layer over maps or rows; ``warehouse_manager`` is a list, so that it is no submodule."""

    class Manager(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList([torch.randn(5, 4, 4, *[1] * (1 if rows else 2))])

    class Layer(nn.Module):
        def __init__(self, manager: Manager) -> None:
            super().__init__()
            self.in_planes, self.out_planes, self.warehouse_id, self.warehouse_manager = 8, 8, 0, [manager]
            one = (lambda n: (n,)) if rows else (lambda n: (n, n))
            self.kernel_size, self.stride, self.padding, self.dilation, self.groups = one(3), one(1), one(1), one(1), 1
            self.bias = nn.Parameter(torch.randn(8))
            self.mixtures = (3 if rows else 9) * 4
            self.attention = nn.Module()
            self.attention.fc1, self.attention.norm1 = nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16)
            self.attention.fc2 = nn.Linear(16, self.mixtures * 6)

        def forward(self, x: Tensor) -> Tensor:
            a, cells = self.attention, self.warehouse_manager[0].weights[0]
            u = a.fc2(F.relu(a.norm1(a.fc1(x.flatten(2).mean(2))))).view(-1, 6)
            alpha = (u / (u.abs().sum(1, keepdim=True) + 1e-3))[:, :-1]
            k = self.kernel_size
            kernels = (alpha @ cells.flatten(1)).view(len(x), math.prod(k), 2, 2, 4, 4)
            kernels = kernels.permute(0, 2, 4, 3, 5, 1).reshape(len(x) * 8, 8, *k)
            convolve = F.conv1d if rows else F.conv2d
            y = convolve(
                x.reshape(1, -1, *x.shape[2:]), kernels, None, self.stride, self.padding, self.dilation, len(x)
            )
            return y.view(len(x), 8, *y.shape[2:]) + self.bias.view(-1, *[1] * len(k))

    Layer.__name__ = "KWConv1d" if rows else "KWConv2d"
    manager = Manager()
    return Chain(Layer(manager), Layer(manager), manager)


class Chain(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, manager: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.warehouse_manager = first, second, manager

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


class conv_dy(DCDConv2d):
    """DCD's."""


def test_layers_as_in_public_code() -> None:
    x = noise(2, 8, 6, 7)
    for cout, kernel, groups, kernels in ((6, 3, 1, 4), (8, 3, 8, 1), (6, 1, 1, 1), (6, 1, 2, 2), (8, 3, 8, 2)):
        exported = check(scatter(public_odconv(8, cout, kernel, groups, kernels)), x)
        assert [n.get("method") for n in exported.nodes] == ["odconv"] and exported.nodes[0]["stride"] == [2, 2]
    for bias in (True, False):
        exported = check(scatter(Dynamic_conv2d(8, 6, 3, bias)), x)
        assert [n.get("method") for n in exported.nodes] == ["dyconv"] and "temperature 34" in exported.said[0]
    for rows in (True, False):
        exported = check(scatter(public_warehouse(rows)), x[:, :, 0] if rows else x)
        layers = [n for n in exported.nodes if n["op"] == "conv2d"]
        assert [n["method"] for n in layers] == ["kernel_warehouse"] * 2
        assert len({n["tensors"]["cells"] for n in layers}) == 1
    assert check(scatter(conv_dy(8, 6)), noise(2, 8, 6, 8)).nodes[0]["method"] == "dcd"


class Blocks(nn.Module):
    """timm's: one routing for all convolutions of a block."""

    def __init__(self) -> None:
        super().__init__()
        from timm.layers import CondConv2d as Conv

        self.routing_fn = nn.Linear(8, 4)
        self.first, self.second = Conv(8, 8, 1, num_experts=4), Conv(8, 6, 3, padding=1, num_experts=4, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        route = torch.sigmoid(self.routing_fn(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return self.second(F.relu(self.first(x, route)), route)


def test_condconv_with_its_own_and_with_another_layers_coefficients() -> None:
    exported = check(scatter(CondConv2d(8, 6, 3, 4, 1, 1, 2, True)), noise(2, 8, 6, 7))
    assert exported.nodes[0]["method"] == "condconv" and exported.nodes[0]["bias"] is True
    try:
        import timm  # noqa: F401
    except ImportError:
        return
    exported = check(scatter(Blocks()), noise(2, 8, 6, 7))
    convs = [n for n in exported.nodes if n["op"] == "conv2d"]
    assert [n["method"] for n in convs] == ["mixture"] * 2
    assert len({n["in"][1] for n in convs}) == 1 and exported.ops.count("linear") == 1
    kernels = [exported.tensors[n["tensors"]["weight"]].shape for n in convs]
    assert kernels == [(4, 8, 8, 1, 1), (4, 6, 8, 3, 3)]
    assert "bias" not in convs[0]["tensors"] and exported.tensors[convs[1]["tensors"]["bias"]].shape == (4, 6)


def test_modulated_convolutions() -> None:
    x, w = noise(2, 8, 6, 7), noise(2, 5, seed=1)
    exported = check(scatter(ModulatedConv2d(8, 6, 3, 5, padding=1, bias=True)), x, w)
    assert exported.nodes[0]["method"] == "modulated" and exported.ops == ["conv2d"]
    exported = check(scatter(ModulatedConv2d(8, 6, 1, 0, demodulate=False, stride=2)), x, noise(2, 8, seed=1))
    assert exported.nodes[0]["demodulate"] is False and exported.nodes[0]["stride"] == [2, 2]
    exported = check(scatter(ModulatedConv2d(8, 6, 3, 5, padding=1, eps=0.1)), x, w)
    assert exported.nodes[0]["eps"] == 0.1
    # Upsampling: no kernel of a sample either, and one style.
    exported = check(scatter(ModulatedConv2d(8, 6, 3, 5, padding=1, up=2, bias=True)), x, w)
    assert exported.ops.count("conv_transpose2d") == 1 and exported.ops.count("linear") == 2
    check(scatter(ModulatedConv2d(8, 6, 4, 0, padding=1, up=2, demodulate=False)), x, noise(2, 8, seed=1))
    exported = check(scatter(StyledConv2d(8, 6, 3, 5, 6)), noise(2, 8, 6, 6), w)
    assert exported.ops[0] == "conv2d" and exported.ops[-2:] == ["activation", "mul"]


def test_dymn_blocks() -> None:
    for stride, out in ((1, 8), (2, 6)):
        exported = check(scatter(DyMNBlock(8, 24, out, 3, stride, 16)), noise(2, 8, 12, 14), more=[(1, 8, 9, 20)])
        convs = [n for n in exported.nodes if n.get("method") == "dymn"]
        assert len(convs) == 3 and len({n["in"][1] for n in convs}) == 1
        assert exported.ops.count("dynamic_relu") == 1 and "maximum" not in exported.ops
    layer = DynamicConv(8, 6, 5, 3, padding=1, temperature=30.0, bias=True)
    context = noise(2, 5, 1, 1)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.conv(x, (h, h, h))

    exported = check(scatter(Layer()), noise(2, 8, 6, 7), context)
    assert any("temperature 30" in line for line in exported.said)
    layer.att_groups = 2
    refused(Layer(), noise(2, 8, 6, 7), context, says="attention in 2 groups")


def test_kernels_of_every_position() -> None:
    torch.manual_seed(0)
    exported = check(scatter(LSConv(16, 5, 3, 4)), noise(2, 16, 6, 8))
    (node,) = (n for n in exported.nodes if n["op"] == "position_conv2d")
    assert (node["window"], node["groups"], node["sharing"]) == ([3, 3], 4, "interleaved")
    assert "unfold" not in str(exported.nodes) and exported.ops.count("group_norm") == 1


class ConvModule(nn.Module):
    """mmcv's: a convolution without bias, a batch norm, SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class RTMDetSepBNHead(nn.Module):
    """As RTMDet has it: levels hold the same convolution modules, batch norms and 1x1 predictions of their own."""

    def __init__(self, channels: int, classes: int, share: bool, levels: int = 3, depth: int = 2) -> None:
        super().__init__()

        def stacks() -> nn.ModuleList:
            stacked = nn.ModuleList(
                nn.ModuleList(ConvModule(channels) for _ in range(depth)) for _ in range(levels)
            )
            for level in stacked if share else ():
                for own, first in zip(level, stacked[0]):
                    own.conv = first.conv
            return stacked

        self.cls_convs, self.reg_convs = stacks(), stacks()
        self.rtm_cls = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in range(levels))
        self.rtm_reg = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in range(levels))

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        scores, boxes = [], []
        for i, x in enumerate(maps):
            cls, reg = x, x
            for conv in self.cls_convs[i]:
                cls = conv(cls)
            for conv in self.reg_convs[i]:
                reg = conv(reg)
            scores.append(self.rtm_cls[i](cls))
            boxes.append(F.relu(self.rtm_reg[i](reg)) * 8 * 2**i)
        return (*scores, *boxes)


def test_a_head_whose_levels_share_kernels_and_keep_their_norms() -> None:
    torch.manual_seed(0)
    maps = [noise(1, 8, n, n + 1) for n in (8, 4, 2)]
    sizes = {}
    for share in (True, False):
        exported = check(scatter(RTMDetSepBNHead(8, 5, share)), *maps)
        kernels = [n["tensors"]["weight"] for n in exported.nodes if n["op"] == "conv2d"]
        assert len(kernels) == 18 and len(set(kernels)) == (4 + 6 if share else 18)
        norms = [n["tensors"]["mean"] for n in exported.nodes if n["op"] == "batch_norm"]
        assert len(norms) == len(set(norms)) == 12
        sizes[share] = sum(t.numel() for t in exported.tensors.values())
    assert sizes[False] - sizes[True] == 8 * 8 * 8 * 9


def test_fdconv() -> None:
    torch.manual_seed(0)
    for layer, bands in (
        (FDConv(16, 8, 3, 1, 1), True),
        (FDConv(16, 8, 3, 2, 1, 1, True, 6, local=False), True),
        (FDConv(16, 8, 1, kernel_num=1), False),
        (FDConv(16, 8, 3, 1, 1, fourier=False), True),
    ):
        exported = check(scatter(layer), noise(2, 16, 6, 8))
        (node,) = (n for n in exported.nodes if n.get("method") == "fdconv")
        assert exported.ops.count("frequency_bands") == bands and len(node["in"]) == 1 + bands
        assert exported.tensors[node["tensors"]["weight"]].ndim == 5

    class StarReLU(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.bias = nn.Parameter(torch.tensor([0.8944])), nn.Parameter(torch.tensor([-0.4472]))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * F.relu(x) ** 2 + self.bias

    assert check(StarReLU(), noise(2, 3, 4, 5)).ops == ["activation", "add"]


def test_the_variants_of_the_public_fdconv() -> None:
    """Temperatures, other multiples, and 1 + tanh go into the tensors."""
    torch.manual_seed(0)
    layer = scatter(FDConv(16, 8, 3, 1, 1)).double()

    class Public(FDConv):
        att_multi, ksm_local_act = 3.0, "tanh"

        def forward(self, x: Tensor) -> Tensor:
            p, g = x.mean((2, 3), keepdim=True), self.KSM_Global
            z = g.relu(g.bn(g.fc(p)))
            heads = [torch.sigmoid(h(z).flatten(1) / 2.5) * 3 for h in (g.channel_fc, g.filter_fc, g.spatial_fc)]
            mixture = torch.sigmoid(g.kernel_fc(z).flatten(1) / 1.5) * 2 / 4
            weight = torch.einsum("bi,iochw->bochw", mixture, self.kernels())
            weight = weight * heads[0][:, None, :, None, None] * heads[2].view(-1, 1, 1, 3, 3)
            logits = self.KSM_Local.conv(self.KSM_Local.norm(p.flatten(1))[:, None])
            logits = logits.unflatten(1, (8, 3, 3)).movedim(-1, 2)
            y = kdna_torch.layers.conv2d_per_sample(self.FBM(x), weight * (1 + logits.tanh()), None, 1, 1)
            return y * heads[1][:, :, None, None]

    layer.__class__ = type("FDConv", (Public,), {})
    layer.KSM_Global.temperature, layer.KSM_Global.kernel_temp = 2.5, 1.5
    check(layer.float(), noise(2, 16, 6, 8))


def test_other_dynamic_layers() -> None:
    torch.manual_seed(0)
    x = noise(2, 8, 6, 8)
    for layer in (
        DyConv2d(8, 6, 3, 2, 1, 1, 2),
        DyConv2d(8, 6, 1, bias=False),
        DCDConv2d(8, 6),
        DCDConv2d(16, 6, 1, padding=0, pool=1),
    ):
        check(
            scatter(layer),
            x if layer is None or not isinstance(layer, DCDConv2d) or layer.pool == 2 else noise(2, 16, 6, 8),
        )
    check(scatter(DYCls(8, 5, 4, 4)), noise(3, 8), more=[(2, 8)])
    for ratio, basis in ((1, 1), (2, 0.5), (2, 1)):
        manager = KWManager(ratio, nonlocal_basis_ratio=basis)
        chain = KWChain(manager, [manager.conv("", 8, 8, 3), manager.conv("", 8, 16, 1, bias=True)], ["relu", "none"])
        exported = check(scatter(chain), x)
        cells = [n["tensors"]["cells"] for n in exported.nodes if n["op"] == "conv2d"]
        assert cells == ["warehouse_manager.weights.0"] * 2


class Child(nn.Module):
    """A child kernel written out in a forward, as users do."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.spatial, self.filters = nn.Parameter(noise(1, 1, 3, 3)), nn.Parameter(noise(8, 1, 1, 1))
        self.fc1, self.bn, self.fc2 = nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.parent(x))
        gate = F.hardsigmoid(self.fc2(F.silu(self.bn(self.fc1(x.mean((2, 3)))))))
        kernel = self.parent.weight * (1 + self.spatial) * (self.filters + 1)
        return F.conv2d(x * gate[:, :, None, None], kernel, padding=1)


def test_child_kernels_are_found_in_plain_code() -> None:
    exported = check(scatter(Child()), noise(2, 8, 6, 7), more=[(1, 8, 9, 5)])
    assert exported.ops == ["conv2d", "activation", "conv2d"]
    child = exported.nodes[2]
    assert child["method"] == "kernel_dna" and child["tensors"]["weight"] == "parent.weight"
    assert (
        child["gate"] == "hard_sigmoid"
        and child["hidden"] == "silu"
        and set(child["tensors"])
        == {"weight", "spatial", "filter", "fc1", "fc2", "fc2_bias", "bn.weight", "bn.bias", "bn.mean", "bn.var"}
    )


# --------------------------------------------------------------------------------------------------------- registry


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():  # an extension that tracing does not see
            return F.conv2d(x.mul(1), self.conv.weight * self.gain[:, None, None, None], padding=1)


def test_registered_layers() -> None:
    net = nn.Sequential(nn.ReLU(), Scaled())

    def scaled(module: Any, x: Tensor) -> Node:
        kernel = module.conv.weight * module.gain[:, None, None, None]
        return Node("activation", [Node("neg", [Node("conv2d", [x], {"weight": kernel}, pad=[1] * 4)])], kind="relu")

    refused(net, IMAGE, says="")
    try:
        register(
            "Scaled",
            lambda module, x: Node(
                "conv2d", [x], {"weight": module.conv.weight * module.gain[:, None, None, None]}, pad=[1] * 4
            ),
        )
        assert check(net, IMAGE, more=SMALL).ops == ["activation", "conv2d"]
        register("Scaled", scaled)
        refused(net, IMAGE, says=("1 (Scaled)", "forward does not compute"))
        register("Scaled", lambda module, x: Node("conv3d", [x], {}))
        refused(net, IMAGE, says="conv3d")
        register("Scaled", lambda module, x: None)
        refused(net, IMAGE, says="")
    finally:
        kdna_torch.trace.LAYERS.pop("Scaled")


# ---------------------------------------------------------------------------------------------- files, command line


def test_strict_reader() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.safetensors")
        graph = export(scatter(nn.Conv2d(4, 4, 3)), IMAGE, path)
        tensors = load_file(path)

        def broken(change: Callable[[dict[str, Any], dict[str, Tensor]], Any]) -> None:
            from safetensors.torch import save_file

            changed, others = json.loads(json.dumps(graph)), dict(tensors)
            change(changed, others)
            save_file(others, path, {"kdna.graph": json.dumps(changed)})
            try:
                Network(path)([IMAGE])
            except FormatError:
                return
            raise AssertionError("a broken file was read")

        broken(lambda g, t: g.update(version=2))
        broken(lambda g, t: g["nodes"][0].update(op="conv3d"))
        broken(lambda g, t: g["nodes"][0].update(strides=[1, 1]))
        broken(lambda g, t: g["nodes"][0].update(method="fft"))
        broken(lambda g, t: g["nodes"][0]["tensors"].update(other="bias"))
        broken(lambda g, t: g["nodes"][0]["tensors"].pop("bias"))
        broken(lambda g, t: g["outputs"][0].update(value="nothing"))
        broken(lambda g, t: t.update(left=torch.ones(1)))
        broken(lambda g, t: g["inputs"][0].update(shape=[None, 3, None, None]))


def command(*words: Any) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("export.py")
    done = subprocess.run([sys.executable, str(script), *map(str, words)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_command_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, output = Path(folder, "in.pt"), Path(folder, "net.safetensors")
        net = scatter(build("fashion_dna"))
        torch.save(
            {"args": argparse.Namespace(lr=0.1), "model": {f"module.{k}": v for k, v in net.state_dict().items()}},
            checkpoint,
        )
        words = (
            "--module",
            "kdna_torch:build",
            "--kwargs",
            '{"arch": "fashion_dna"}',
            "--input",
            "2x1x28x28",
            "-o",
            output,
        )
        done = command(*words, "--checkpoint", checkpoint)
        assert done.returncode == 0 and "x *x1x*x*" in done.stdout and "-> output" in done.stdout, done
        want = net.double()(noise(3, 1, 28, 28).double())
        torch.testing.assert_close(Network(output)([noise(3, 1, 28, 28)])["output"], want, rtol=1e-9, atol=1e-9)
        named = command("--module", "torch.nn:ReLU", "--input", "input=2x3", "-o", output, "--no-check")
        assert named.returncode == 0 and "input *x3" in named.stdout
        output.unlink()
        for wrong in (
            ("--module", "torch.nn:Nothing", "--input", "1x1", "-o", output),
            ("--module", "torch.nn", "--input", "1x1", "-o", output),
            ("--module", "torch:ones", "--kwargs", '{"size": [2]}', "--input", "1x1", "-o", output),
            ("--module", "torch.nn:ReLU", "--input", "1xa", "-o", output),
            ("--module", "torch.nn:ReLU", "--input", "1x1"),
            ("--module", "torch.nn:ReLU", "--input", "1x1", "-o", output, "--checkpoint", checkpoint),
            (checkpoint,),
        ):
            assert command(*wrong).returncode == 2 and not output.exists(), wrong


def test_wrappers_and_prefixes_of_checkpoints() -> None:
    state = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).state_dict()
    ema = {k: v + 1 for k, v in state.items()}

    def read(content: Any, expected: Any = None) -> dict[str, Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "in.pt")
            torch.save(content, path)
            return read_checkpoint(path, expected=expected)

    for key in ("state_dict", "model_state_dict", "model", "net", "state_dict_ema"):
        assert list(read({key: state, "epoch": 3, "args": argparse.Namespace(a=1)})) == list(state)
    assert list(read({"model": {"state_dict": state}})) == list(state)
    assert torch.equal(read({"state_dict_ema": ema, "state_dict": state})["0.weight"], state["0.weight"])
    for prefix in ("module.", "model.", "_orig_mod.", "_orig_mod.module.", "module.model.", "module._orig_mod.model."):
        assert list(read({prefix + k: v for k, v in state.items()})) == list(state)
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(read(mixed)) == list(mixed)
    held = {f"model.{k}": v for k, v in state.items()}
    assert list(read(held, expected=held)) == list(held)
    assert list(read({f"module.{k}": v for k, v in held.items()}, expected=held)) == list(held)
    for wrong in ({"state_dict": {}}, [1, 2], {"a": 1}):
        try:
            read(wrong)
        except CheckpointError:
            continue
        raise AssertionError("not refused")


def main() -> None:
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"ok {name}", flush=True)


if __name__ == "__main__":
    main()
