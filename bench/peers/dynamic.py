#!/usr/bin/env python3
"""Times dynamic layers and networks beside plain ones, in kdna and in PyTorch (tools/kdna_torch), on one thread.

    bash bench/peers/dynamic.sh             builds, measures (about five minutes) and prints the tables
    bash bench/peers/dynamic.sh --quick     one shape and one network: does everything work here?

or, with the C++ side built (target kdna_bench_peers),

    python bench/peers/dynamic.py --server build/peers/bench/peers/peers --out dynamic.json --tables dynamic.md
    python bench/peers/dynamic.py --report dynamic.json                  the tables of an earlier run

Layers are 3x3 with BatchNorm and ReLU; both sides have the same weights and inputs, and both are checked against double
precision. PyTorch runs eagerly in float32, from channels-last tensors ("torch") and from contiguous ones
("torch-default"); tables have whichever is faster for a layer. Methods take turns, burst by burst: our plain layer, our
layer, PyTorch's; a burst's time is the median of its calls, in processor time, so that neighbours count little. Ratios
are medians over the rounds: ours by the burst of the plain layer just before, PyTorch's by its plain layer's in the
same round. The bar of KernelWarehouse is the plain layer's time and that of the assembly's multiply-adds at the peak
that was measured in the same round.

Without PyTorch kdna is timed alone, on random weights, and its answers are not checked here (bench/dynamic does that).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from report import table, text, times
from workers import Worker, WorkerError, operating_system, processor, save, significant, without_paths

try:
    import dynamic_items
except ImportError as missing_module:
    dynamic_items, WHY_ALONE = None, str(missing_module)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOLERANCE = 1e-3  # of the largest output, as in peers.py
SHAPES = ((64, 56), (128, 28), (256, 14), (512, 7))
BATCHES = (1, 8)
METHODS = {
    "plain": "plain", "odconv_1x": "ODConv 1x", "dcd": "DCD", "odconv_4x": "ODConv 4x", "condconv_4x": "CondConv 4x",
    "dyconv_4x": "DyConv 4x", "kernel_warehouse_1x": "KernelWarehouse 1x", "child": "KernelDNA child",
    "dymn_4x": "DyMN 4x", "modulated": "modulated (StyleGAN2)",
    "lsconv": "LSConv", "fdconv": "FDConv 4x", "fdconv_kernels": "FDConv 4x, no bands",
}  # fmt: skip
NETWORKS = {
    "resnet18": ("plain", "odconv_1x", "odconv_4x", "kw_1x", "dyconv_4x", "dcd"),
    "mobilenet_v2": ("plain", "odconv_1x", "odconv_4x", "kw_1x"),
}
CELLS = {64: 56, 128: 47, 256: 47, 512: 27}
# What a method may take, by the plain layer's time; KernelWarehouse's by its bar.
LIMITS = {
    "odconv_1x": 1.10, "dcd": 1.10, "modulated": 1.10,
    "odconv_4x": 1.25, "condconv_4x": 1.25, "dyconv_4x": 1.25, "dymn_4x": 1.25,
}  # fmt: skip
BAR_LIMITS = {"kernel_warehouse_1x": 1.15}
Json = dict[str, Any]


def groups(args: argparse.Namespace) -> list[Json]:
    """What is measured together: all methods at one shape and batch, all forms of one network. "share": of the time."""
    found = []
    for batch in BATCHES:
        for channels, extent in SHAPES[-1:] if args.quick else SHAPES:
            name = f"{channels}@{extent}, batch {batch}"
            found.append({
                "kind": "layers", "name": name, "batch": batch, "channels": channels, "extent": extent,
                "forms": list(METHODS), "plain": "plain", "share": 1 if batch == 1 else 3,
            })  # fmt: skip
    for batch in BATCHES:
        for arch, forms in list(NETWORKS.items())[-1:] if args.quick else NETWORKS.items():
            found.append({
                "kind": "networks", "name": f"{arch}, batch {batch}", "batch": batch, "arch": arch,
                "forms": [f"{arch}_{form}" for form in forms], "plain": f"{arch}_plain",
                "share": len(forms) * batch / 3,
            })  # fmt: skip
    patterns = {"layers": args.layers, "networks": args.networks}
    return [group for group in found if re.search(patterns[group["kind"]], group["name"])]


class Pair:
    """Our process and PyTorch's, on one processor."""

    def __init__(self, server: Path) -> None:
        processors = {max(os.sched_getaffinity(0))}
        self.ours = Worker("kdna", [str(server)], 1, processors)
        self.torch = Worker("PyTorch", [sys.executable, str(HERE / "worker.py"), "torch"], 1, processors)
        self.of = {"kdna": self.ours, "torch": self.torch, "torch-default": self.torch}
        versions = self.ours.ask(do="info")["versions"]
        self.versions: Json = {key: versions[key] for key in ("kdna", "compiler")}
        self.missing: dict[str, str] = {}
        try:
            if dynamic_items is None:
                raise WorkerError(WHY_ALONE)
            info = self.torch.ask(do="info")
            if "missing" in info:
                raise WorkerError(info["missing"])
            self.versions |= info["versions"]
        except WorkerError as error:
            self.missing["PyTorch"] = str(error)
            del self.of["torch"], self.of["torch-default"]

    def stop(self) -> None:
        for worker in (self.ours, self.torch):
            worker.stop()


