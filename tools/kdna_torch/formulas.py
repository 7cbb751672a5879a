"""Methods without public code for a CPU, straight from their formulas: NumPy, double precision, loops; no PyTorch.

These are second opinions on the modules of ``kernels.py``, ``position.py``, ``fdconv.py``, ``dymn.py`` and ``modulated.py``.
Maps are [B, C, H, W].
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


def sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


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


def dymn(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """W = sum_i a_i W_i, sample by sample, a_i = e^(l_i / T) / sum_j e^(l_j / T), l = residuals of the context."""
    samples = []
    for sample, context in zip(x, tensors["context"]):
        logits = tensors["residuals.0.weight"] @ context + tensors["residuals.0.bias"]
        parts = np.exp(logits / case.get("temperature", 1.0))
        route = parts / parts.sum()
        kernel = sum(a * w for a, w in zip(route, tensors["weight"]))
        y = correlate(
            sample[None], kernel, case["stride"], case["padding"], case.get("dilation", 1), case.get("groups", 1)
        )
        samples.append(y + (route @ tensors["bias"])[:, None, None] if "bias" in tensors else y)
    return np.concatenate(samples)


def modulated(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """StyleGAN2's equations 1 and 3 for every filter of every sample, then the convolution with that kernel."""
    samples = []
    for sample, context in zip(x, tensors["context"]):
        style = context
        if "affine.weight" in tensors:
            style = tensors["affine.weight"] @ context + tensors["affine.bias"]
        kernel = np.empty_like(tensors["weight"])
        for o, filters in enumerate(tensors["weight"]):
            kernel[o] = style[:, None, None] * filters
            if case.get("demodulate", 1):
                kernel[o] /= np.sqrt((kernel[o] ** 2).sum() + case.get("eps", 1e-8))
        samples.append(correlate(sample[None], kernel, case["stride"], case["padding"]))
    y = np.concatenate(samples)
    return y + tensors["bias"][:, None, None] if "bias" in tensors else y


