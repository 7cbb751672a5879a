#!/usr/bin/env python3
"""Segments scenes with a network file, in double precision, and reports the IoU of each class.

    python tools/segment_scenes.py examples/data/segment_dna.safetensors examples/data/scenes100

Writes the class of each pixel as SCENES-NAME-idx3-ubyte.gz, NAME being the network's: what examples/segment compares with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from idx import write_idx
from kdna_torch.interpret import Network
from train_segment import confusion_of, intersection_over_union, normalise, read_scenes


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("scenes", type=Path, help="stem of SCENES-{images,labels}-idx3-ubyte.gz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network, (images, labels) = Network(args.network), read_scenes(args.scenes)
    parts = [next(iter(network([normalise(x).double()]).values())).argmax(1) for x in images.split(50)]
    found = torch.cat(parts)
    counts = confusion_of(labels, found)
    iou = intersection_over_union(counts)
    write_idx(
        args.scenes.with_name(f"{args.scenes.name}-{args.network.stem}-idx3-ubyte.gz"), found.to(torch.uint8).numpy()
    )
    print(f"mean IoU {iou.mean():.3f} % on {len(labels)} scenes; by class", *(f"{v:.2f}" for v in iou.tolist()))


if __name__ == "__main__":
    main()
