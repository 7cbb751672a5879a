#!/usr/bin/env python3
"""The table of docs/cost-model.md: what the cost model predicted and what bench/layers measured.

    layers --benchmark_filter='/plain$' --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true \\
        --benchmark_format=json > layers.json
    tools/cost_table.py layers.json docs/cost-model.md     replaces the table in that file
    tools/cost_table.py layers.json                        prints it

Standard library only.
"""

import json
import re
import statistics
import sys

BEGIN, END = "<!-- cost_table.py begins -->", "<!-- cost_table.py ends -->"
NETWORKS = {"resnet18": "R18", "resnet50": "R50", "mobilenet_v2": "M2", "mobilenet_v2_1d2": "M2/2"}


def milliseconds(value):
    return f"{value:.3g}" if value < 1 else f"{value:.2f}"


def rows_of(report):
    """One row for each shape: the least of the repetitions of its plain, warm run."""
    runs = {}
    for entry in report["benchmarks"]:
        if entry.get("run_type") == "iteration" and entry["name"].endswith("/plain"):
            runs.setdefault(entry["name"].removesuffix("/plain"), []).append(entry)
    rows = []
    for name, entries in runs.items():
        if "predicted_ms" not in entries[0]:
            sys.exit(f"{name} has no prediction: layers was built without the cost model's")
        # "<layer>: <shapes>: <algorithm>, <details>; <network>: <how often>; ..."
        plan, *networks = entries[0]["label"].split("; ")
        algorithm = re.search(r" on \(N .*?\): ([^,]+),", plan).group(1)
        measured = min(e["measured_ms"] for e in entries)
        predicted = min(e["predicted_ms"] for e in entries)
        used_by = [short for long, short in NETWORKS.items() if any(n.startswith(long + ":") for n in networks)]
        rows.append((name, algorithm, predicted, measured, used_by))
    order = list(NETWORKS.values())
    extent = re.compile(r"@(\d+)_")
    return sorted(rows, key=lambda r: (order.index(r[4][0]) if r[4] else 9, -int(extent.search(r[0]).group(1)), r[0]))


def table(report):
    rows = rows_of(report)
    ratios = [predicted / measured for _, _, predicted, measured, _ in rows]
    within = {share: sum(1 for r in ratios if 1 - share <= r <= 1 + share) for share in (0.05, 0.1, 0.15, 0.2)}
    kinds = {}
    for (_, algorithm, *_), ratio in zip(rows, ratios):
        kinds.setdefault(algorithm, []).append(ratio)
    lines = [
        f"{len(rows)} shapes; predicted over measured: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} "
        f"to {max(ratios):.2f}.",
        "Within " + ", ".join(f"{share:.0%}: {count}" for share, count in within.items()) + ".",
        "Medians: " + ", ".join(f"{kind} {statistics.median(k):.2f} ({len(k)})" for kind, k in sorted(kinds.items())) + ".",
        "",
        "| layer | in | algorithm | predicted, ms | measured, ms | predicted / measured |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (name, algorithm, predicted, measured, used_by), ratio in zip(rows, ratios):
        mark = "" if 0.85 <= ratio <= 1.15 else " *"
        lines.append(
            f"| {name.replace('_', ' ')} | {' '.join(used_by)} | {algorithm} | {milliseconds(predicted)} | "
            f"{milliseconds(measured)} | {ratio:.2f}{mark} |"
        )
    return "\n".join(lines)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        text = table(json.load(file))
    if len(sys.argv) == 2:
        print(text)
        return
    with open(sys.argv[2], encoding="utf-8") as file:
        page = file.read()
    if BEGIN not in page or END not in page:
        sys.exit(f"{sys.argv[2]} has no place for the table, between {BEGIN} and {END}")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
