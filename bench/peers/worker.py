#!/usr/bin/env python3
"""One Python library as a worker of peers.py: JSON requests on standard input, a line each, answered in kind.

    python worker.py LIBRARY THREADS        LIBRARY: onnxruntime, openvino, ncnn, mnn, executorch (XNNPACK) or torch

The requests are those of peers.cpp. A library that cannot be imported says so in its answer to "info".
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
import traceback
from typing import Any, Callable

import numpy as np
from safetensors.numpy import load_file

Json = dict[str, Any]
Run = Callable[[], Any]


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error relative to the largest value expected."""
    if found.size != expected.size:
        return float("inf")
    difference = np.abs(found.astype(np.float64).ravel() - expected.astype(np.float64).ravel())
    worst = float(difference.max() / np.abs(expected).max())
    return worst if np.isfinite(worst) else float("inf")


def median_call(
    run: Run, ms: float, least: int, warm_ms: float, warm_calls: int = 2, processor: bool = False
) -> tuple[float, int]:
    """As peers.cpp does it: some calls at least to warm up, then calls timed one by one. Milliseconds, calls."""
    now = time.perf_counter_ns
    clock = time.process_time_ns if processor else now
    start, calls = now(), 0
    while calls < warm_calls or now() - start < warm_ms * 1e6:
        run()
        calls += 1
    taken: list[int] = []
    start = now()
    while len(taken) < least or now() - start < ms * 1e6:
        before = clock()
        run()
        taken.append(clock() - before)
    return statistics.median(taken) * 1e-6, len(taken)


class Server:
    def __init__(self, library: str, threads: int) -> None:
        self.ready: dict[str, Run] = {}
        self.peer: Any = None
        self.missing = ""
        try:
            self.peer = importlib.import_module("peer_" + library).Peer(threads)
        except ImportError as error:
            self.missing = f"not installed ({error})"
        except Exception as error:  # installed, and cannot do the least thing
            traceback.print_exc()
            self.missing = f"does not start ({type(error).__name__}: {first_line(error)})"

    def answer(self, request: Json) -> Json:
        do = request["do"]
        if do == "info":
            if self.peer is None:
                return {"missing": self.missing}
            return {"versions": self.peer.versions(), "variants": self.peer.VARIANTS}
        if do == "prepare":
            return self.prepare(request["key"], request["variant"], request["form"], request["item"])
        if do == "time":
            # A call costs something before the library starts to compute, above all Python's share. The same call on a
            # model of one element tells how much, in the same moment; peers.py subtracts it.
            how = {"warm_calls": request.get("warm", 2), "processor": request.get("processor", False)}
            ms, calls = median_call(self.ready[request["key"]], request["ms"], request["least"], 3.0, **how)
            overhead, _ = median_call(self.peer.trivial, 1.0, 20, 0.5, processor=how["processor"])
            return {"ms": ms, "calls": calls, "overhead_ms": overhead}
        if do == "drop":
            self.ready.clear()
            gc.collect()
            return {}
        raise ValueError(f"no request {do}")

    def prepare(self, key: str, variant: str, form: str, item: Json) -> Json:
        tensors = load_file(item["file"])
        made = self.peer.prepare(item, variant, form, tensors)
        if made is None:  # the library has nothing for this item, which is no failure
            return {"not_applicable": True}
        run, output, explain = made
        run()
        answer = "y" if item["kind"] == "dynamic" else "y.plain" if form == "plain" else "y.child"
        error = relative_error(output(), tensors[answer])
        self.ready[key] = run
        return {"error": error, "explain": explain}


def main() -> None:
    # Libraries print; what they print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(sys.argv[1], int(sys.argv[2]))
    gc.disable()
    for line in sys.stdin:
        try:
            reply = {"ok": True, **server.answer(json.loads(line))}
        except Exception as error:  # whatever a library raises is an answer too
            traceback.print_exc()
            reply = {"ok": False, "reason": f"{type(error).__name__}: {first_line(error)}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
