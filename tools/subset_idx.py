#!/usr/bin/env python3
"""Writes the first N entries of a gzipped IDX file of unsigned bytes as another such file."""

from __future__ import annotations

import argparse
from pathlib import Path

from idx import read_idx, write_idx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()
    values = read_idx(args.input)
    if not 0 < args.count <= len(values):
        raise SystemExit(f"the file has {len(values)} entries")
    write_idx(args.output, values[: args.count])


if __name__ == "__main__":
    main()
