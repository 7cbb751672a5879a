#!/usr/bin/env python3
"""Random weights of a network, an input and its logits: data against which another implementation is checked.

Writes W.safetensors (float32), X.npy (float32 NCHW) and Y.npy (float32 logits, computed in double precision in eval
mode). The same arguments give the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from kdna_torch import ARCHS, build
from kdna_torch.checkpoint import randomise
from kdna_torch.dynamic_networks import DYNAMIC_ARCHS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=sorted(ARCHS), required=True)
    parser.add_argument("--size", default="224x224", help="HxW of the input")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, required=True, help="written, or read with --keep-weights")
    parser.add_argument("--keep-weights", action="store_true", help="read the weights instead of making them")
    parser.add_argument("--input", type=Path, required=True, help=".npy to write")
    parser.add_argument("--output", type=Path, required=True, help=".npy to write")
    args = parser.parse_args()

    height, width = map(int, args.size.split("x"))
    channels = 1 if "fashion" in args.arch else 3
    rng = torch.Generator().manual_seed(args.seed + 1)
    x = torch.randn(args.batch, channels, height, width, generator=rng)
    x *= torch.linspace(0.5, 1.5, args.batch).view(-1, 1, 1, 1)  # samples differ, so do their gates

    net = build(args.arch)
    if args.keep_weights:
        net.load_state_dict(load_file(args.weights))
    else:
        sample = x if args.arch in DYNAMIC_ARCHS else None
        randomise(net, args.seed, gain=2.0 if "mobilenet" in args.arch else 1.4, sample=sample)
        save_file(dict(sorted(net.state_dict().items())), args.weights)

    with torch.no_grad():
        y = net.double().eval()(x.double())
    np.save(args.input, x.numpy())
    np.save(args.output, y.float().numpy())
    print(f"{args.arch} {tuple(x.shape)} -> {tuple(y.shape)}: std {y.std():.3g}, largest {y.abs().max():.3g}")


if __name__ == "__main__":
    main()
