#!/usr/bin/env python3
"""Writes a PyTorch checkpoint as .safetensors.

The checkpoint is a state_dict or a dict with a ``state_dict`` inside; a leading ``module.`` is dropped
from keys. A parent kernel is stored once. Exit codes: 0 written, 2 refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from kdna_torch import ARCHS, build
from kdna_torch.checkpoint import CheckpointError, check_layout, read_checkpoint


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help=".pt or .pth")
    parser.add_argument("output", type=Path, help=".safetensors")
    parser.add_argument("--arch", choices=sorted(ARCHS), help="check keys, shapes and dtypes against this network")
    parser.add_argument("--allow-pickle", action="store_true", help="read files that need full unpickling (runs code)")
    args = parser.parse_args()
    try:
        state = read_checkpoint(args.checkpoint, args.allow_pickle)
        storages = {(t.untyped_storage().data_ptr(), t.storage_offset()) for t in state.values() if t.numel()}
        if len(storages) != sum(t.numel() > 0 for t in state.values()):
            raise CheckpointError(f"{args.checkpoint}: two keys share one tensor; the file format holds each only once")
        if args.arch:
            with torch.device("meta"):
                net = build(args.arch)
            check_layout(state, net)
        ordered = {key: state[key].clone(memory_format=torch.contiguous_format) for key in sorted(state)}
        save_file(ordered, args.output)
    except (CheckpointError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    elements = sum(t.numel() for t in ordered.values())
    print(f"{args.output}: {len(ordered)} tensors, {elements} elements, {args.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
