"""Least squares: how close a parent's kernel comes to a layer's, through the factors that a child has.

A kernel W [O, C, KH, KW] is to be near f[o] * s[t] * g[c] * P, in the metric of what the layer reads: with M the second
moments of its input's patches [C * KH * KW, C * KH * KW], the mean square of the error at the output is
sum over o of (W - W')_o M (W - W')_o^T. M = identity measures in weight space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .plain import half_extents

EXACT = 1200  # rows of a system that is solved for each filter
RIDGE = 1e-3  # of the filters' mean energy
TINY = 1e-30


@dataclass
class Fit:
    """Factors over filters [O], taps [KH, KW] and channels [C], and what is left of the square, as a fraction."""

    filters: Tensor
    spatial: Tensor
    channels: Tensor
    residual: float

    def kernel(self, parent: Tensor) -> Tensor:
        return parent * self.filters.view(-1, 1, 1, 1) * self.channels.view(1, -1, 1, 1) * self.spatial


def patches(conv: nn.Conv2d, x: Tensor, limit: int, rng: torch.Generator) -> Tensor:
    """About ``limit`` random patches of a layer's input, [count, C / groups * KH * KW]; of groups, the first."""
    pad = conv.padding if isinstance(conv.padding, tuple) else half_extents(conv)
    x, each, kept = x[:, : conv.weight.shape[1]].detach().float(), -(-limit // len(x)), []
    for image in x.split(1):  # all columns of a batch would be too many
        columns = F.unfold(image, conv.kernel_size, conv.dilation, pad, conv.stride)[0].T
        if len(columns) > each:
            columns = columns[torch.randperm(len(columns), generator=rng)[:each]]
        kept.append(columns)
    return torch.cat(kept)


def moments(columns: Tensor) -> Tensor:
    """Second moments of patches about their mean: a layer's bias or batch norm takes up the mean.

    The fewer patches there are for their length, the more of the identity is added, which keeps kernels near their targets.
    """
    count, size = columns.shape
    columns = columns if columns.shape[1] > 2 * EXACT else columns.double()  # large ones in single precision
    columns = columns - columns.mean(0)
    m = columns.T @ columns / count
    m.diagonal().add_(1e-6 * max(1.0, 2 * size / count) ** 3 * m.diagonal().mean().clamp_min(TINY))
    return m


def fit_factors(
    target: Tensor, parent: Tensor, metric: Tensor | None = None, channels: bool = False, rounds: int = 8
) -> Fit:
    """The factors that bring ``parent`` closest to ``target``, by alternating least squares."""
    o, c, kh, kw = target.shape
    taps = kh * kw
    dtype = torch.float64 if metric is None else metric.dtype
    w, p = (k.detach().to(dtype).flatten(2) for k in (target, parent))  # [O, C, T]
    f, s, g = (torch.ones(n, dtype=dtype) for n in (o, taps, c))

    def measure(k: Tensor) -> Tensor:
        """k M, [O, C, T]."""
        return k if metric is None else (k.flatten(1) @ metric).view_as(k)

    reference = measure(w)
    whole = (reference * w).sum()

    def over_filters(k: Tensor) -> Tensor:
        """f; those of filters with next to no weights, which dead channels have, are held near 1 by RIDGE."""
        energy = (measure(k) * k).sum((1, 2))
        held = (RIDGE * energy.mean()).clamp_min(TINY)
        return ((reference * k).sum((1, 2)) + held) / (energy + held)

    def normal(basis: str) -> Tensor:
        """The factor over an axis, from its normal equations."""
        rest = p * f[:, None, None] * (g[None, :, None] if basis == "t" else s)
        right = (reference * rest).sum((0, 1) if basis == "t" else (0, 2))
        if metric is None:
            return right / (rest * rest).sum((0, 1) if basis == "t" else (0, 2)).clamp_min(TINY)
        products = (rest.flatten(1).T @ rest.flatten(1) * metric).view(c, taps, c, taps)
        left = products.sum((0, 2)) if basis == "t" else products.sum((1, 3))
        return torch.linalg.lstsq(
            left + 1e-9 * left.diagonal().mean() * torch.eye(len(left), dtype=dtype), right[:, None]
        ).solution[:, 0]

    for _ in range(rounds):
        k = p * s * g[None, :, None]
        f = over_filters(k)
        if taps > 1:
            s = normal("t")
            f, s = f * s.mean(), s / s.mean() if s.mean().abs() > 1e-6 else s
        if channels and c > 1:
            g = normal("c").clamp_min(0)  # a gate is positive
            g = (g / g.mean().clamp_min(TINY)).clamp_min(0.05)
    k = p * s * g[None, :, None]
    f = over_filters(k)
    error = w - k * f[:, None, None]
    residual = ((measure(error) * error).sum() / whole.clamp_min(TINY)).item()
    return Fit(f.float(), s.view(kh, kw).float(), g.float(), residual)


def fit_parent(
    targets: list[Tensor], fits: list[Fit | None], metrics: list[Tensor], scales: list[float], exact: bool
) -> Tensor:
    """The parent kernel that is closest to what all its users compute, with their factors held (None: the parent itself).

    ``scales`` are the mean squares of the users' outputs: each user's error counts relative to its own. Unless ``exact``,
    factors over filters must be one: then all filters have the same system of equations.
    """
    o, c, kh, kw = targets[0].shape
    size = c * kh * kw
    lefts, rights, strengths = [], [], []
    for target, fit, metric, scale in zip(targets, fits, metrics, scales):
        d, f = torch.ones(size, dtype=metric.dtype), torch.ones(o, dtype=metric.dtype)
        if fit is not None:
            d = (fit.channels.to(d)[:, None] * fit.spatial.to(d).flatten()).flatten()
            f = fit.filters.to(d)
        lefts.append(metric * d[:, None] * d / scale)
        rights.append((target.detach().to(d).flatten(1) @ metric) * d * f[:, None] / scale)
        strengths.append(f.square())
    right = sum(rights)
    if not exact:
        return torch.linalg.solve(sum(lefts), right.T).T.view(o, c, kh, kw).float()
    kernel = torch.empty(o, size, dtype=right.dtype)
    for at in range(o):
        kernel[at] = torch.linalg.solve(sum(m * n[at] for m, n in zip(lefts, strengths)), right[at])
    return kernel.view(o, c, kh, kw).float()


def square(kernel: Tensor, metric: Tensor) -> Tensor:
    """The mean square of what a kernel computes, summed over the filters."""
    w = kernel.detach().to(metric).flatten(1)
    return ((w @ metric) * w).sum()


def left_over(target: Tensor, kernel: Tensor, metric: Tensor) -> float:
    """The square of the error at the output, as a fraction of the square of the output."""
    error = target.detach().to(metric) - kernel.detach().to(metric)
    return (square(error, metric) / square(target, metric).clamp_min(TINY)).item()


def fit_group(
    targets: list[Tensor], metrics: list[Tensor], channels: bool, rounds: int = 6
) -> tuple[Tensor, list[Fit], list[float]]:
    """A parent's kernel, the factors of its children, and what is left of each user's output.

    The first target is the parent's, which has no factors; the others are the children's.
    """
    scales = [max(square(t, m).item(), TINY) for t, m in zip(targets, metrics)]
    exact, parent = targets[0][0].numel() <= EXACT, targets[0].detach()
    rounds, inner = (rounds, 8) if exact else (2, 2)

    def fit_children() -> list[Fit]:
        return [fit_factors(t, parent, m, channels, inner) for t, m in zip(targets[1:], metrics[1:])]

    fits = fit_children()
    for _ in range(rounds):
        held = [None, *(fit if exact else replace(fit, filters=torch.ones_like(fit.filters)) for fit in fits)]
        parent = fit_parent(targets, held, metrics, scales, exact)
        fits = fit_children()
    left = [left_over(targets[0], parent, metrics[0])]
    left += [left_over(t, fit.kernel(parent), m) for t, fit, m in zip(targets[1:], fits, metrics[1:])]
    return parent, fits, left
