#!/usr/bin/env python3
"""Tables and a plot of what peers.py measured.

    python bench/peers/report.py results.json [--plot docs/peers.png] > tables.md

Times are medians over the rounds. A ratio is the median over the rounds of our time by the peer's in the same round:
below 1, ours is faster. Where a library was run in several ways (oneDNN direct and Winograd, ...), the best counts;
below a table stand the ways that were ever best.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

Json = dict[str, Any]
TITLES = {
    "kdna": "kdna", "onednn": "oneDNN", "eigen": "Eigen", "ort": "ONNX Runtime", "openvino": "OpenVINO", "ncnn": "ncnn",
    "mnn": "MNN", "xnnpack": "XNNPACK", "torch": "PyTorch",
}  # fmt: skip
OTHERS = [name for name in TITLES if name != "kdna"]


def library(key: str) -> str:
    return key.split()[0].split("-")[0]


def way(key: str) -> str:
    return key.removesuffix(" plain")


def median_of(item: Json, key: str) -> float | None:
    entry = item["entries"].get(key)
    return statistics.median(entry["ms"]) if entry and entry["ms"] else None


def cost(item: Json, key: str) -> float:
    """A way's time, in ours where it is known: that does not drift with the machine's clock as milliseconds do."""
    r = ratio(item, "kdna plain", key)
    return 1 / r if r else median_of(item, key) or math.inf


def best(item: Json, of: str) -> str | None:
    """The fastest way in which a library ran the plain form."""
    keys = [key for key in item["entries"] if library(key) == of and key.endswith(" plain") and median_of(item, key)]
    return min(keys, key=lambda key: cost(item, key), default=None)


def fastest(item: Json) -> str | None:
    keys = [key for name in OTHERS if (key := best(item, name))]
    return min(keys, key=lambda key: cost(item, key), default=None)


def ratio(item: Json, ours: str, peer: str | None) -> float | None:
    """Ours by the peer's time, the median over the rounds."""
    a, b = item["entries"].get(ours), item["entries"].get(peer)
    return statistics.median(x / y for x, y in zip(a["ms"], b["ms"])) if a and b and a["ms"] and b["ms"] else None


def within(item: Json, name: str, form: str) -> float | None:
    """A form's time by the plain one's of the same library."""
    return ratio(item, f"{name} {form}", f"{name} plain")


