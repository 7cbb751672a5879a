"""PyTorch on a GPU, for the lines of cuda_bench: networks in both forms, and the layers that are children.

    python3 bench/cuda/peer_torch.py [layers|networks] [--batch 1,32,128] [--numbers f32,tf32,f16,bf16] [--only TEXT] [--ways TEXT]

--only and --ways take what has TEXT in its name: a layer or network, and one of

eager            channels last, inference mode
eager, graph     the same, recorded as a CUDA graph
compile          torch.compile(mode="max-autotune"), which uses CUDA graphs

A child's kernel is computed in every call, as in KernelDNA's code. Times are medians of CUDA events over calls that take turns
with inputs larger than L2; outputs are checked against eager float32 first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from kdna_torch import SqueezeExcite, build, child_conv2d  # noqa: E402
from kdna_torch.checkpoint import randomise  # noqa: E402

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
CHILDREN = ((256, 14), (512, 7))
TYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = {"f32": 1e-4, "tf32": 1e-2, "f16": 1e-2, "bf16": 5e-2}


class Child(nn.Module):
    """act( BN( conv(se(x), W * (1 + a_sp) * (1 + a_f)) ) + residual ), a 3x3 child."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / (4.2 * channels**0.5))
        self.spatial = nn.Parameter(torch.randn(1, 1, 3, 3) / 4)
        self.filter = nn.Parameter(torch.randn(channels, 1, 1, 1) / 4)
        self.se = SqueezeExcite(channels, channels // 4)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(child_conv2d(self.se(x), self.weight, self.filter, self.spatial)) + x)


class Plain(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)) + x)


def median_microseconds(call: Callable[[Tensor], Tensor], inputs: list[Tensor], samples: int = 31) -> float:
    def group(calls: int) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for i in range(calls):
            call(inputs[i % len(inputs)])
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    for _ in range(3):
        one = group(10) / 10
    calls = max(1, min(200, int(2 / max(one, 1e-4))))
    return statistics.median(1000 * group(calls) / calls for _ in range(samples))


def recorded(module: Callable[[Tensor], Tensor], like: Tensor) -> Callable[[Tensor], Tensor]:
    """The module as a CUDA graph; a call copies its input to the graph's."""
    static = torch.empty_like(like)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = module(static)

    def call(x: Tensor) -> Tensor:
        static.copy_(x)
        graph.replay()
        return out

    return call


def measure(name: str, form: str, module: nn.Module, shape: tuple[int, int, int, int], numbers: str, images: bool, wanted: str) -> None:
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    module = module.cuda().eval().to(memory_format=torch.channels_last)
    x = torch.randn(shape, device="cuda").to(memory_format=torch.channels_last)
    exact = module.float()(x)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = numbers == "tf32"
    module = module.to(TYPES[numbers])
    x = x.to(TYPES[numbers])
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(64, 2 * l2 // (x.numel() * x.element_size()) + 1))
    inputs = [x.clone(memory_format=torch.preserve_format) for _ in range(count)]
    torch._dynamo.reset()
    ways: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "eager": lambda: module,
        "eager, graph": lambda: recorded(module, x),
        "compile": lambda: torch.compile(module, mode="max-autotune"),
    }
    for way, make in ways.items():
        if wanted not in way:
            continue
        try:
            call = make()
            error = float((call(x).float() - exact).abs().max() / exact.abs().max())
            us = median_microseconds(call, inputs)
        except Exception as e:  # one way that fails is reported, the others are measured
            print(f"{name}\t{form}, {way}\t{shape[0]}\t{numbers}\tfailed: {type(e).__name__}: {e}".splitlines()[0], flush=True)
            continue
        rate = shape[0] / us * 1e6 if images else 2e-6 * shape[0] * 9 * shape[1] ** 2 * shape[2] * shape[3] / us
        wrong = "" if error <= TOLERANCE[numbers] else "\tWRONG"
        print(f"{name}\t{form}, {way}\t{shape[0]}\t{numbers}\t{us:.2f}\t{rate:.2f}\t{error:.1e}{wrong}", flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("layers", "networks"))
    parser.add_argument("--batch", default="1,32,128")
    parser.add_argument("--numbers", default="f32,tf32,f16,bf16")
    parser.add_argument("--only", default="")
    parser.add_argument("--ways", default="")
    arguments = parser.parse_args()
    print(f"# {torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    print("# what\tform\tbatch\tnumbers\tmicroseconds\timages/s or TFLOP/s\tlargest error")
    batches = [int(n) for n in arguments.batch.split(",")]
    for channels, extent in CHILDREN:
        name = f"{channels}-{channels}@{extent}_3x3"
        if arguments.what == "networks" or arguments.only not in name:
            continue
        for batch in batches:
            for numbers in arguments.numbers.split(","):
                for form, make in (("plain", Plain), ("child", Child)):
                    torch.manual_seed(1)
                    measure(name, form, make(channels), (batch, channels, extent, extent), numbers, False, arguments.ways)
    for arch in NETWORKS:
        if arguments.what == "layers" or arguments.only not in arch:
            continue
        for form, suffix in (("kernel_dna", ""), ("plain", "_plain")):
            for batch in batches:
                for numbers in arguments.numbers.split(","):
                    net = build(arch + suffix)
                    randomise(net, seed=1)
                    measure(arch, form, net, (batch, 3, 224, 224), numbers, True, arguments.ways)


if __name__ == "__main__":
    main()