def prepare(pair: Pair, group: Json, folder: Path) -> tuple[dict[str, Json], dict[str, str]]:
    """An entry for every implementation and form that gives the right answer, and why the others do not."""
    entries: dict[str, Json] = {}
    left_out: dict[str, str] = {}
    bare = {key: group[key] for key in ("batch", "channels", "extent", "arch") if key in group} | {"kind": "dynamic"}
    for form in group["forms"]:
        item = bare
        if "torch" in pair.of:
            try:
                item = dynamic_items.make(bare, form, folder)
            except Exception as error:  # the others can still be measured
                left_out[form] = f"cannot be made ({without_paths(str(error))})"
                continue
        for library, worker in pair.of.items():
            key = f"{library} {form}"
            try:
                made = worker.ask(seconds=300, do="prepare", key=key, variant=library, form=form, item=item)
            except WorkerError as error:
                left_out[key] = str(error)
                continue
            if not made["error"] <= TOLERANCE:
                left_out[key] = f"wrong answer: error {made['error']:.2g} of the largest output"
                continue
            entries[key] = {"error": significant(made["error"]) if "file" in item else None, "ms": []}
            if library == "kdna" and group["kind"] == "layers":
                entries[key]["explain"] = made["explain"].strip().split("\n")
    return entries, left_out


def measure(pair: Pair, group: Json, folder: Path, seconds: float, most_rounds: int) -> Json:
    """One group: rounds until `seconds` have passed, two at least.

    Entries have one number a round: "ms" of a call, less what PyTorch takes for a model of one element; ours also
    "plain_ms", of the plain layer's burst just before.
    """
    entries, left_out = prepare(pair, group, folder)
    network, batch = group["kind"] == "networks", group["batch"]
    length = {"ms": 1.0, "least": 3 if batch == 1 else 1} if network else {"ms": 8.0, "least": 3}

    def burst(key: str) -> float | None:
        """Milliseconds a call. What fails here is left out from here on."""
        if key not in entries:
            return None
        try:
            t = pair.of[key.split()[0]].ask(do="time", key=key, warm=1, processor=True, **length)
        except WorkerError as error:
            left_out[key] = str(error)
            del entries[key]
            return None
        return significant(max(t["ms"] - t.get("overhead_ms", 0.0), 0.1 * t["ms"]))

    peak: list[float] = []
    started, rounds = time.monotonic(), 0
    while rounds < 2 or (rounds < most_rounds and (time.monotonic() - started) * (rounds + 1) / rounds < seconds):
        rounds += 1
        peak.append(significant(pair.ours.ask(do="peak")["gflops"]))
        for form in group["forms"]:
            for library in pair.of:
                key = f"{library} {form}"
                plain = burst(f"kdna {group['plain']}") if library == "kdna" and form != group["plain"] else None
                if (own := burst(key)) is not None:
                    entries[key]["ms"].append(own)
                    if plain is not None:
                        entries[key].setdefault("plain_ms", []).append(plain)
    for worker in {id(worker): worker for worker in pair.of.values()}.values():
        try:
            worker.ask(do="drop")
        except WorkerError:
            pass  # it will be started again, or be missed where it matters
    described = {key: value for key, value in group.items() if key != "share"}
    return described | {"rounds": rounds, "peak_gflops": peak, "entries": entries, "left_out": left_out}