def dymn_block(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """DyMN's inverted residual block, its context, DyReLU-B and coordinate attention, element by element."""
    stride = case["stride"]

    def normalised(y: Array, name: str) -> Array:
        return normed(tensors, name, y, 1e-3)

    def hard_swish(v: Array) -> Array:
        return v * np.clip(v + 3, 0, 6) / 6

    def dynamic(name: str, y: Array, context: Array, **geometry: int) -> Array:
        own = {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}.")}
        k = case["kernel"] if name == "depth_conv" else 1
        groups = geometry.get("groups", 1)
        own["weight"] = own["weight"].reshape(own["weight"].shape[2], -1, y.shape[1] // groups, k, k)
        layer = {"stride": 1, "padding": k // 2} | geometry
        return dymn(layer, own | {"context": context}, y)

    samples = []
    for s in x:
        rows = np.concatenate([s.mean(2), s.mean(1)], 1)  # [C, F + T]
        z = tensors["context_gen.joint_conv.weight"][:, :, 0, 0] @ rows
        z = hard_swish(normalised(z[:, :, None], "context_gen.joint_norm")[:, :, 0])
        context, heads = z.mean(1), []
        for part, head in ((z[:, : s.shape[1]], "conv_f"), (z[:, s.shape[1] :], "conv_t")):
            if stride > 1:
                padded = np.pad(part, [(0, 0), (1, 1)])
                starts = range(0, part.shape[1], stride)
                part = np.stack([padded[:, i : i + 3].sum(1) / 3 for i in starts], 1)
            weight = tensors[f"context_gen.{head}.weight"][:, :, 0, 0]
            heads.append(sigmoid(weight @ part + tensors[f"context_gen.{head}.bias"][:, None]))
        y = hard_swish(normalised(dynamic("exp_conv", s[None], context[None]), "exp_norm"))
        y = dynamic("depth_conv", y, context[None], stride=stride, groups=y.shape[1])
        y = normalised(y, "depth_norm")[0]
        theta = tensors["depth_act.coef_net.0.weight"] @ context + tensors["depth_act.coef_net.0.bias"]
        for c, (a1, a2, b1, b2) in enumerate(2 * sigmoid(theta.reshape(-1, 4)) - 1):
            y[c] = np.maximum((1 + a1) * y[c] + b1 / 2, a2 * y[c] + b2 / 2)
        y = y * heads[0][:, :, None] * heads[1][:, None, :]
        y = normalised(dynamic("proj_conv", y[None], context[None]), "proj_norm")
        samples.append(y + s if stride == 1 and y.shape[1] == len(s) else y)
    return np.concatenate(samples)


def normed(tensors: Mapping[str, Array], name: str, x: Array, eps: float = 1e-5) -> Array:
    """Batch norm ``name`` at inference."""
    weight, bias, mean, var = (tensors[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
    return (x - mean[:, None, None]) * (weight / np.sqrt(var + eps))[:, None, None] + bias[:, None, None]


def lsconv(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """y = bn(sum_t w[c % G, t](p) x[c](p + t)) + x; w from 1x1, depthwise and two 1x1 convolutions, and a group norm."""

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


def low_frequencies(x: Array, band: int) -> Array:
    """Of every map [H, W] the frequencies below 1 / (2 band), summed wave by wave.

    Row and column of the spectrum are kept where the nearest of 64 x 33 frequencies is, in float32 as the mask is made.
    The half spectrum's first column, and the last of an even width, count by their real part; the others twice.
    """
    height, width = x.shape[-2:]
    y, rows, columns = np.zeros_like(x), np.arange(height), np.arange(width)

    def kept(extent: int, table: Array) -> list[int]:
        scale = np.float32(len(table)) / np.float32(extent)
        nearest = [min(int(np.floor(np.float32(i) * scale)), len(table) - 1) for i in range(extent)]
        return [i for i, j in enumerate(nearest) if np.float32(abs(table[j])) < np.float32(0.5 / band + 1e-8)]

    for p in kept(height, np.fft.fftfreq(64)):
        for f in kept(width // 2 + 1, np.fft.rfftfreq(64)):
            wave = np.exp(2j * np.pi * (p * rows[:, None] / height + f * columns / width))
            amplitude = (x * wave.conj()).sum((-2, -1), keepdims=True) / (height * width)
            y += (amplitude * wave).real * (1 if f == 0 or 2 * f == width else 2)
    return y


def fdconv(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """y = a_f conv(bands(x), (sum_i a_w[i] W_i) a_c a_s local); all a from the means of x, sample by sample."""
    part = "KSM_Global."
    n, o, c, k, _ = tensors["weight"].shape
    samples = []
    for sample in x:
        p = sample.mean((1, 2))
        v = tensors[f"{part}fc.weight"][:, :, 0, 0] @ p
        v = normed(tensors, f"{part}bn", v[:, None, None])[:, 0, 0]
        z = tensors[f"{part}relu.scale"] * np.maximum(v, 0) ** 2 + tensors[f"{part}relu.bias"]

        def head(name: str, count: int) -> Array:
            if f"{part}{name}.weight" not in tensors:
                return np.ones(count)
            return 2 * sigmoid(tensors[f"{part}{name}.weight"][:, :, 0, 0] @ z + tensors[f"{part}{name}.bias"])

        mixture = head("kernel_fc", n) / (n if n > 1 else 1)
        kernel = sum(a * w for a, w in zip(mixture, tensors["weight"]))
        kernel = kernel * head("channel_fc", c)[:, None, None] * head("spatial_fc", k * k).reshape(k, k)
        if "KSM_Local.conv.weight" in tensors:
            u = (p - p.mean()) / np.sqrt(p.var() + 1e-5) * tensors["KSM_Local.norm.weight"]
            u = u + tensors["KSM_Local.norm.bias"]
            rows = tensors["KSM_Local.conv.weight"][:, 0]
            u = np.pad(u, rows.shape[1] // 2)
            for channel in range(c):
                logits = rows @ u[channel : channel + rows.shape[1]]
                kernel[:, channel] *= 2 * sigmoid(logits).reshape(o, k, k)
        image = sample[None]
        if "FBM.freq_weight_conv_list.0.weight" in tensors:
            total, before = np.zeros_like(image), image
            for i, band in enumerate((2, 4, 8)):
                prefix, low = f"FBM.freq_weight_conv_list.{i}.", low_frequencies(image, band)
                maps = correlate(image, tensors[f"{prefix}weight"], 1, 1) + tensors[f"{prefix}bias"]
                total, before = total + 2 * sigmoid(maps) * (before - low), low
            image = total + before
        y = correlate(image, kernel, case["stride"], case["padding"], case.get("dilation", 1))
        samples.append(y * head("filter_fc", o)[:, None, None])
    y = np.concatenate(samples)
    return y + tensors["bias"][:, None, None] if "bias" in tensors else y


FAMILIES = {
    "acdc": acdc,
    "sparse_kernel": sparse_kernel,
    "runtime_kernel": runtime_kernel,
    "x_volution": x_volution,
    "dymn": dymn,
    "modulated": modulated,
    "lsconv": lsconv,
    "fdconv": fdconv,
}


def run(case: Mapping[str, Any], tensors: Mapping[str, Array], x: Array) -> Array:
    """The output of a case of one of these families in double precision."""
    exact = {k: t if t.dtype == np.uint8 else t.astype(np.float64) for k, t in tensors.items()}
    return FAMILIES[case["family"]](case, exact, x.astype(np.float64))
