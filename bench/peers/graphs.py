#!/usr/bin/env python3
"""Times networks from files beside ONNX Runtime and OpenVINO, one thread, interleaved.

    python bench/peers/graphs.py --kdna-run build/examples/kdna_run [--rounds 5] [--repeat 20] [NAMES...]

Every network of torchvision named gets random weights and is exported twice, as a network file and to ONNX. All answers are
compared before anything is timed. In every round each library runs ``repeat`` times; the table has the medians over the
rounds of the rounds' medians, in milliseconds, and the ratio of the fastest peer's to ours. Needs torch, torchvision, onnx,
onnxruntime and openvino; what is not installed is left out.
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
from kdna_torch import export  # noqa: E402

NAMES = (
    "resnet18 resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 convnext_tiny regnet_y_400mf "
    "shufflenet_v2_x1_0 lraspp_mobilenet_v3_large"
).split()


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
    weights = {"weights": None} | ({"weights_backbone": None} if name.startswith(("lraspp", "fcn", "deeplab")) else {})
    return OneOutput(torchvision.models.get_model(name, **weights)).eval()


def median_of(run: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def ours(program: str, network: Path, x: Path, y: Path) -> Callable[[int], float]:
    def measure(repeat: int) -> float:
        command = [program, "--model", str(network), "--input", str(x), "--output", str(y), "--repeat", str(repeat)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return float(re.search(r"median ([0-9.]+) ms", text).group(1))

    return measure


def onnxruntime_peer(file: Path, x: np.ndarray) -> tuple[Callable[[int], float], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda repeat: median_of(lambda: session.run(None, feed), repeat), session.run(None, feed)[0]


def openvino_peer(file: Path, x: np.ndarray) -> tuple[Callable[[int], float], np.ndarray]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda repeat: median_of(lambda: request.infer([x]), repeat), request.infer([x])[0].copy()


PEERS = {"ONNX Runtime": onnxruntime_peer, "OpenVINO": openvino_peer}


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
        with tempfile.TemporaryDirectory() as folder:
            network, onnx, x_file, y_file = (Path(folder, f) for f in ("n.safetensors", "n.onnx", "x.npy", "y.npy"))
            net, x = make(name), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
            export(net, x, network, check=False, say=lambda _: None)
            torch.onnx.export(net, (x,), str(onnx), dynamo=False, opset_version=17)
            np.save(x_file, x.numpy())
            measures = {"kdna": ours(args.kdna_run, network, x_file, y_file)}
            measures["kdna"](1)
            found = np.load(y_file)
            for peer, start in PEERS.items():
                try:
                    measures[peer], expected = start(onnx, x.numpy())
                except ImportError:
                    continue
                worst = np.abs(found - expected).max() / np.abs(expected).max()
                if not worst < 1e-3:
                    print(f"{name}: {peer} differs by {worst:.1e}", file=sys.stderr)
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
