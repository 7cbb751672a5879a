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

import torch
from graphs import run_ours, write_files

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
    parser.add_argument("--kdna-run", required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print("| network | activations | scratch | ONNX Runtime | ncnn | ours / larger peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.names or NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _, outputs = write_files(name, folder)
            said = run_ours(args.kdna_run, folder, outputs, "--explain")
            ours = [int(n) for n in re.search(r"activations (\d+) KiB at their peak, scratch (\d+) KiB", said).groups()]
            peers = [growth(folder, ONNX_RUNTIME), growth(folder, NCNN)]
            larger = max((p for p in peers if p is not None), default=0)
            cells = [*ours, *("-" if p is None else p for p in peers)]
            ratio = f"{sum(ours) / larger:.2f}" if larger else "-"
            print(f"| {name} | {' | '.join(map(str, cells))} | {ratio} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
