"""ONNX Runtime: all graph optimisations, inputs and outputs bound beforehand.

ort         the model as it is: NCHW in and out
ort-nchwc   single layers in ORT's own blocked layout: its optimised model without the reorderings at both ends

A child in the form "child" has its kernel computed in the graph (constant folding off, so its parent is stored once);
"expanded" is the same model with constant folding on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

Arrays = dict[str, np.ndarray]


class Peer:
    VARIANTS = {
        "layer": ["ort plain", "ort-nchwc plain"],
        "child": ["ort plain", "ort expanded", "ort child"],
        "network": ["ort plain", "ort expanded", "ort child"],
    }

    def __init__(self, threads: int) -> None:
        import onnx  # what writes the models

        self.onnx = onnx
        self.threads = threads
        ort.set_default_logger_severity(3)
        helper = onnx.helper
        one = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "trivial", one[:1], one[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self.trivial, _ = self.bind(model.SerializeToString(), {"x": np.ones((1, 1), np.float32)}, self.options())

    def versions(self) -> dict[str, str]:
        return {"ONNX Runtime": ort.__version__}

    def options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        return options

    def bind(self, model: str | bytes, inputs: Arrays, options: ort.SessionOptions, folding: bool = True) -> Any:
        disabled = None if folding else ["ConstantFolding"]
        session = ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        binding = session.io_binding()
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        for node in session.get_inputs():
            binding.bind_ortvalue_input(node.name, values[node.name])
        node = session.get_outputs()[0]
        y = ort.OrtValue.ortvalue_from_shape_and_type(node.shape, np.float32)
        binding.bind_ortvalue_output(node.name, y)

        def run(_kept: Any = values) -> None:  # the binding has pointers only
            session.run_with_iobinding(binding)

        return run, y.numpy

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: Arrays) -> Any:
        model = item["onnx"].get("child" if form == "expanded" and item["kind"] == "network" else form)
        if model is None:
            raise RuntimeError("the model could not be exported")
        inputs = {key: np.ascontiguousarray(tensors[key]) for key in ("x", "residual") if key in tensors}
        if variant == "ort":
            run, output = self.bind(model, inputs, self.options(), folding=form != "child")
            return run, output, ""
        return self.blocked(model, inputs["x"])

    def blocked(self, model: str, x: np.ndarray) -> Any:
        """The layer without ReorderInput and ReorderOutput, on an input that is in blocks already."""
        with tempfile.TemporaryDirectory() as folder:
            optimised = str(Path(folder, "optimised.onnx"))
            options = self.options()
            options.optimized_model_filepath = optimised
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            proto = self.onnx.load(optimised)
        graph = proto.graph
        conv = [node for node in graph.node if node.domain == "com.microsoft.nchwc" and node.op_type == "Conv"]
        if len(conv) != 1 or {node.op_type for node in graph.node} - {"Conv", "ReorderInput", "ReorderOutput"}:
            return None
        n, c, h, w = x.shape
        channels = {t.name: t for t in graph.initializer}[conv[0].input[1]].dims[0]
        if any(node.op_type == "ReorderInput" for node in graph.node):
            blocks = x.reshape(n, c // BLOCK, BLOCK, h, w).transpose(0, 1, 3, 4, 2)
            x = np.ascontiguousarray(blocks).reshape(n, c, h, w)
        conv[0].input[0], conv[0].output[0] = "x", "y"
        del graph.node[:]
        graph.node.extend(conv)
        run, blocked = self.bind(proto.SerializeToString(), {"x": x}, self.options())

        def output() -> np.ndarray:
            y = blocked()
            n, _, h, w = y.shape
            return y.reshape(n, channels // BLOCK, h, w, BLOCK).transpose(0, 1, 4, 2, 3).reshape(n, channels, h, w)

        return run, output, "NCHWc, reorderings taken out"


# What MLAS takes as the width of a block.
BLOCK = 16 if "avx512f" in Path("/proc/cpuinfo").read_text() else 8
