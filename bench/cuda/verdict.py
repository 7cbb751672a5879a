"""What a run of cuda_bench and peer_torch.py shows of the bars that the GPU is held to.

    python3 bench/cuda/verdict.py RESULTS [RESULTS...]        files of lines: what, form, batch, numbers, us, rate, error

Prints a table of the bars, each with what was measured, and "not measured" where a line is missing. Exits with 1 if one is missed.

errors        at most 1e-4 (f32) and 1e-2 (tf32, f16, bf16) of the largest output
child         at most 1.05 times cuDNN's plain layer, batch >= 32, f16, bf16 and tf32
networks      KernelDNA resnet18 and resnet50, batch 128, f16: faster than torch.compile of the same network, and at least 0.9 of
              the images/s that the plain network has in the fastest of all, times plain's multiply-adds by KernelDNA's
latency       KernelDNA networks, batch 1: faster than PyTorch's CUDA graph of the same network
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Of an image of 224 x 224, KernelDNA (gates included) and plain: kdna_torch.networks.multiply_adds.
MULTIPLY_ADDS = {
    "resnet18": (2_276_986_880, 1_814_073_344),
    "resnet50": (4_307_779_584, 4_089_184_256),
}
OURS = ("kernel_dna", "kernel_dna, cuDNN")
TORCH = ("eager", "eager, graph", "compile")
BARS = {"f32": 1e-4, "tf32": 1e-2, "f16": 1e-2, "bf16": 1e-2}


@dataclass(frozen=True)
class Line:
    what: str
    form: str
    batch: int
    numbers: str
    us: float
    rate: float
    error: float


def read(text: str) -> list[Line]:
    """The lines that are measurements; comments and failures are not."""
    lines = []
    for row in text.splitlines():
        parts = row.split("\t")
        if row.startswith("#") or len(parts) < 7:
            continue
        what, form, batch, numbers, us, rate, error = parts[:7]
        lines.append(Line(what, form, int(batch), numbers, float(us), float(rate), float(error)))
    return lines


@dataclass(frozen=True)
class Verdict:
    bar: str
    found: str
    met: bool | None  # None: not measured


def fastest(lines: list[Line], *, what: str, batch: int, numbers: str, forms: Callable[[str], bool]) -> Line | None:
    wanted = [l for l in lines if (l.what, l.batch, l.numbers) == (what, batch, numbers) and forms(l.form)]
    return min(wanted, key=lambda l: l.us, default=None)


def ratio(bar: str, ours: Line | None, theirs: Line | None, limit: float) -> Verdict:
    """Whether our time is at most `limit` of theirs."""
    if ours is None or theirs is None:
        return Verdict(bar, "not measured", None)
    r = ours.us / theirs.us
    return Verdict(bar, f"{ours.us:.1f} us ({ours.form}) / {theirs.us:.1f} us ({theirs.form}) = {r:.3f}, at most {limit:.3f}", r <= limit)


def errors(lines: list[Line]) -> list[Verdict]:
    out = []
    for numbers, bar in BARS.items():
        mine = [l for l in lines if l.numbers == numbers and not l.form.endswith(TORCH)]
        worst = max(mine, key=lambda l: l.error if l.error == l.error else float("inf"), default=None)  # NaN is worst
        name = f"largest error, {numbers}"
        if worst is None:
            out.append(Verdict(name, "not measured", None))
        else:
            out.append(Verdict(name, f"{worst.error:.1e} ({worst.what}, {worst.form}, batch {worst.batch}), at most {bar:.0e}", worst.error <= bar))
    return out


def children(lines: list[Line]) -> list[Verdict]:
    keys = sorted({(l.what, l.batch, l.numbers) for l in lines if l.form == "child" and l.batch >= 32 and l.numbers != "f32"})
    if not keys:
        return [Verdict("child by cuDNN's plain layer", "not measured", None)]
    return [
        ratio(
            f"child {what}, batch {batch}, {numbers}",
            fastest(lines, what=what, batch=batch, numbers=numbers, forms=lambda f: f == "child"),
            fastest(lines, what=what, batch=batch, numbers=numbers, forms=lambda f: f == "plain, cuDNN"),
            1.05,
        )
        for what, batch, numbers in keys
    ]


def networks(lines: list[Line]) -> list[Verdict]:
    out = []
    for what, (dna, plain) in MULTIPLY_ADDS.items():
        ours = fastest(lines, what=what, batch=128, numbers="f16", forms=lambda f: f in OURS)
        compiled = fastest(lines, what=what, batch=128, numbers="f16", forms=lambda f: f == "kernel_dna, compile")
        peer = fastest(lines, what=what, batch=128, numbers="f16", forms=lambda f: f.startswith("plain"))
        out.append(ratio(f"{what}, batch 128, f16, by torch.compile", ours, compiled, 1.0))
        out.append(ratio(f"{what}, batch 128, f16, by the fastest plain network, per multiply-add", ours, peer, dna / plain / 0.9))
    return out


def latency(lines: list[Line]) -> list[Verdict]:
    out = []
    for what in ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2"):
        for numbers in ("f16", "tf32"):
            out.append(
                ratio(
                    f"{what}, batch 1, {numbers}, by PyTorch's graph",
                    fastest(lines, what=what, batch=1, numbers=numbers, forms=lambda f: f in OURS),
                    fastest(lines, what=what, batch=1, numbers=numbers, forms=lambda f: f == "kernel_dna, eager, graph"),
                    1.0,
                )
            )
    return out


def judge(lines: list[Line]) -> list[Verdict]:
    return errors(lines) + children(lines) + networks(lines) + latency(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    verdicts = judge([line for path in parser.parse_args().results for line in read(path.read_text())])
    word = {True: "met", False: "MISSED", None: "not measured"}
    print("| bar | measured | |\n| --- | --- | --- |")
    for v in verdicts:
        print(f"| {v.bar} | {v.found} | {word[v.met]} |")
    return int(any(v.met is False for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
