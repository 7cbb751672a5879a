#!/usr/bin/env python3
"""Counts what the main loops of the kernels take on 64-bit ARM, without such a machine.

Compiles tools/neon_cycles.cpp for aarch64, cuts the innermost loops with multiply-adds out of the assembly and counts what a turn
asks of the pipes of Cortex-A76 and Neoverse N1: four instructions a cycle, two vector pipes, two load and store pipes. The largest
of the three quotients is the fewest cycles a turn can take; half a cycle a vector multiply-add is the best. That is a bound, not a
time: latencies and caches are left out. --mca adds llvm-mca's figure, which LLVM 14 computes for both cores with the model of
Cortex-A57, with half as many multiply-adds a cycle.
"""
import argparse
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILERS = {
    "g++": ["aarch64-linux-gnu-g++"],
    "clang++": ["clang++", "--target=aarch64-linux-gnu"],
}


def assembly(command, source, headers, folder):
    out = Path(folder) / "loops.s"
    subprocess.run([*command, "-std=c++20", "-O3", "-DNDEBUG", f"-I{ROOT / 'include'}", "-isystem", str(headers), "-S", "-o", str(out),
                    str(source)], check=True)
    return out.read_text().splitlines()


def functions(lines):
    name, body = None, []
    for line in lines:
        start = re.match(r"(_Z\w+):", line)
        if start:
            name, body = start[1], []
        elif name and re.match(r"\s+\.size\s", line):
            yield name, body
            name = None
        elif name:
            body.append(line)


def innermost_loops(body):
    labels = {m[1]: i for i, line in enumerate(body) if (m := re.match(r"(\.L\w+):", line))}
    spans = []
    for i, line in enumerate(body):
        branch = re.match(r"\s+(?:b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)", line)
        if branch and labels.get(branch[1], i) < i:
            spans.append((labels[branch[1]], i + 1))
    for a, b in spans:
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans):
            code = [x.split("//")[0] for x in body[a:b] if re.match(r"\s+[a-z]", x)]
            if any(re.match(r"\s+fmla\s", x) for x in code):
                yield code


def is_vector(register):
    return re.match(r"[vqds]\d", register) is not None


def pipes(code):
    """(vector, load and store) operations of a turn."""
    vector = memory = 0
    for line in code:
        name, *operands = re.split(r"[\s,{]+", line.strip())
        if name.startswith(("ld", "st")) and operands:
            pair = name[2] == "p"
            memory += 2 if pair else 1
            # A vector is stored through a vector pipe as well, and ld1r's copies are made in one.
            if is_vector(operands[0]) and name.startswith("st"):
                vector += 2 if pair else 1
            elif name == "ld1r":
                vector += 1
        elif name == "prfm":
            memory += 1
        elif operands and is_vector(operands[0]):
            vector += 1
    return vector, memory


def bound(code):
    vector, memory = pipes(code)
    return max(len(code) / 4, vector / 2, memory / 2)


def mca_cycles(code):
    text = subprocess.run(["llvm-mca-14", "-mtriple=aarch64-linux-gnu", "-mcpu=neoverse-n1", "-iterations=200"],
                          input="\n".join(code) + "\n", text=True, capture_output=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", text)[1]) / 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=ROOT / "tools/neon_cycles.cpp")
    parser.add_argument("--headers", type=Path, default=Path("/usr/include"), help="folder of xsimd (%(default)s)")
    parser.add_argument("--mca", action="store_true", help="add llvm-mca's cycles")
    args = parser.parse_args()
    print("| compiler | function | instructions | multiply-adds | vector | memory | stack | cycles each |" + (" llvm-mca |" if args.mca else ""))
    print("|---|---|--:|--:|--:|--:|--:|--:|" + ("--:|" if args.mca else ""))
    with tempfile.TemporaryDirectory() as folder:
        headers = Path(folder) / "include"
        headers.mkdir()
        (headers / "xsimd").symlink_to(args.headers / "xsimd")
        for compiler, command in COMPILERS.items():
            for name, body in functions(assembly(command, args.source, headers, folder)):
                short = subprocess.run(["c++filt", name], text=True, capture_output=True, check=True).stdout
                short = re.sub(r"^void |\(.*|kdna::v\w+::|conv::", "", short.strip())
                for code in innermost_loops(body):
                    adds = sum(bool(re.match(r"\s+fmla\s", x)) for x in code)
                    vector, memory = pipes(code)
                    stack = sum("[sp" in x for x in code)
                    mca = f" {mca_cycles(code) / adds:.2f} |" if args.mca else ""
                    print(f"| {compiler} | `{short}` | {len(code)} | {adds} | {vector} | {memory} | {stack} | "
                          f"{bound(code) / adds:.2f} |{mca}")


if __name__ == "__main__":
    main()
