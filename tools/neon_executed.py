#!/usr/bin/env python3
"""Counts the instructions that Winograd's transforms and depthwise rows execute on 64-bit ARM, beside those of x86 with AVX2.

Runs tools/neon_executed.cpp under qemu-aarch64, which logs every instruction, and under valgrind's callgrind, and prints the
difference of two runs that differ in their channels, per vector (of 4 and of 8 floats): instructions, and for ARM the fewest cycles in
which the pipes of Cortex-A76 and Neoverse N1 can take them (four instructions, two vector operations, stores of vectors among
them, and two loads or stores a cycle). Needs g++, g++-aarch64-linux-gnu, qemu-user, valgrind and Debian's libxsimd-dev.
"""

import collections
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A name in the program, arguments of the smaller and the larger run, and vectors by which they differ.
TILES = {2: 144, 4: 36, 6: 16}
CASES = [
    case
    for m, tiles in TILES.items()
    for case in (
        (f"transform_input<{m}>", f"winograd {m} 2 2 kept", f"winograd {m} 6 2 kept", 4 * tiles),
        (f"transform_output<{m}>", f"winograd {m} 2 2 kept", f"winograd {m} 2 6 kept", 4 * tiles),
        (f"transform_weights<{m}>", f"winograd {m} 2 2 used", f"winograd {m} 6 2 used", None),
    )
] + [
    (f"slide<{taps}, {stride}", f"depthwise {taps} {stride} 8", f"depthwise {taps} {stride} 16", 8 * (28 // stride) ** 2)
    for taps in (3, 5)
    for stride in (1, 2)
]


def instructions(program):
    """Address: function, operation, operands."""
    out, function = {}, ""
    listing = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "-C", "--no-show-raw-insn", program], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        if head := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            function = head[1]
        elif code := re.match(r"^ +([0-9a-f]+):\s+(\S+)\s*(.*)$", line):
            out[int(code[1], 16)] = function, code[2], code[3]
    return out


def arm_counts(program, known, arguments, log):
    """What every function executed: instructions, operations of the vector pipes, loads and stores."""
    subprocess.run(["qemu-aarch64", "-singlestep", "-d", "nochain,exec", "-D", log, program, *arguments.split()], check=True)
    out = collections.defaultdict(collections.Counter)
    with open(log) as lines:
        for line in lines:
            if not (at := re.search(r"/([0-9a-f]{16})/", line)) or int(at[1], 16) not in known:
                continue
            function, op, operands = known[int(at[1], 16)]
            counts, whole = out[function], operands.startswith("q")
            memory = op.startswith(("ld", "st", "prfm"))
            counts["all"] += 1
            counts["memory"] += memory * (2 if op.endswith("p") and whole else 1)
            counts["vector"] += not memory and bool(re.search(r"\bv\d+\.", operands) or op.startswith("f"))
            counts["vector"] += (op.startswith("st") and whole) * (2 if op == "stp" else 1)
    return out


def x86_counts(program, arguments, log):
    subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={log}", program, *arguments.split()], check=True, capture_output=True)
    text = subprocess.run(["callgrind_annotate", "--threshold=100", log], capture_output=True, text=True, check=True).stdout
    return [(int(m[1].replace(",", "")), m[2]) for m in re.finditer(r"^\s*([\d,]+) \([^)]*\)\s+(.*)$", text, re.M)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        arm, x86, log = f"{folder}/arm", f"{folder}/x86", f"{folder}/log"
        common = ["-std=c++20", "-O3", "-DNDEBUG", f"-I{ROOT / 'include'}"]
        subprocess.run(["aarch64-linux-gnu-g++", *common, "-static", ROOT / "tools/neon_executed.cpp", "-o", arm], check=True)
        subprocess.run(["g++", *common, "-march=x86-64-v3", ROOT / "tools/neon_executed.cpp", "-o", x86], check=True)
        known = instructions(arm)
        print("| | NEON: instructions | vector | memory | cycles at least | AVX2: instructions |\n| --- | --: | --: | --: | --: | --: |")
        for name, small, large, units in CASES:
            total = collections.Counter()
            for sign, arguments in ((-1, small), (1, large)):
                for function, counts in arm_counts(arm, known, arguments, log).items():
                    if name in function:
                        for kind, count in counts.items():
                            total[kind] += sign * count
            ours = sum(s * n for s, a in ((-1, small), (1, large)) for n, f in x86_counts(x86, a, log) if name in f)
            # Four vectors more of channels, each of 4 or 8 of them, for the two vectors of filters.
            arm_units, x86_units = (units, units) if units else (4 * 4 * 2, 4 * 8 * 2)
            kinds = [total[k] / arm_units for k in ("all", "vector", "memory")]
            cycles = max(kinds[0] / 4, kinds[1] / 2, kinds[2] / 2)
            print(f"| `{name.rstrip('>')}>` | {kinds[0]:.0f} | {kinds[1]:.0f} | {kinds[2]:.0f} | {cycles:.0f} | {ours / x86_units:.0f} |", flush=True)


if __name__ == "__main__":
    main()
