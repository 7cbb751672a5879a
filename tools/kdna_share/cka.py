"""Similarity of layers by what they compute: linear CKA, from batches, with the unbiased estimator of HSIC.

Kornblith et al. 2019 (CKA), Song et al. 2012 (HSIC_1), Nguyen et al. 2021 (sums over batches)::

    HSIC_1(K, L) = ( tr(K' L') + (1'K'1)(1'L'1) / ((n - 1)(n - 2)) - 2 / (n - 2) * 1'K'L'1 ) / ( n (n - 3) )
    CKA = sum over batches HSIC_1(K, L) / sqrt( sum HSIC_1(K, K) * sum HSIC_1(L, L) )

K = X X^T is the Gram matrix of a batch of n images, X [n, C * H * W] a layer's output, K' is K with a diagonal of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .hooks import watching


def gram(x: Tensor) -> Tensor:
    """X X^T in double precision, [n, n], of a batch [n, ...]; columns are centred first, which HSIC_1 does not see."""
    flat = x.detach().flatten(1).float()
    flat = flat - flat.mean(0)
    return (flat @ flat.T).double()


def hsic_1(grams: Tensor) -> Tensor:
    """HSIC_1 of every pair of Gram matrices [layers, n, n] of one batch: [layers, layers]."""
    layers, n, _ = grams.shape
    if n < 4:
        raise ValueError(f"a batch of {n} images; the unbiased estimator needs four")
    k = grams.clone()
    k.diagonal(dim1=1, dim2=2).zero_()
    rows = k.sum(2)
    sums = rows.sum(1)
    trace = k.flatten(1) @ k.flatten(1).T
    return (trace + torch.outer(sums, sums) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows @ rows.T)) / (n * (n - 3))


def normalised(hsic: Tensor) -> Tensor:
    """CKA from sums of HSIC_1. A layer whose own HSIC is not positive (it computes the same for all images) has 0."""
    own = hsic.diagonal()
    scale = torch.where(own > 0, own, torch.inf).rsqrt()
    return hsic * scale[:, None] * scale[None, :]


@torch.no_grad()
def cka(net: nn.Module, layers: Sequence[nn.Module], batches: Iterable[Tensor]) -> Tensor:
    """CKA of the layers' outputs in one network, [layers, layers] in double precision."""
    total = torch.zeros(len(layers), len(layers), dtype=torch.float64)
    with watching(dict(enumerate(layers)), lambda x, y: gram(y)) as grams:
        for x in batches:
            net(x)
            total += hsic_1(torch.stack([grams[at] for at in range(len(layers))]))
    return normalised(total)
