"""MNN: precision "high", so that nothing is computed in 16 bits. Its converter makes its models from the ONNX files.

mnn    a call takes the input over from NCHW, since its memory is used for other values during a run
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import MNN
import numpy as np

Arrays = dict[str, np.ndarray]


class Session:
    """A network of an ONNX file, converted."""

    def __init__(self, model: str | Path, threads: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "n.mnn")
            command = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(file), "--bizCode", "kdna"]
            code = f"import sys; from MNN.tools import mnnconvert; sys.argv[1:] = {command!r}; mnnconvert.main()"
            subprocess.run([sys.executable, "-c", code], capture_output=True)
            if not file.exists():
                raise RuntimeError("the model could not be converted")
            self.interpreter = MNN.Interpreter(str(file))
            settings = {"numThread": threads, "precision": "high", "backend": "CPU"}
            self.session = self.interpreter.createSession(settings)

    def set_input(self, x: np.ndarray) -> None:
        """The only input."""
        self.interpreter.getSessionInput(self.session).copyFrom(host_tensor(x))

    def run(self) -> None:
        self.interpreter.runSession(self.session)

    def outputs(self) -> list[np.ndarray]:
        results = []
        for tensor in self.interpreter.getSessionOutputAll(self.session).values():
            host = host_tensor(np.zeros(tensor.getShape(), np.float32))
            tensor.copyToHostTensor(host)
            results.append(np.array(host.getData(), np.float32).reshape(tensor.getShape()))
        return results


def host_tensor(x: np.ndarray) -> Any:
    return MNN.Tensor(x.shape, MNN.Halide_Type_Float, np.ascontiguousarray(x), MNN.Tensor_DimensionType_Caffe)


class Peer:
    VARIANTS = {"layer": ["mnn plain"], "child": [], "network": ["mnn plain"]}

    def __init__(self, threads: int) -> None:
        import onnx  # what writes the models

        self.threads = threads
        helper = onnx.helper
        one = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "trivial", one[:1], one[1:])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "n.onnx")
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
            session = Session(file, 1)
        one_element = np.ones((1, 1), np.float32)

        def trivial() -> None:
            session.set_input(one_element)
            session.run()

        self.trivial = trivial

    def versions(self) -> dict[str, str]:
        return {"MNN": MNN.version()}

    def prepare(self, item: dict[str, Any], variant: str, form: str, tensors: Arrays) -> Any:
        model = item["onnx"].get(form)
        if model is None:
            raise RuntimeError("the model could not be exported")
        session = Session(model, self.threads)

        def run() -> None:
            session.set_input(tensors["x"])
            session.run()

        return run, lambda: session.outputs()[0], ""
