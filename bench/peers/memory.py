#!/usr/bin/env python3
"""Memory of one run, beside ONNX Runtime and ncnn.

    python bench/peers/memory.py --kdna-run build/examples/kdna_run [NAMES...]

Names as in graphs.py. Ours is what the plan says it allocates: activations at their peak, and scratch. A peer's is the growth of
the process in its first run, after the model is loaded, at its highest (Linux: VmHWM after a reset, less VmRSS before); each runs
in a process of its own, on one thread, ONNX Runtime without its arena, which grows in steps. All in KiB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from graphs import image, make
from kdna_torch import export

NAMES = "resnet18 resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 shufflenet_v2_x1_0 yolo_plain".split()

MEASURE = r"""
import ctypes, gc, re
import numpy as np

def kib(field):
    return int(re.search(field + r":\s*(\d+)", open("/proc/self/status").read()).group(1))

def growth(run):
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading has freed would be used again, and not count
    open("/proc/self/clear_refs", "w").write("5")
    before = kib("VmRSS")
    run()
    print("growth", kib("VmHWM") - before)

x = np.load("x.npy")
"""

ONNX_RUNTIME = MEASURE + r"""
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.enable_cpu_mem_arena = False
session = onnxruntime.InferenceSession("n.onnx", options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: x}
growth(lambda: session.run(None, feed))
"""

NCNN = MEASURE + r"""
import ncnn
net = ncnn.Net()
net.opt.num_threads = 1
net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
assert net.load_param("n.ncnn.param") == 0 and net.load_model("n.ncnn.bin") == 0
value = ncnn.Mat(np.ascontiguousarray(x[0])).clone()

def run():
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], value)
    return [extractor.extract(name)[1] for name in net.output_names()]

growth(run)
"""


def growth(folder: Path, code: str) -> int | None:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    found = re.search(r"growth (\d+)", done.stdout)
    return int(found.group(1)) if found else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--kdna-run", required=True, type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| network | activations | scratch | ONNX Runtime | ncnn | ours / larger peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.names or NAMES:
        with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
            folder = Path(temporary)
            net, x = make(name), image(name)
            export(net, x, folder / "n.safetensors", check=False, say=lambda _: None)
            torch.onnx.export(net, (x,), str(folder / "n.onnx"), dynamo=False, opset_version=17)
            torch.jit.trace(net, x).save(folder / "n.pt")
            np.save(folder / "x.npy", x.numpy())
            count = 3 if name.startswith("yolo_") else 1
            command = [str(args.kdna_run.resolve()), "--model", "n.safetensors", "--input", "x.npy", "--explain"]
            for i in range(count):
                command += ["--output", f"output.{i}=y{i}.npy" if count > 1 else "y.npy"]
            said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
            ours = [int(n) for n in re.search(r"activations (\d+) KiB at their peak, scratch (\d+) KiB", said).groups()]
            peers = [growth(folder, ONNX_RUNTIME)]
            try:
                import pnnx

                shape = ",".join(map(str, x.shape))
                subprocess.run(
                    [pnnx.EXEC_PATH, "n.pt", f"inputshape=[{shape}]f32", "fp16=0"], cwd=folder, capture_output=True
                )
                peers.append(growth(folder, NCNN))
            except ImportError:
                peers.append(None)
            larger = max((p for p in peers if p is not None), default=0)
            cells = [*ours, *("-" if p is None else p for p in peers)]
            ratio = f"{sum(ours) / larger:.2f}" if larger else "-"
            print(f"| {name} | {' | '.join(map(str, cells))} | {ratio} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
