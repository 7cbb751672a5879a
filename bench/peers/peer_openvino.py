"""OpenVINO: the latency hint, one stream, fp32.

openvino        NCHW in and out
openvino-nhwc   single layers with channels-last tensors, as the plugin's convolutions have them inside
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

Arrays = dict[str, np.ndarray]


class Peer:
    VARIANTS = {
        "layer": ["openvino plain", "openvino-nhwc plain"],
        "child": ["openvino plain", "openvino expanded"],
        "network": ["openvino plain", "openvino expanded"],
    }

    def __init__(self, threads: int) -> None:
        self.core = ov.Core()
        self.settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        x = ov.opset13.parameter([1, 1], np.float32)
        x.output(0).set_names({"x"})
        self.trivial, _, _ = self.compile(ov.Model([ov.opset13.relu(x)], [x]), {"x": np.ones((1, 1), np.float32)})

    def versions(self) -> dict[str, str]:
        return {"OpenVINO": ov.__version__.split("-")[0]}

    def compile(self, model: ov.Model, inputs: Arrays) -> Any:
        compiled = self.core.compile_model(model, "CPU", self.settings)
        request = compiled.create_infer_request()
        for port in compiled.inputs:
            request.set_tensor(port, ov.Tensor(inputs[port.any_name]))  # a copy, the request's own

        def run() -> None:
            request.infer(share_outputs=True)

        run()
        kinds = [
            info.rt_info["primitiveType"].astype(str)
            for info in compiled.get_runtime_model().get_ops()
            if "Convolution" in info.rt_info["layerType"].astype(str)
        ]
        return run, lambda: request.get_output_tensor(0).data, " ".join(sorted(set(kinds)))

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: Arrays) -> Any:
        path = item["onnx"].get("child" if form == "expanded" else form)
        if path is None:
            raise RuntimeError("the model could not be exported")
        model = self.core.read_model(path)
        inputs = {key: np.ascontiguousarray(tensors[key]) for key in ("x", "residual") if key in tensors}
        if variant == "openvino":
            return self.compile(model, inputs)
        steps = PrePostProcessor(model)
        steps.input().tensor().set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.output().tensor().set_layout(ov.Layout("NHWC"))
        steps.output().model().set_layout(ov.Layout("NCHW"))
        channels_last = np.ascontiguousarray(inputs["x"].transpose(0, 2, 3, 1))
        run, output, explain = self.compile(steps.build(), {"x": channels_last})
        return run, lambda: output().transpose(0, 3, 1, 2), explain
