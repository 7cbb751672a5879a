"""Methods without public code that runs on a CPU, straight from their formulas: NumPy, double precision, loops; no PyTorch.

These are second opinions on the modules of ``kernels.py`` and ``position.py``. Maps are [B, C, H, W].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray


def correlate(
    x: Array, kernel: Array, stride: int, padding: int, dilation: int = 1, groups: int = 1, mode: str = "zeros"
) -> Array:
    """One kernel [O, C/g, kh, kw] for all samples, border of zeros or of the opposite side's pixels."""
    border = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    x = np.pad(x, border, mode="wrap") if mode == "circular" else np.pad(x, border)
    o, cg, kh, kw = kernel.shape
    height = (x.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    width = (x.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((len(x), o, height, width))
    for out in range(o):
        first = out // (o // groups) * cg
        for row in range(height):
            for column in range(width):
                rows = row * stride + dilation * np.arange(kh)
                columns = column * stride + dilation * np.arange(kw)
                window = x[:, first : first + cg, rows[:, None], columns[None, :]]
                y[:, out, row, column] = (window * kernel[out]).sum((1, 2, 3))
    return y


def acdc(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """W[o, c, t] = sum_m A[o, c, m] D[m, t] in every layer of the chain."""
    for i, layer in enumerate(case["layers"]):
        kernel = np.einsum("ocm,mhw->ochw", tensors["coefficients"], tensors[f"layers.{i}.atoms"])
        x = correlate(x, kernel, layer["stride"], layer["padding"], layer.get("dilation", 1), layer.get("groups", 1))
        x = np.maximum(x, 0) if layer["act"] == "relu" else x
    return x


def sparse_kernel(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """W[o, c] = alpha[o] U[idx[o, c]]; the index is one little-endian number, tau bits to a slice."""
    stream, tau = int.from_bytes(tensors["index"].tobytes(), "little"), case["bits"]
    o, cg = len(tensors["alpha"]), x.shape[1] // case["groups"]
    kernel = np.empty((o, cg, *tensors["codebook"].shape[1:]))
    for out in range(o):
        for channel in range(cg):
            word = stream >> (out * cg + channel) * tau & (1 << tau) - 1
            kernel[out, channel] = tensors["alpha"][out] * tensors["codebook"][word]
    y = correlate(x, kernel, case["stride"], case["padding"], 1, case["groups"])
    return y + tensors["bias"][:, None, None] if "bias" in tensors else y


def runtime_kernel(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """Every sample by itself; depthwise and shared kernels channel by channel; subsampled after the convolution."""
    kernels, stride, samples = tensors["kernel"], case["stride"], []
    for b, sample in enumerate(x):
        kernel = kernels[b if len(kernels) > 1 else 0]
        maps, groups = [sample[None]], case.get("groups", 1)
        if case["kind"] != "dense":
            maps, groups = [channel[None, None] for channel in sample], 1
        outputs = []
        for c, part in enumerate(maps):
            own = kernel[c] if case["kind"] == "depthwise" else kernel
            own = own if case["kind"] == "dense" else own[None, None]
            y = correlate(part, own, 1, case["padding"], 1, groups, case["padding_mode"])
            outputs.append(y[:, :, ::stride, ::stride])
        samples.append(np.concatenate(outputs, 1))
    return np.concatenate(samples)


def x_volution(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """y(x0) = sum_i (w_q w_k w_v <x0, x_i> + W[i]) x_i + b, pixel by pixel."""
    weight, p = tensors["weight"], case["padding"]
    k, scale = weight.shape[-1], float(tensors["w_q"][0] * tensors["w_k"][0] * tensors["w_v"][0])
    x = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])
    b, c, height, width = x.shape
    y = np.zeros((b, c, height - k + 1, width - k + 1))
    for s in range(b):
        for row in range(y.shape[2]):
            for column in range(y.shape[3]):
                centre = x[s, :, row + k // 2, column + k // 2]
                total = tensors["bias"].copy()
                for i in range(k):
                    for j in range(k):
                        neighbour = x[s, :, row + i, column + j]
                        matrix = scale * (centre @ neighbour) * np.eye(c) + weight[:, :, i, j]
                        total += matrix @ neighbour
                y[s, :, row, column] = total
    return y


def normed(tensors: Mapping[str, Array], name: str, x: Array) -> Array:
    """Batch norm ``name`` at inference."""
    weight, bias, mean, var = (tensors[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
    return (x - mean[:, None, None]) * (weight / np.sqrt(var + 1e-5))[:, None, None] + bias[:, None, None]


def lsconv(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """y = bn(sum_t w[c % G, t](p) x[c](p + t)) + x; w from 1x1, depthwise, 1x1 and 1x1 convolutions and a group norm."""

    def unit(name: str, v: Array, groups: int = 1) -> Array:
        kernel = tensors[f"lkp.{name}.c.weight"]
        return normed(tensors, f"lkp.{name}.bn", correlate(v, kernel, 1, kernel.shape[-1] // 2, 1, groups))

    v = np.maximum(unit("cv1", x), 0)
    v = np.maximum(unit("cv3", unit("cv2", v, v.shape[1])), 0)
    w = correlate(v, tensors["lkp.cv4.weight"], 1, 0) + tensors["lkp.cv4.bias"][:, None, None]
    k = case["kernel"]
    (b, rows, height, width), c = w.shape, x.shape[1]
    groups = rows // k**2
    for s in range(b):
        for g in range(groups):
            part = w[s, g * k * k : (g + 1) * k * k]
            w[s, g * k * k : (g + 1) * k * k] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    w = w * tensors["lkp.norm.weight"][:, None, None] + tensors["lkp.norm.bias"][:, None, None]
    padded, y = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)]), np.zeros_like(x)
    for channel in range(c):
        for i in range(k):
            for j in range(k):
                weight = w[:, channel % groups * k * k + i * k + j]
                y[:, channel] += weight * padded[:, channel, i : i + height, j : j + width]
    return normed(tensors, "bn", y) + x


FAMILIES = {
    "acdc": acdc,
    "sparse_kernel": sparse_kernel,
    "runtime_kernel": runtime_kernel,
    "x_volution": x_volution,
    "lsconv": lsconv,
}


def run(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """The output of a case of one of these families in double precision."""
    exact = {k: t if t.dtype == np.uint8 else t.astype(np.float64) for k, t in tensors.items()}
    return FAMILIES[case["family"]](case, exact, x.astype(np.float64))
