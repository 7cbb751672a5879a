#!/usr/bin/env python3
"""Times networks from files beside ONNX Runtime, OpenVINO, ncnn and MNN, one thread, interleaved.

    python bench/peers/graphs.py --kdna-run build/examples/kdna_run [--rounds 5] [--repeat 20] [NAMES...]

A name is torchvision's, or yolo_FORM (yolo.py). Every network gets random weights and is exported twice, as a network file and
for the peers; those get the plain form of a dynamic network, whose kernels they cannot run. All answers are compared before
anything is timed (not those of other forms). In every round each library runs ``repeat`` times; the table has the medians over
the rounds of the rounds' medians, in milliseconds, and the ratio of the fastest peer's to ours. Needs torch, torchvision and
onnx, and the peers' packages; what is not installed, or cannot run the network, is left out ("-").
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from coverage import scatter  # noqa: E402
from items import network_ncnn  # noqa: E402
from kdna_torch import export  # noqa: E402
from yolo import FORMS, Yolo  # noqa: E402

NAMES = (
    "resnet18 resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 convnext_tiny regnet_y_400mf "
    "shufflenet_v2_x1_0 lraspp_mobilenet_v3_large"
).split() + [f"yolo_{form}" for form in FORMS]

# What a peer makes of the files in a folder: a function that runs the network once, and its outputs.
Started = tuple[Callable[[], object], list[np.ndarray]]


class Missing(Exception):
    """The peer is not installed or cannot run this network."""


class OneOutput(nn.Module):
    """A module whose first output alone is kept: ONNX has no dictionaries."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y["out"] if isinstance(y, dict) else y


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("yolo_"):
        net = Yolo(name.removeprefix("yolo_")).eval()
        with torch.no_grad():
            scatter(net, 0, image(name))
        return net
    weights = {"weights": None} | ({"weights_backbone": None} if name.startswith(("lraspp", "fcn", "deeplab")) else {})
    return OneOutput(torchvision.models.get_model(name, **weights)).eval()


def image(name: str) -> Tensor:
    extent = 320 if name.startswith("yolo_") else 224
    return torch.randn(1, 3, extent, extent, generator=torch.Generator().manual_seed(1))


def median_of(run: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def write_files(name: str, folder: Path) -> tuple[Tensor, int]:
    """The network for us (n.safetensors), its plain form for the peers (n.onnx; n.ncnn.param and n.ncnn.bin where there is pnnx),
    and its input (x.npy). Returns the input and the number of outputs."""
    net, x = make(name), image(name)
    plain = make("yolo_plain") if name.startswith("yolo_") else net
    with torch.no_grad():
        outputs = net(x)
        export(net, x, folder / "n.safetensors", check=False, say=lambda _: None)
        torch.onnx.export(plain, (x,), str(folder / "n.onnx"), dynamo=False, opset_version=17)
        network_ncnn(plain, x, folder / "n.ncnn.param")
    np.save(folder / "x.npy", x.numpy())
    return x, len(outputs) if isinstance(outputs, tuple) else 1


def run_ours(program: str, folder: Path, outputs: int, *options: str) -> str:
    """What kdna_run says on the files of a folder; it writes y0.npy and so on."""
    command = [program, "--model", str(folder / "n.safetensors"), "--input", str(folder / "x.npy"), *options]
    for i in range(outputs):
        command += ["--output", f"output.{i}={folder / f'y{i}.npy'}" if outputs > 1 else str(folder / "y0.npy")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def ours(program: str, folder: Path, outputs: int) -> Callable[[int], float]:
    def measure(repeat: int) -> float:
        text = run_ours(program, folder, outputs, "--repeat", str(repeat))
        return float(re.search(r"median ([0-9.]+) ms", text).group(1))

    return measure


def onnxruntime_peer(folder: Path, x: np.ndarray) -> Started:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "n.onnx"), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed), session.run(None, feed)


def openvino_peer(folder: Path, x: np.ndarray) -> Started:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(folder / "n.onnx"), "CPU", settings)
    request = model.create_infer_request()
    result = request.infer([x])
    return lambda: request.infer([x]), [result[i].copy() for i in range(len(model.outputs))]


def ncnn_peer(folder: Path, x: np.ndarray) -> Started:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    files = [str(folder / f"n.ncnn.{kind}") for kind in ("param", "bin")]
    if not Path(files[0]).exists() or net.load_param(files[0]) != 0 or net.load_model(files[1]) != 0:
        raise Missing
    mat = ncnn.Mat(np.ascontiguousarray(x[0])).clone()
    first, names = net.input_names()[0], net.output_names()

    def run() -> list[object]:
        extractor = net.create_extractor()
        extractor.input(first, mat)
        return [extractor.extract(name)[1] for name in names]

    return run, [np.array(y)[None] for y in run()]


def mnn_peer(folder: Path, x: np.ndarray) -> Started:
    from peer_mnn import Session

    try:
        session = Session(folder / "n.onnx", 1)
    except RuntimeError as error:
        raise Missing from error

    def run() -> list[np.ndarray]:
        session.set_input(x)
        session.run()
        return session.outputs()

    return run, run()


PEERS = {"ONNX Runtime": onnxruntime_peer, "OpenVINO": openvino_peer, "ncnn": ncnn_peer, "MNN": mnn_peer}


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether every output of ours is one of the peer's, in whatever order it has them."""
    for y in found:
        others = [e for e in expected if e.size == y.size]
        if not any(np.abs(y.ravel() - e.ravel()).max() < 1e-3 * np.abs(e).max() for e in others):
            return False
    return len(found) == len(expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--kdna-run", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| network | kdna |", " | ".join(PEERS), "| fastest peer / kdna |")
    print("| --- " * (3 + len(PEERS)) + "|")
    ratios = []
    for name in args.names or NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            x, count = write_files(name, folder)
            measures = {"kdna": ours(args.kdna_run, folder, count)}
            measures["kdna"](1)
            found = [np.load(folder / f"y{i}.npy") for i in range(count)]
            for peer, start in PEERS.items():
                try:
                    run, expected = start(folder, x.numpy())
                except (ImportError, Missing):
                    continue
                measures[peer] = lambda repeat, run=run: median_of(run, repeat)
                if name in ("yolo_odconv", "yolo_kernel_dna"):
                    continue
                if not same(found, expected):
                    print(f"{name}: {peer} differs", file=sys.stderr)
                    return 1
            times: dict[str, list[float]] = {who: [] for who in measures}
            for _ in range(args.rounds):
                for who, measure in measures.items():
                    times[who].append(measure(args.repeat))
            medians = {who: statistics.median(t) for who, t in times.items()}
            fastest = min((t for who, t in medians.items() if who != "kdna"), default=float("nan"))
            ratios.append(fastest / medians["kdna"])
            cells = [f"{medians[who]:.2f}" if who in medians else "-" for who in ("kdna", *PEERS)]
            print(f"| {name} | {' | '.join(cells)} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nGeometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
