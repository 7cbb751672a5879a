"""IDX files of unsigned bytes, gzipped: what Fashion-MNIST and the scenes of ``make_scenes.py`` are kept in."""

from __future__ import annotations

import gzip
from math import prod
from pathlib import Path

import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """The file's array of uint8: magic (0, 0, 8, rank), rank big-endian extents, bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">i4", data[3], 4).tolist()
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != prod(shape):
        raise ValueError(f"{path}: {prod(shape)} values by its header, {values.size} in the file")
    return values.reshape(shape).copy()


def write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an array of uint8. Equal arrays give equal files."""
    if values.dtype != np.uint8:
        raise ValueError(f"{path}: an array of {values.dtype}, not of uint8")
    header = bytes((0, 0, 8, values.ndim)) + np.asarray(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes(), 9, mtime=0))
