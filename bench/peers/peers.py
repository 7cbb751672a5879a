#!/usr/bin/env python3
"""Times kdna and other libraries on the same layers and networks, interleaved: ours, peer, ours, peer ...

    bash bench/peers/run.sh                 all of it: builds, measures (about ten minutes), tables and plot
    bash bench/peers/run.sh --quick         a few items, two rounds: does everything work here?

or, with the C++ side built (target kdna_bench_peers),

    python bench/peers/peers.py --server build/peers/bench/peers/peers --out results.json

Every library runs in a process of its own, a worker: kdna, oneDNN and Eigen together in the C++ one, the others in
worker.py. For each item every implementation is built and checked against double precision; in each round every peer
gets a burst of calls with a burst of ours just before it. A burst's time is the median of its calls, less what the same
library takes for a model of one element (Python's and the session's share; nothing is subtracted from the C++ side).
One-thread workers are all bound to one processor.

A library that is not installed, crashes, hangs or gives a wrong answer is left out, and the results say why. Results
are written after every item. They name the processor and versions, no host and no paths.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import items
from workers import Worker, WorkerError, operating_system, processor, save, significant, without_paths

HERE = Path(__file__).resolve().parent
LIBRARIES = ("onnxruntime", "openvino", "ncnn", "mnn", "executorch", "torch")
TOLERANCE = 1e-3  # of the largest output; an error above it is a wrong answer
BUSY = 0.15  # processors; with more of them at other work than this, times on all processors say little
QUICK = r"^(64-64|512-512|1024-256|3-64|384-64|depthwise 960|mobilenet_v2$|128 at|512 at)"
PROC_STAT = Path("/proc/stat")
Json = dict[str, Any]


class Crew:
    """All workers of one number of threads, and what each can run."""

    def __init__(self, args: argparse.Namespace, threads: int) -> None:
        available = sorted(os.sched_getaffinity(0))
        self.threads = threads
        processors = set(available[-threads:])
        self.native = Worker("C++", [str(args.server)], threads, processors)
        commands = {name: [sys.executable, str(HERE / "worker.py"), name] for name in args.peers}
        self.workers = [self.native, *(Worker(name, c, threads, processors) for name, c in commands.items())]
        self.variants: dict[str, dict[str, Worker]] = {"layer": {}, "child": {}, "network": {}}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        for worker in self.workers:
            try:
                info = worker.ask(do="info")
            except WorkerError as error:
                info = {"missing": str(error)}
            if isinstance(info.get("missing"), dict):
                self.missing |= info["missing"]
            elif "missing" in info:
                self.missing[worker.name] = without_paths(info["missing"])
            self.versions |= info.get("versions", {})
            for kind, names in info.get("variants", {}).items():
                self.variants[kind] |= dict.fromkeys(names, worker)
        if self.native.name in self.missing:
            raise SystemExit(f"peers: the C++ side does not start: {self.missing[self.native.name]}")

    def elsewhere(self) -> float:
        """Seconds for which processors did something else than this measurement, since the machine was started."""
        user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(int, PROC_STAT.read_text().split()[1:11])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - time.process_time() - sum(worker.processor_time() for worker in self.workers)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


def measure(crew: Crew, item: Json, rounds: int, ms: float) -> Json:
    """One item on one crew: what is in "items" of the results.

    An entry's "ms" has one number a round, for ours the median of all its bursts in the round; a peer's "ours_ms" are
    the bursts of ours just before its own. "busy_elsewhere" is how many processors did something else meanwhile.
    """
    entries: dict[str, Json] = {}
    left_out: dict[str, str] = {}
    for key, worker in crew.variants[item["kind"]].items():
        variant, form = key.split()
        try:
            made = worker.ask(do="prepare", key=key, variant=variant, form=form, item=item)
        except WorkerError as error:
            left_out[key] = str(error)
            continue
        if "not_applicable" in made:
            continue
        if not made["error"] <= TOLERANCE:
            left_out[key] = f"wrong answer: error {made['error']:.2g} of the largest output"
            continue
        if "\n" in made["explain"]:
            made["explain"] = made["explain"].strip().split("\n")
        entries[key] = made | {"error": significant(made["error"]), "ms": []}
        if key.split()[0] != "kdna" and item["kind"] != "child":
            entries[key]["ours_ms"] = {}  # just before: ours, by form
    ours = [key for key in entries if key.split()[0] == "kdna"]
    peak: list[float] = []
    overheads: dict[str, list[float]] = {}

    def burst(key: str) -> float | None:
        """Milliseconds a call, as measured. What fails here is left out from here on."""
        if key not in entries:
            return None
        worker = crew.variants[item["kind"]][key]
        try:
            t = worker.ask(do="time", key=key, ms=ms, least=3)
        except WorkerError as error:
            left_out[key] = str(error)
            del entries[key]
            return None
        if "overhead_ms" in t:
            overheads.setdefault(key, []).append(t["overhead_ms"])
        entries[key]["calls"] = t["calls"]
        if crew.threads > 1:
            worker.wait_until_idle()
        return float(t["ms"])

    compare = item["kind"] != "child"  # children are compared with the same library's plain layer
    order = [key for key in entries if not compare or key not in ours] or ours
    if crew.threads > 1:
        for worker in crew.workers:
            worker.wait_until_idle()
    started, elsewhere = time.monotonic(), crew.elsewhere()
    for _ in range(rounds):
        try:
            peak.append(significant(crew.native.ask(do="peak")["gflops"]))
        except WorkerError as error:
            left_out["peak"] = str(error)
        own: dict[str, list[float]] = {}
        for key in order:
            if compare and key not in ours:
                for form in ours:
                    before = burst(form)
                    if before is not None:
                        own.setdefault(form, []).append(before)
                        if key in entries:
                            entries[key]["ours_ms"].setdefault(form, []).append(significant(before))
            value = burst(key)
            if value is not None:
                entries[key]["ms"].append(value)
        for form, values in own.items():
            if form in entries:
                entries[form]["ms"].append(significant(statistics.median(values)))
    busy = max(0.0, crew.elsewhere() - elsewhere) / (time.monotonic() - started)
    for key, values in overheads.items():
        if key in entries:
            entries[key]["overhead_ms"] = overhead = significant(statistics.median(values))
            # Where a call is nearly all overhead the rest is noise; a tenth stays so that ratios are finite.
            entries[key]["ms"] = [significant(max(v - overhead, 0.1 * v)) for v in entries[key]["ms"]]
    for worker in crew.workers:
        try:
            worker.ask(do="drop")
        except WorkerError:
            pass  # it will be started again, or be missed where it matters
    return {"peak_gflops": peak, "busy_elsewhere": round(busy, 2), "entries": entries, "left_out": left_out}


def chosen(args: argparse.Namespace) -> list[Json]:
    """The items asked for, networks first: they are what a run that is cut short should have."""

    def keep(found: list[Json], pattern: str) -> list[Json]:
        quick = QUICK if args.quick else ""
        return [item for item in found if re.search(pattern, item["name"]) and re.search(quick, item["name"])]

    return [
        *keep(items.networks(args.batches), args.networks),
        *keep(items.children(), args.children),
        *keep(items.layers(), args.layers),
    ]


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, required=True, help="the C++ side, built from peers.cpp")
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="JSON to write")
    work = items.ROOT / "build" / "peers" / "items"
    parser.add_argument("--work", type=Path, default=work, help="folder for the models, which are used again")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="for example 1,2")
    parser.add_argument("--batches", type=numbers, default=[1], help="of networks, for example 1,8")
    parser.add_argument("--layers", default="", metavar="REGEX", help="only the layers that match ('$^': none)")
    parser.add_argument("--children", default="", metavar="REGEX", help="likewise for child against plain")
    parser.add_argument("--networks", default="", metavar="REGEX", help="likewise for networks")
    parser.add_argument("--peers", type=words, default=list(LIBRARIES), help=f"of {','.join(LIBRARIES)}")
    parser.add_argument("--rounds", type=int, default=0, help="default 5; 9 for child against plain; with --quick 2")
    parser.add_argument("--ms", type=float, default=0.0, help="of a burst: default 20 for layers, 100 for networks")
    parser.add_argument("--minutes", type=float, default=15.0, help="items not begun by then are left out")
    parser.add_argument("--quick", action="store_true", help="a few items and two short rounds")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(LIBRARIES):
        parser.error(f"no peers {', '.join(sorted(unknown))}")
    args.server = args.server.resolve()
    if not args.server.exists():
        parser.error("there is no such --server")
    return args


def main() -> None:
    args = arguments()
    started = time.monotonic()
    available = len(os.sched_getaffinity(0))
    results: Json = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpu": processor(), "processors": available, "system": operating_system()},
        "versions": {"Python": platform.python_version()},
        "settings": {"quick": args.quick, "tolerance": TOLERANCE},
        "missing": {},
        "items": [],
    }
    args.work.mkdir(parents=True, exist_ok=True)
    todo = []
    for item in chosen(args):
        print(f"making {item['kind']} {item['name']}", flush=True)
        try:
            items.make(item, args.work)
            todo.append(item)
        except Exception as error:  # the others can still be measured
            results["missing"][f"{item['kind']} {item['name']}"] = f"cannot be made ({without_paths(str(error))})"
    for threads in args.threads:
        if threads > available:
            results["missing"][f"{threads} threads"] = f"there are {available} processors"
            continue
        crew = Crew(args, threads)
        results["versions"] |= crew.versions
        results["missing"] |= crew.missing
        for item in todo:
            network = item["kind"] == "network"
            rounds = args.rounds or (2 if args.quick else 9 if item["kind"] == "child" else 5)
            ms = args.ms or (5.0 if args.quick else 100.0 if network else 20.0)
            if time.monotonic() - started > 60 * args.minutes:
                results["missing"][f"{item['kind']} {item['name']}, {threads} threads"] = "no time was left"
                continue
            found = measure(crew, item, rounds, ms)
            described = {key: item[key] for key in ("kind", "name", "batch", "mflop", "arch") if key in item}
            results["items"].append(described | {"threads": threads} | found)
            results["minutes"] = round((time.monotonic() - started) / 60, 1)
            save(results, args.out)
            print(summary(results["items"][-1]), flush=True)
        crew.stop()
    for name, reason in results["missing"].items():
        print(f"left out: {name}: {reason}")
    print(f"{args.out.name}: {len(results['items'])} items in {(time.monotonic() - started) / 60:.1f} minutes")


def summary(item: Json) -> str:
    medians = {key: statistics.median(e["ms"]) for key, e in item["entries"].items() if e["ms"]}
    best_first = sorted(medians.items(), key=lambda entry: entry[1])
    text = ", ".join(f"{key.removesuffix(' plain')} {ms:.3g}" for key, ms in best_first)
    failed = "".join(f"\n    left out: {key}: {reason}" for key, reason in item["left_out"].items())
    threads = "one thread" if item["threads"] == 1 else f"{item['threads']} threads"
    busy = f"\n    {item['busy_elsewhere']} processors were busy with something else" * (item["busy_elsewhere"] > BUSY)
    return f"{item['kind']} {item['name']}, {threads}, ms: {text}{busy}{failed}"


if __name__ == "__main__":
    main()