def text(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    decimals = max(0, digits - len(str(int(value)))) if value >= 1 else digits
    return f"{value:.{decimals}f}"


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def spread(ratios: list[tuple[float, str]]) -> str:
    mean = statistics.geometric_mean(r for r, _ in ratios)
    worst, where = max(ratios)
    faster = sum(r < 1 for r, _ in ratios)
    return f"geometric mean {mean:.2f}, worst {worst:.2f} ({where}); ours is faster in {faster} of {len(ratios)}"


def of_kind(results: Json, kind: str, threads: int) -> list[Json]:
    return [item for item in results["items"] if item["kind"] == kind and item["threads"] == threads]


def layer_section(items: list[Json]) -> str:
    rows, ratios, ways = [], [], set()
    for item in items:
        ours, peer = median_of(item, "kdna plain"), fastest(item)
        r = ratio(item, "kdna plain", peer)
        if r is not None:
            ratios.append((r, item["name"]))
        keys = {name: best(item, name) for name in OTHERS}
        ways |= {way(key) for key in keys.values() if key and "-" in key}
        rows.append([
            item["name"], f"{statistics.median(item['peak_gflops'] or [0]):.0f}", text(ours),
            "-" if ours is None else f"{item['mflop'] / ours:.0f}",
            *(text(median_of(item, key)) if key else "-" for key in keys.values()),
            f"{times(r)} {way(peer)}" if peer else "-",
        ])  # fmt: skip
    head = ["layer", "peak", "kdna, ms", "GFLOP/s", *(TITLES[name] for name in OTHERS), "kdna / fastest"]
    out = table(head, rows)
    if ratios:
        out += f"\nAgainst the fastest peer of each layer: {spread(ratios)}.\n"
        for name in OTHERS:
            own = [(ratio(item, "kdna plain", best(item, name)), item["name"]) for item in items]
            if own := [(r, where) for r, where in own if r is not None]:
                out += f"Against {TITLES[name]}'s best: {spread(own)}.\n"
    if ways:
        out += f"Best in at least one layer: {', '.join(sorted(ways))}.\n"
    return out


def network_section(items: list[Json]) -> str:
    rows, forms = [], []
    summary: dict[str, list[tuple[float, str]]] = {"kdna child": [], "kdna plain": []}
    for item in items:
        peer = fastest(item)
        found = {ours: ratio(item, ours, peer) for ours in summary}
        for ours, r in found.items():
            if r is not None:
                summary[ours].append((r, item["name"]))
        peers = [best(item, name) for name in ("ort", "openvino", "ncnn", "mnn", "xnnpack", "torch")]
        rows.append([
            item["name"], text(median_of(item, "kdna child")), text(median_of(item, "kdna plain")),
            *(f"{text(median_of(item, key))}" if key else "-" for key in peers),
            way(peer) if peer else "-", *(times(r) for r in found.values()),
        ])  # fmt: skip
        forms.append([
            item["name"],
            *(text(median_of(item, key)) for key in ("kdna child", "kdna plain", "torch child", "torch expanded",
              "torch plain", "ort child", "ort expanded", "ort plain", "openvino expanded", "openvino plain")),
        ])  # fmt: skip
    head = ["network", "kdna, KernelDNA", "kdna, plain", "ONNX Runtime", "OpenVINO", "ncnn", "MNN", "XNNPACK", "PyTorch", "fastest peer"]
    out = table([*head, "KernelDNA / fastest", "plain / fastest"], rows)
    for ours, title in (("kdna child", "KernelDNA"), ("kdna plain", "Plain")):
        if summary[ours]:
            out += f"\n{title} against the fastest peer's plain network: {spread(summary[ours])}."
    head = ["network", "kdna, KernelDNA", "plain", "PyTorch, kernels in every call", "expanded", "plain"]
    head += ["ONNX Runtime, kernels in the graph", "expanded", "plain", "OpenVINO, expanded", "plain"]
    return out + "\n\nThe KernelDNA form in each library (PyTorch eager):\n\n" + table(head, forms)


CHILD_COLUMNS = (
    ("kdna", "child", "kdna"), ("kdna-shared", "child", "kdna, shared path"),
    ("torch", "child", "PyTorch, kernel in every call"), ("torch", "expanded", "PyTorch, expanded"),
    ("ort", "child", "ONNX Runtime, kernel in the graph"), ("ort", "expanded", "ONNX Runtime, expanded"),
    ("openvino", "expanded", "OpenVINO, expanded"),
)  # fmt: skip


def child_section(items: list[Json]) -> str:
    rows = []
    for item in items:
        row = [item["name"]]
        for name, form, _ in CHILD_COLUMNS:
            r, ms = within(item, name, form), median_of(item, f"{name} {form}")
            row.append("-" if r is None else f"{times(r)} ({text(ms)})")
        rows.append(row)
    return table(["C", *(title for *_, title in CHILD_COLUMNS)], rows)


def report(results: Json) -> str:
    m, v = results["machine"], results["versions"]
    out = [
        f"{m['cpu']}, {m['processors']} processors, {m['system']}; {results['date']}; "
        + ", ".join(f"{name} {version}" for name, version in sorted(v.items())) + ".\n"
    ]  # fmt: skip
    for name, reason in results["missing"].items():
        out.append(f"Left out: {name}, {reason}.\n")
    for threads in sorted({item["threads"] for item in results["items"]}):
        words = "one thread" if threads == 1 else f"{threads} threads"
        for kind, title, section in (
            ("layer", "Layers (ms)", layer_section),
            ("network", "Networks at 224x224 (ms)", network_section),
            ("child", "A child's time by the plain layer's (and in ms)", child_section),
        ):
            items = of_kind(results, kind, threads)
            if items:
                out.append(f"### {title}, {words}\n\n{section(items)}")
                busy = [item["name"] for item in items if item["busy_elsewhere"] > 0.15]
                if busy:
                    out.append(f"Not quiet (0.15 processors and more at other work): {', '.join(busy)}.\n")
                failed = [f"{item['name']}, {k}: {reason}" for item in items for k, reason in item["left_out"].items()]
                if failed:
                    out.append("Left out: " + "; ".join(failed) + ".\n")
    return "\n".join(out)


def plot(results: Json, path: Path) -> None:
    """Layers and networks on one thread: every library's best time, ours = 1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    threads = min(item["threads"] for item in results["items"])
    layers = of_kind(results, "layer", threads)
    networks = of_kind(results, "network", threads)
    marks = dict(zip(OTHERS, ("os^DvPX*")))
    colours = dict(zip(OTHERS, ("#d55e00", "#999999", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#332288", "#e69f00")))
    rows = [(item, "kdna plain") for item in layers]
    rows += [(item, form) for item in networks for form in ("kdna plain", "kdna child")]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.24 * len(rows)), dpi=90)
    labels = []
    for y, (item, ours) in enumerate(rows):
        name = item["name"]
        if item["kind"] == "network":
            name += ", ours KernelDNA" if ours == "kdna child" else ", ours plain"
        labels.append(name)
        for other in OTHERS:
            r = ratio(item, ours, best(item, other))
            if r:
                axes.plot(1 / r, y, marks[other], color=colours[other], markersize=6, clip_on=True)
    for other in OTHERS:
        axes.plot([], [], marks[other], color=colours[other], label=TITLES[other])
    axes.axvline(1, color="black", linewidth=1)
    if layers and networks:
        axes.axhline(len(layers) - 0.5, color="#cccccc", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.5, 8)
    axes.set_xticks([0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8], ["0.5", "0.75", "1", "1.5", "2", "3", "4", "6", "8"])
    axes.minorticks_off()
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    words = "one thread" if threads == 1 else f"{threads} threads"
    axes.set_xlabel(f"time of the peer's plain form / time of kdna, {words}; right of 1 kdna is faster")
    figure.legend(loc="upper center", ncols=len(OTHERS), fontsize=8, frameon=False, handletextpad=0.2)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--plot", type=Path, help=".png to write")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    print(report(results))
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
