#!/usr/bin/env python3
"""Writes the first N entries of a gzipped IDX file of unsigned bytes as another such file."""

from __future__ import annotations

import argparse
import gzip
from math import prod
from pathlib import Path


def subset(data: bytes, count: int) -> bytes:
    """The first ``count`` entries: magic (0, 0, 8, rank), rank big-endian sizes, bytes."""
    if data[:3] != b"\0\0\x08":
        raise SystemExit("not an IDX file of unsigned bytes")
    sizes = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    if not 0 < count <= sizes[0]:
        raise SystemExit(f"the file has {sizes[0]} entries")
    start = 4 + 4 * len(sizes)
    return data[:4] + count.to_bytes(4, "big") + data[8 : start + count * prod(sizes[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()
    data = subset(gzip.decompress(args.input.read_bytes()), args.count)
    args.output.write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
