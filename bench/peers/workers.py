"""Processes that answer requests about what they measure, the machine they are on, and the file of results."""

from __future__ import annotations

import json
import os
import platform
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Json = dict[str, Any]


class WorkerError(Exception):
    """A request that failed, with the reason as text: of one line, and free of paths."""

    def __init__(self, reason: str) -> None:
        super().__init__(without_paths(reason))


def without_paths(text: str) -> str:
    return re.sub(r"(/[\w.+~-]+){2,}", "...", text)


class Worker:
    """A process that answers requests. One that crashed or hung is started again at the next request, twice at most."""

    def __init__(self, name: str, command: list[str], threads: int, processors: set[int]) -> None:
        self.name, self.command, self.threads, self.processors = name, command, threads, processors
        self.starts_left = 3
        self.process: subprocess.Popen[bytes] | None = None
        self.log = None if os.environ.get("PEERS_LOG") else subprocess.DEVNULL

    def start(self) -> None:
        if self.starts_left == 0:
            raise WorkerError("crashed too often")
        self.starts_left -= 1
        env = os.environ | {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        self.process = subprocess.Popen(
            [*self.command, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, cwd=HERE, env=env,
            preexec_fn=lambda: os.sched_setaffinity(0, self.processors),
        )  # fmt: skip

    def ask(self, seconds: float = 120.0, **request: Any) -> Json:
        try:
            if self.process is None:
                self.start()
            assert self.process and self.process.stdin and self.process.stdout
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                raise WorkerError(f"no answer in {seconds:.0f} s")
            line = self.process.stdout.readline()
            if not line:
                raise WorkerError(f"ended with code {self.process.wait()}")
        except (OSError, WorkerError) as error:
            code = self.process.poll() if self.process else None
            self.stop()
            raise WorkerError(str(error) if code is None else f"ended with code {code}") from error
        reply: Json = json.loads(line)
        if not reply.pop("ok"):
            raise WorkerError(reply["reason"])
        return reply

    def processor_time(self) -> float:
        """Seconds that the threads it has now have run."""
        total = 0
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat") if self.process else ():
            try:
                total += int(path.read_text().split()[0])
            except OSError:
                pass  # a thread that has ended
        return 1e-9 * total

    def wait_until_idle(self) -> None:
        """Threads go on spinning for a while after their work (ONNX Runtime's for 40 ms): not into the next burst."""
        deadline = time.monotonic() + 0.2
        before = self.processor_time()
        while time.monotonic() < deadline:
            time.sleep(0.003)
            now = self.processor_time()
            if now - before < 0.0005:
                return
            before = now

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None


def significant(value: float) -> float:
    return float(f"{value:.4g}")


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def save(results: Json, path: Path) -> None:
    """Arrays of numbers on one line each; a run that is killed leaves the last whole file."""
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[\s+([-+0-9.e,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    part = path.with_suffix(".part")
    part.write_text(text + "\n")
    part.replace(path)