# ------------------------------------------------------------------------------------------------------- reporting


def median_ratio(own: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(own, others))


def best_torch(group: Json, form: str) -> Json | None:
    """PyTorch in the memory format that suits this form."""
    found = [group["entries"].get(f"{variant} {form}") for variant in ("torch", "torch-default")]
    return min((e for e in found if e and e["ms"]), key=lambda e: statistics.median(e["ms"]), default=None)


def bar_ms(group: Json) -> list[float]:
    """In each round: what the multiply-adds take that put KernelWarehouse's kernels together."""
    channels = group["channels"]
    mflop = 2e-6 * group["batch"] * 9 * channels * channels * CELLS[channels]
    return [mflop / peak for peak in group["peak_gflops"]]


def figures(group: Json, form: str) -> Json:
    """What tables say about a form: times of a call in ms, ratios to plain, PyTorch's time by ours."""
    out: Json = dict.fromkeys(("ours", "ours_ratio", "bar_ratio", "torch", "torch_ratio", "speedup"))
    ours, theirs = group["entries"].get(f"kdna {form}"), best_torch(group, form)
    if ours and ours["ms"]:
        # The plain layer has a burst before every other one, too.
        others = group["entries"].values() if form == group["plain"] else ()
        out["ours"] = statistics.median(ours["ms"] + [ms for e in others for ms in e.get("plain_ms", ())])
        if "plain_ms" in ours:
            out["ours_ratio"] = median_ratio(ours["ms"], ours["plain_ms"])
            if form in BAR_LIMITS:
                out["bar_ratio"] = median_ratio(ours["ms"], [p + a for p, a in zip(ours["plain_ms"], bar_ms(group))])
    if theirs:
        out["torch"] = statistics.median(theirs["ms"])
        if form != group["plain"] and (plain := best_torch(group, group["plain"])):
            out["torch_ratio"] = median_ratio(theirs["ms"], plain["ms"])
        if ours and ours["ms"]:
            out["speedup"] = median_ratio(theirs["ms"], ours["ms"])
    return out


def layer_table(found: list[Json], batch: int) -> str:
    rows = []
    for group in found:
        for form in group["forms"]:
            f = figures(group, form)
            rows.append([
                f"{group['channels']}@{group['extent']}", METHODS[form], text(f["ours"] and f["ours"] / batch),
                times(f["ours_ratio"]), times(f["bar_ratio"]), text(f["torch"] and f["torch"] / batch),
                times(f["torch_ratio"]), text(f["speedup"]),
            ])  # fmt: skip
    head = ["shape", "layer", "kdna, ms/image", "by plain", "by the bar", "PyTorch, ms/image", "by plain"]
    return table([*head, "PyTorch / kdna"], rows)


def network_table(found: list[Json]) -> str:
    by_form: dict[str, dict[int, Json]] = {}
    for group in found:
        for form in group["forms"]:
            by_form.setdefault(form, {})[group["batch"]] = figures(group, form)
    rows = []
    for form, by_batch in by_form.items():
        row = [form.replace("_", " ").replace("mobilenet v2", "mobilenet_v2")]
        for batch in BATCHES:
            f = by_batch.get(batch, {})
            rate = {side: 1e3 * batch / f[side] if f.get(side) else None for side in ("ours", "torch")}
            row += [text(rate["ours"]), times(f.get("ours_ratio")), text(rate["torch"]), text(f.get("speedup"))]
        rows.append(row)
    head = ["network, images/s"]
    for batch in BATCHES:
        head += [f"batch {batch}: kdna", "time by plain", "PyTorch", "kdna / PyTorch"]
    return table(head, rows)


