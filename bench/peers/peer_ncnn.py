"""ncnn: packed layout, no 16-bit storage or arithmetic. Single layers get and give packed blobs.

ncnn           its own choice among its algorithms
ncnn-nowino    without Winograd
ncnn-w23 -w43 -w63   with one of its Winograd variants only: F(2x2), F(4x4), F(6x6)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ncnn
import numpy as np

PACK = 16 if "avx512f" in Path("/proc/cpuinfo").read_text() else 8
WINOGRAD = ("23", "43", "63")


class Peer:
    VARIANTS = {
        "layer": ["ncnn plain", "ncnn-nowino plain", *(f"ncnn-w{v} plain" for v in WINOGRAD)],
        "child": [],
        "network": ["ncnn plain", "ncnn-nowino plain"],
    }

    def __init__(self, threads: int) -> None:
        self.threads = threads
        net = ncnn.Net()
        net.opt = self.options("ncnn")
        net.opt.num_threads = 1  # it would start all of them for one element
        net.load_param_mem("7767517\n2 2\nInput x 0 1 x\nReLU relu 1 1 x y\n")
        net.load_model(ncnn.DataReaderFromEmpty())
        self.trivial = self.runner(net, "x", "y", ncnn.Mat(np.ones((1, 1, 1), np.float32)).clone())[0]

    def versions(self) -> dict[str, str]:
        return {"ncnn": ncnn.__version__}

    def options(self, variant: str) -> ncnn.Option:
        options = ncnn.Option()
        options.num_threads = self.threads
        options.use_packing_layout = True
        for name in dir(options):
            if name.startswith(("use_fp16", "use_bf16")):
                setattr(options, name, False)
        if variant == "ncnn-nowino":
            options.use_winograd_convolution = False
        elif variant != "ncnn":
            for v in WINOGRAD:
                setattr(options, f"use_winograd{v}_convolution", variant.endswith(v))
        return options

    def runner(self, net: ncnn.Net, first: str, last: str, x: ncnn.Mat) -> Any:
        as_it_comes = 1  # without unpacking the output

        def run() -> None:
            extractor = net.create_extractor()
            extractor.input(first, x)
            extractor.extract(last, ncnn.Mat(), as_it_comes)

        def output() -> np.ndarray:
            extractor = net.create_extractor()
            extractor.input(first, x)
            return np.array(extractor.extract(last)[1])

        return run, output

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: dict[str, np.ndarray]) -> Any:
        layer = item["kind"] == "layer"
        has_winograd = not layer or (item["k"], item["stride"], item["groups"]) == (3, 1, 1)
        if item["batch"] != 1 or (variant != "ncnn" and not has_winograd):
            return None
        if item.get("ncnn") is None:
            raise RuntimeError("the network could not be converted (pnnx)")
        net = ncnn.Net()
        net.opt = self.options(variant)
        if net.load_param(item["ncnn"][0]) != 0 or net.load_model(item["ncnn"][1]) != 0:
            raise RuntimeError("ncnn cannot load its model")
        x = ncnn.Mat(np.ascontiguousarray(tensors["x"][0])).clone()
        if layer:
            x = ncnn.convert_packing(x, PACK if item["i"] % PACK == 0 else 1, net.opt)
        run, output = self.runner(net, net.input_names()[0], net.output_names()[0], x)
        return run, output, ""
