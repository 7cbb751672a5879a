"""Images for mapping and training: arrays in .npy or .npz files, or folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


class DataError(ValueError):
    """The data cannot be used; the message names the file."""


@dataclass
class Images:
    """Images of one size [N, C, H, W], or pictures [C, H, W] of any size, of which squares of ``size`` are cut.

    Bytes become numbers from 0 to 1; ``mean`` is subtracted, and the result divided by ``std``.
    """

    items: Tensor | list[Tensor]
    labels: Tensor | None
    size: int
    mean: Tensor
    std: Tensor
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def finish(self, x: Tensor) -> Tensor:
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        return (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def part(self, indices: list[int]) -> Images:
        items = [self.items[i] for i in indices] if isinstance(self.items, list) else self.items[indices]
        labels = None if self.labels is None else self.labels[indices]
        return Images(items, labels, self.size, self.mean, self.std, self.names and [self.names[i] for i in indices])

    def draw(self, indices: Tensor, rng: torch.Generator, augment: bool) -> Tensor:
        """A batch. Pictures give random squares, half of them from the picture at half its size; ``augment`` flips from left to
        right, and shifts arrays by up to a fourteenth of their size."""
        if not isinstance(self.items, list):
            x = self.items[indices]
            return self.finish(shifted(x, rng) if augment else x)
        return torch.stack([self.finish(cut(self.items[i], self.size, rng, augment)) for i in indices.tolist()])

    def random(self, count: int, rng: torch.Generator, augment: bool) -> Tensor:
        return self.draw(torch.randint(len(self), (count,), generator=rng), rng, augment)

    def whole(self, at: int, most: int = 256) -> Tensor:
        """One image for evaluation, [1, C, H, W]: of a picture the middle, at most ``most`` pixels high and wide, in eights."""
        x = self.items[at]
        if isinstance(self.items, list):
            h, w = (min(most, n) // 8 * 8 for n in x.shape[1:])
            top, left = (x.shape[1] - h) // 2, (x.shape[2] - w) // 2
            x = x[:, top : top + h, left : left + w]
        return self.finish(x)[None]


def cut(x: Tensor, size: int, rng: torch.Generator, augment: bool) -> Tensor:
    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=rng))

    step = 2 if min(x.shape[1:]) >= 2 * size and pick(2) else 1
    side = size * step
    top, left = pick(x.shape[1] - side + 1), pick(x.shape[2] - side + 1)
    x = x[:, top : top + side, left : left + side]
    if step == 2:
        x = F.avg_pool2d(x.float(), 2).round().to(x.dtype)
    return x.flip(2) if augment and pick(2) else x


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every image shifted by up to a fourteenth of its size, its edge repeated, and half of them flipped."""
    b, _, h, w = x.shape
    margin = max(1, h // 14)
    dy, dx = torch.randint(-margin, margin + 1, (2, b, 1), generator=rng)
    rows, cols = (torch.arange(h) + dy).clamp(0, h - 1), (torch.arange(w) + dx).clamp(0, w - 1)
    cols = torch.where(torch.rand(b, 1, generator=rng) < 0.5, cols.flip(1), cols)
    return x[
        torch.arange(b)[:, None, None, None],
        torch.arange(x.shape[1])[None, :, None, None],
        rows[:, None, :, None],
        cols[:, None, None, :],
    ]


def read_array(path: Path) -> tuple[Tensor, Tensor | None]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    labels = None
    if isinstance(loaded, np.lib.npyio.NpzFile):
        if "images" not in loaded:
            raise DataError(f"{path}: has no array 'images'; it has {sorted(loaded)}")
        if "labels" in loaded:
            labels = torch.from_numpy(loaded["labels"].astype(np.int64))
        loaded = loaded["images"]
    if loaded.ndim != 4 or loaded.dtype not in (np.uint8, np.float16, np.float32, np.float64):
        raise DataError(
            f"{path}: images are {loaded.dtype} {loaded.shape}; [N, C, H, W] of bytes or floats were expected"
        )
    if labels is not None and labels.shape != loaded.shape[:1]:
        raise DataError(f"{path}: {tuple(labels.shape)} labels of {len(loaded)} images")
    images = torch.from_numpy(loaded)
    return images if images.dtype == torch.uint8 else images.float(), labels


def read_images(path: Path, size: int, mean: list[float], std: list[float]) -> Images:
    """``path`` is an .npy or .npz file, or a folder of pictures, which are read in the order of their names."""
    scale = torch.tensor(mean), torch.tensor(std)
    if path.is_file():
        images, labels = read_array(path)
        return Images(images, labels, images.shape[2], *scale)
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURES) if path.is_dir() else []
    if not files:
        raise DataError(f"{path}: neither an .npy or .npz file nor a folder of pictures")
    from PIL import Image

    pictures = []
    for file in files:
        with Image.open(file) as image:
            picture = image.convert("RGB")
            if min(picture.size) < size:
                scale_up = size / min(picture.size)
                picture = picture.resize(
                    [max(size, round(n * scale_up)) for n in picture.size], Image.Resampling.BICUBIC
                )
            pictures.append(torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1))
    return Images(pictures, None, size, *scale, [f.name for f in files])


def held_out(images: Images, every: int) -> tuple[Images, Images]:
    """The images for training, and every ``every``-th one for measuring."""
    test = list(range(every - 1, len(images), every)) or [len(images) - 1]
    chosen = set(test)
    return images.part([i for i in range(len(images)) if i not in chosen]), images.part(test)