def judged(results: Json) -> str:
    """Where a layer takes longer than it may."""
    kept, missed = 0, []
    for group in results["groups"]:
        if group["kind"] != "layers":
            continue
        for limits, which in ((LIMITS, "ours_ratio"), (BAR_LIMITS, "bar_ratio")):
            for form, limit in limits.items():
                value = figures(group, form)[which]
                if value is None or value <= limit:
                    kept += value is not None
                else:
                    missed.append(f"{METHODS[form]} {group['name']}: {value:.2f} instead of {limit:.2f}")
    return f"{kept} of {kept + len(missed)} limits are kept" + "".join(f"\n    {line}" for line in missed)


def report(results: Json) -> str:
    m, v = results["machine"], results["versions"]
    out = [
        f"{m['cpu']}, {m['processors']} processors, {m['system']}, one thread; {results['date']}; "
        + ", ".join(f"{name} {version}" for name, version in sorted(v.items())) + ".\n"
    ]  # fmt: skip
    out += [f"Left out: {name}, {reason}.\n" for name, reason in results["missing"].items()]
    for batch in BATCHES:
        found = [group for group in results["groups"] if group["kind"] == "layers" and group["batch"] == batch]
        if found:
            out.append(f"### Dynamic layers, batch {batch}\n\n{layer_table(found, batch)}")
    found = [group for group in results["groups"] if group["kind"] == "networks"]
    if found:
        out.append(f"### Dynamic networks at 224x224\n\n{network_table(found)}")
    failed = [f"{group['name']}, {k}: {why}" for group in results["groups"] for k, why in group["left_out"].items()]
    if failed:
        out.append("Left out: " + "; ".join(failed) + ".\n")
    return "\n".join(out)


def summary(group: Json) -> str:
    lines = [f"{group['name']}, {group['rounds']} rounds, ms"]
    for form in group["forms"]:
        f = figures(group, form)
        bar = f", {times(f['bar_ratio'])} of its bar" if f["bar_ratio"] else ""
        lines.append(
            f"    {form:24} kdna {text(f['ours']):>6} ({times(f['ours_ratio'])}{bar})"
            f", PyTorch {text(f['torch']):>6} ({times(f['torch_ratio'])})"
        )
    lines += [f"    left out: {key}: {reason}" for key, reason in group["left_out"].items()]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, help="the C++ side, built from peers.cpp")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "peers" / "dynamic.json", help="JSON to write")
    parser.add_argument("--tables", type=Path, help="Markdown to write")
    parser.add_argument("--report", type=Path, metavar="JSON", help="only print the tables of these results")
    work = ROOT / "build" / "peers" / "dynamic"
    parser.add_argument("--work", type=Path, default=work, help="folder for weights and answers, which are used again")
    parser.add_argument("--layers", default="", metavar="REGEX", help="only these, as '512@7, batch 1' ('$^': none)")
    parser.add_argument("--networks", default="", metavar="REGEX", help="likewise, as 'resnet18, batch 8'")
    parser.add_argument("--minutes", type=float, default=5.0, help="for everything; two rounds are made in any case")
    parser.add_argument("--rounds", type=int, default=25, help="at most")
    parser.add_argument("--quick", action="store_true", help="one shape, one network, two rounds")
    args = parser.parse_args()
    if args.report is None:
        if args.server is None or not args.server.exists():
            parser.error("there is no such --server")
        args.server = args.server.resolve()
    if args.quick:
        args.rounds = 2
    return args


def main() -> None:
    args = arguments()
    if args.report:
        print(report(json.loads(args.report.read_text())))
        return
    started = time.monotonic()
    pair = Pair(args.server)
    results: Json = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": processor(), "processors": len(os.sched_getaffinity(0)), "system": operating_system()},
        "versions": {"Python": platform.python_version()} | pair.versions,
        "missing": pair.missing,
        "groups": [],
    }
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    todo = groups(args)
    while todo:
        group = todo.pop(0)
        left = 60 * args.minutes - (time.monotonic() - started)
        seconds = left * group["share"] / (group["share"] + sum(other["share"] for other in todo))
        results["groups"].append(measure(pair, group, args.work, seconds, args.rounds))
        results["minutes"] = round((time.monotonic() - started) / 60, 1)
        save(results, args.out)
        print(summary(results["groups"][-1]), flush=True)
    pair.stop()
    if args.tables:
        args.tables.write_text(report(results))
    print(f"{judged(results)}\n{args.out.name}: {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
