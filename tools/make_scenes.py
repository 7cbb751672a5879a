#!/usr/bin/env python3
"""Composes scenes of several Fashion-MNIST items on a textured background, with a class for each pixel.

    python tools/make_scenes.py --part train --count 20000 --out FOLDER/train
    python tools/make_scenes.py --part test --count 2000 --seed 1 --out FOLDER/test

Writes OUT-images-idx3-ubyte.gz and OUT-labels-idx3-ubyte.gz, both [N, 64, 64]. Labels are 0 for the background and 1 plus the
item's class elsewhere. Scene i depends on the part, the seed and i alone, so fewer scenes are the first ones of more.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np

from idx import read_idx, write_idx

SIZE = 64  # of a scene, rows and columns
CLASSES = 11  # the background, then the ten of Fashion-MNIST
ITEMS = (3, 6)  # fewest and most of a scene
SCALE = (0.75, 1.25)
DISTANCE = 17.0  # between the centres of two items, at least
MASK = 16  # an item's pixels above it are the item


@cache
def interpolation(to: int, of: int) -> np.ndarray:
    """The matrix [to, of] of linear interpolation between ``of`` samples at the centres of equal cells."""
    at = np.clip((np.arange(to) + 0.5) * of / to - 0.5, 0, of - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(of))).astype(np.float32)


def resize(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return interpolation(rows, image.shape[0]) @ image @ interpolation(columns, image.shape[1]).T


def background(rng: np.random.Generator) -> np.ndarray:
    """A level, a gradient, value noise of two sizes, perhaps stripes, and grain: float [SIZE, SIZE]."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE - 0.5
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 60)
    out = rng.uniform(40, 150) + slope * (np.cos(angle) * x + np.sin(angle) * y)
    for cells, strength in ((4, rng.uniform(10, 45)), (12, rng.uniform(5, 25))):
        out += strength * resize(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), SIZE, SIZE)
    if rng.random() < 0.5:
        angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(3, 14), rng.uniform(0, 2 * np.pi)
        direction = np.cos(angle) * x + np.sin(angle) * y
        out += rng.uniform(5, 30) * np.sin(2 * np.pi * waves * direction + phase)
    return out + rng.normal(0, 3, out.shape)


def scene(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Grey values and classes, uint8 [SIZE, SIZE]. Later items cover earlier ones; parts outside are cut off."""
    grey, classes = background(rng), np.zeros((SIZE, SIZE), np.uint8)
    centres: list[np.ndarray] = []
    for _ in range(rng.integers(ITEMS[0], ITEMS[1] + 1)):
        for _ in range(20):
            centre = rng.uniform(10, SIZE - 10, 2)
            if all(np.hypot(*(centre - c)) >= DISTANCE for c in centres):
                break
        else:
            continue  # no room for this one
        centres.append(centre)
        index, extent = rng.integers(len(images)), round(28 * rng.uniform(*SCALE))
        item = resize(images[index].astype(np.float32), extent, extent)
        if rng.random() < 0.5:
            item = item[:, ::-1]
        top, left = np.round(centre - extent / 2).astype(int)
        rows = slice(max(top, 0), min(top + extent, SIZE))
        columns = slice(max(left, 0), min(left + extent, SIZE))
        item = item[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mask = item > MASK
        grey[rows, columns][mask] = item[mask]
        classes[rows, columns][mask] = labels[index] + 1
    return np.clip(np.round(grey), 0, 255).astype(np.uint8), classes


def scenes(images: np.ndarray, labels: np.ndarray, count: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """``count`` scenes and their classes, uint8 [count, SIZE, SIZE]."""
    made = [scene(images, labels, np.random.default_rng([*seed, i])) for i in range(count)]
    return np.stack([grey for grey, _ in made]), np.stack([classes for _, classes in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist", help="gzipped IDX files")
    parser.add_argument("--part", choices=("train", "test"), required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="stem of the written files")
    args = parser.parse_args()
    prefix = {"train": "train", "test": "t10k"}[args.part]
    images = read_idx(args.data / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(args.data / f"{prefix}-labels-idx1-ubyte.gz")
    grey, classes = scenes(images, labels, args.count, [args.seed, ("train", "test").index(args.part)])
    for name, values in (("images", grey), ("labels", classes)):
        write_idx(args.out.with_name(f"{args.out.name}-{name}-idx3-ubyte.gz"), values)


if __name__ == "__main__":
    main()
