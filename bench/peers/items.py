"""What `peers` measures: layers, KernelDNA children beside plain layers, and networks.

Weights, an input and the answer in double precision are written once, in every form that the libraries read.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from kdna_torch import build, child_conv2d, child_kernel  # noqa: E402
from kdna_torch.checkpoint import randomise  # noqa: E402
from kdna_torch.layers import SqueezeExcite  # noqa: E402

Item = dict[str, Any]
SHAPES = ROOT / "bench" / "shapes" / "peers.txt"
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
CHILDREN = ((128, 28), (256, 14), (512, 7))


def item_of(kind: str, name: str, o: int, i: int, k: int, groups: int, stride: int, extent: int, batch: int) -> Item:
    out = (extent - 1) // stride + 1  # "same" padding
    return {
        "kind": kind, "name": name, "batch": batch,
        "o": o, "i": i, "k": k, "groups": groups, "stride": stride, "extent": extent,
        "mflop": 2e-6 * batch * o * (i // groups) * k * k * out * out,
    }  # fmt: skip


def layers() -> list[Item]:
    found = []
    for line in SHAPES.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        *numbers, name = line.split(maxsplit=6)
        found.append(item_of("layer", name, *map(int, numbers), batch=1))
    return found


def children() -> list[Item]:
    return [item_of("child", f"{c} at {e}x{e}", c, c, 3, 1, 1, e, 1) for c, e in CHILDREN]


def networks(batches: list[int]) -> list[Item]:
    return [
        {"kind": "network", "name": arch if n == 1 else f"{arch}, batch {n}", "arch": arch, "batch": n}
        for arch in NETWORKS
        for n in batches
    ]


class PlainLayer(nn.Module):
    """relu(bn(conv(x)) + residual)."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        o, i, k = item["o"], item["i"], item["k"]
        self.conv = nn.Conv2d(i, o, k, item["stride"], k // 2, groups=item["groups"], bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)) + residual)


class ChildLayer(nn.Module):
    """relu(bn(conv(gate(x), child kernel)) + residual). The kernel is computed in every call, as the reference does."""

    def __init__(self, item: Item) -> None:
        super().__init__()
        c = item["o"]
        self.static_filter_attn = nn.Parameter(torch.zeros(c, 1, 1, 1))
        self.static_spatial_attn = nn.Parameter(torch.zeros(1, 1, 3, 3))
        self.gate = SqueezeExcite(c, c // 4)
        self.parent = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y = child_conv2d(self.gate(x), self.parent.weight, self.static_filter_attn, self.static_spatial_attn)
        return F.relu(self.bn(y) + residual)


class ExpandedLayer(nn.Module):
    """The same with the child's kernel made beforehand; sharing is lost, the gate stays."""

    def __init__(self, child: ChildLayer) -> None:
        super().__init__()
        self.gate, self.bn = child.gate, child.bn
        kernel = child_kernel(child.parent.weight, child.static_filter_attn, child.static_spatial_attn)
        self.kernel = nn.Parameter(kernel.detach(), requires_grad=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return F.relu(self.bn(F.conv2d(self.gate(x), self.kernel, padding=1)) + residual)


def layer_module(item: Item, form: str) -> nn.Module:
    """The layer of a child item in one of its forms, in eval mode, with the item's weights."""
    t = load_file(item["file"])
    module: nn.Module = PlainLayer(item) if form == "plain" else ChildLayer(item)
    state = {"bn." + ours: t["bn." + theirs] for ours, theirs in BN_KEYS.items()}
    if form == "plain":
        state["conv.weight"] = t["weight"]
    else:
        state["parent.weight"] = t["weight"]
        state["static_filter_attn"] = t["filter"].view(-1, 1, 1, 1)
        state["static_spatial_attn"] = t["spatial"].view(1, 1, 3, 3)
        state["gate.se.fc1.weight"], state["gate.se.fc2.weight"] = t["gate.fc1"], t["gate.fc2"]
        state["gate.se.fc2.bias"] = t["gate.bias"]
        state |= {"gate.se.bn." + ours: t["gate.bn." + theirs] for ours, theirs in BN_KEYS.items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected and all("num_batches" in key for key in missing)
    return (ExpandedLayer(module) if isinstance(module, ChildLayer) and form == "expanded" else module).eval()


BN_KEYS = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}


# ------------------------------------------------------------------------------------------------------- making


@torch.no_grad()
def make_layer(item: Item, folder: Path) -> None:
    """The tensors of a layer or child item, and the layer as ONNX and ncnn files."""
    file = folder / (item["kind"] + " " + item["name"] + ".safetensors").replace(" ", "_")
    item["file"] = str(file)
    if not file.exists():
        save_file(layer_tensors(item), file)
        if item["kind"] == "child":
            t = load_file(file)
            for form in ("plain", "child"):
                y = layer_module(item, form).double()(t["x"].double(), t["residual"].double())
                t["y." + form] = y.float()
            save_file({key: value.contiguous() for key, value in t.items()}, file)
    if item["kind"] == "child":
        t = load_file(file)
        inputs = {key: t[key] for key in ("x", "residual")}
        item["onnx"] = {
            form: export_onnx(layer_module(item, form), inputs, file.with_suffix(f".{form}.onnx"))
            for form in ("plain", "expanded", "child")
        }
    else:
        item["onnx"] = {"plain": layer_onnx(item, file.with_suffix(".onnx"))}
        item["ncnn"] = layer_ncnn(item, file.with_suffix(".ncnn.param"))


def layer_tensors(item: Item) -> dict[str, Tensor]:
    o, i, k, groups, extent = (item[key] for key in ("o", "i", "k", "groups", "extent"))
    rng = torch.Generator().manual_seed(zlib.crc32(item["name"].encode()))

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=rng) * std

    def norm(prefix: str, channels: int) -> dict[str, Tensor]:
        return {
            prefix + ".weight": torch.rand(channels, generator=rng) + 0.5,
            prefix + ".bias": normal(channels, std=0.2),
            prefix + ".mean": normal(channels, std=0.2),
            prefix + ".var": torch.rand(channels, generator=rng) * 1.5 + 0.5,
        }

    t = {
        "x": normal(item["batch"], i, extent, extent),
        "weight": normal(o, i // groups, k, k, std=(2 / (i // groups * k * k)) ** 0.5),
        **norm("bn", o),
    }
    scale = t["bn.weight"].double() / (t["bn.var"].double() + 1e-5).sqrt()
    t["folded.weight"] = (t["weight"].double() * scale.view(-1, 1, 1, 1)).float()
    t["folded.bias"] = (t["bn.bias"].double() - t["bn.mean"].double() * scale).float()
    if item["kind"] == "layer":
        y = F.conv2d(t["x"].double(), t["weight"].double(), None, item["stride"], k // 2, 1, groups)
        shift = t["bn.bias"].double() - t["bn.mean"].double() * scale
        t["y.plain"] = F.relu(y * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).float()
    else:
        hidden = i // 4
        t |= norm("gate.bn", hidden)
        t |= {
            "residual": normal(item["batch"], o, extent, extent),
            "spatial": normal(k * k, std=0.25),
            "filter": normal(o, std=0.25),
            "gate.fc1": normal(hidden, i, 1, 1, std=i**-0.5),
            "gate.fc2": normal(i, hidden, 1, 1, std=hidden**-0.5),
            "gate.bias": normal(i),
        }
    return t


@torch.no_grad()
def make_network(item: Item, folder: Path) -> None:
    """Random weights of a network and its plain twin, an image, both answers; both as ONNX, the plain one for ncnn."""
    arch, batch = item["arch"], item["batch"]
    stem = folder / f"{arch}_b{batch}"
    item["file"] = str(stem.with_suffix(".safetensors"))
    nets = {}
    for form, name in (("plain", arch + "_plain"), ("child", arch)):
        weights = folder / f"{name}.weights.safetensors"
        item["weights_" + form] = str(weights)
        nets[form] = build(name)
        if weights.exists():
            nets[form].load_state_dict(load_file(weights))
        else:
            randomise(nets[form], 0, gain=2.0 if "mobilenet" in arch else 1.4)  # as tools/make_reference.py does
            save_file(dict(sorted(nets[form].state_dict().items())), weights)
        nets[form].eval()
    if not Path(item["file"]).exists():
        x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        tensors = {"x": x}
        for form, net in nets.items():
            tensors["y." + form] = net.double()(x.double()).float()
            net.float()
        save_file(tensors, item["file"])
    x = load_file(item["file"])["x"]
    item["onnx"] = {form: export_onnx(net, {"x": x}, Path(f"{stem}.{form}.onnx")) for form, net in nets.items()}
    if batch == 1:  # ncnn has no batches
        item["ncnn"] = network_ncnn(nets["plain"], x, Path(f"{stem}.ncnn.param"))


def make(item: Item, folder: Path) -> None:
    make_network(item, folder) if item["kind"] == "network" else make_layer(item, folder)


# ----------------------------------------------------------------------------------------------- other libraries' files


def export_onnx(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> str | None:
    """The module as it is written, its child kernels computed in the graph; None where that is not possible."""
    if path.exists():
        return str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=["y"],
                opset_version=17, dynamo=False, do_constant_folding=False,
            )  # fmt: skip
    except Exception as error:  # an exporter that is not there or cannot: its users are left out
        print(f"peers: {path.name} cannot be exported: {error}", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None
    return str(path)


def layer_onnx(item: Item, path: Path) -> str | None:
    """Convolution with folded BatchNorm, and ReLU."""
    if path.exists():
        return str(path)
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    t = load_file(item["file"])
    k, pad = item["k"], item["k"] // 2

    def value(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    conv = helper.make_node(
        "Conv", ["x", "w", "b"], ["z"],
        kernel_shape=[k, k], strides=[item["stride"]] * 2, pads=[pad] * 4, group=item["groups"],
    )  # fmt: skip
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["z"], ["y"])],
        "layer",
        [value("x", list(t["x"].shape))],
        [value("y", list(t["y.plain"].shape))],
        [numpy_helper.from_array(t["folded." + key].numpy(), key[0]) for key in ("weight", "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def layer_ncnn(item: Item, param: Path) -> list[str]:
    """The same as ncnn's text and weights: [param, bin]."""
    t = load_file(item["file"])
    kind = "Convolution" if item["groups"] == 1 else "ConvolutionDepthWise"
    group = "" if item["groups"] == 1 else f" 7={item['groups']}"
    pad, weights = item["k"] // 2, t["folded.weight"].numpy()
    param.write_text(
        "7767517\n2 2\nInput x 0 1 x\n"
        f"{kind} conv 1 1 x y 0={item['o']} 1={item['k']} 3={item['stride']} 4={pad} 5=1 6={weights.size}{group} 9=1\n"
    )
    binary = param.with_suffix(".bin")
    plain_floats = np.zeros(1, np.uint32)  # the flag before a tensor that is not compressed
    binary.write_bytes(plain_floats.tobytes() + weights.tobytes() + t["folded.bias"].numpy().tobytes())
    return [str(param), str(binary)]


def network_ncnn(net: nn.Module, x: Tensor, param: Path) -> list[str] | None:
    """The network through TorchScript and pnnx, weights kept in fp32: [param, bin]; None where there is no pnnx."""
    binary = param.with_suffix(".bin")
    if not param.exists():
        try:
            import pnnx
        except ImportError:
            return None
        script, folder = param.with_suffix(".pt"), param.parent / (param.stem + ".pnnx")
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(net, x).save(script)
        shape = ",".join(map(str, x.shape))
        command = [pnnx.EXEC_PATH, str(script), f"inputshape=[{shape}]f32", "fp16=0"]
        command += [f"{kind}={folder / name}" for kind, name in (
            ("pnnxparam", "net.pnnx.param"), ("pnnxbin", "net.pnnx.bin"), ("pnnxpy", "net_pnnx.py"),
            ("pnnxonnx", "net.onnx"), ("ncnnpy", "net_ncnn.py"))]  # fmt: skip
        command += [f"ncnnparam={param}", f"ncnnbin={binary}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        script.unlink()
        if done.returncode != 0 or not param.exists():
            print(f"peers: pnnx failed on {param.name}: {done.stderr[-400:]}", file=sys.stderr)
            return None
    return [str(param), str(binary)]
