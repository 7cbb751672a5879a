"""Reading checkpoints and putting random weights into networks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A file that is not the checkpoint it should be."""


def read_checkpoint(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The state_dict in a .pt/.pth file: bare or under ``state_dict``, keys with or without leading ``module.``.

    Only tensors and plain containers are read unless ``allow_pickle`` is set.
    """
    def load(weights_only: bool) -> Any:
        try:
            return torch.load(path, map_location="cpu", weights_only=weights_only)
        except Exception as error:  # the unpicklers raise nearly anything on a file that is not theirs
            reason = (str(error).splitlines() or [""])[0]
            raise CheckpointError(f"{path}: cannot be read: {type(error).__name__}: {reason}") from error

    try:
        loaded = load(weights_only=True)
    except CheckpointError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        if not allow_pickle:
            raise CheckpointError(
                f"{path}: not a checkpoint, or one that holds more than tensors and plain containers; "
                "if the file is trusted, pass --allow-pickle"
            ) from error
        loaded = load(weights_only=False)
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path}: no state_dict found")
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: entry {key!r} is not a tensor under a string key")
        name = key.removeprefix("module.")
        if name in state:
            raise CheckpointError(f"{path}: {name} occurs twice, with and without 'module.'")
        state[name] = value.detach()
    return state


def check_layout(state: Mapping[str, Tensor], net: nn.Module) -> None:
    """Raises CheckpointError unless keys, shapes and dtypes are exactly those of the network."""
    expected = net.state_dict()
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in expected]
    for key, want in expected.items():
        have = state.get(key)
        if have is not None and (have.shape != want.shape or have.dtype != want.dtype):
            problems.append(
                f"{key}: {tuple(have.shape)} {have.dtype}, expected {tuple(want.shape)} {want.dtype}"
            )
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(f"not the state_dict of this network:\n  {shown}{more}")


@torch.no_grad()
def randomise(module: nn.Module, seed: int, gain: float = 1.4) -> None:
    """Deterministic weights that keep activations O(1) and everything far from identity.

    Convolutions and linear layers: normal, variance gain / fan_in; adapters a_sp, a_f: normal, std 0.25; gate
    biases: normal; batch norms: weight in [0.5, 1.5], var in [0.5, 2], bias and mean normal, std 0.2.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(t: Tensor, std: float) -> None:
        t.copy_(torch.randn(t.shape, generator=rng) * std)

    def uniform(t: Tensor, low: float, high: float) -> None:
        t.copy_(torch.rand(t.shape, generator=rng) * (high - low) + low)

    for name, t in module.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        is_norm = isinstance(module.get_submodule(owner), nn.BatchNorm2d)
        if not t.is_floating_point():
            t.fill_(1)
        elif "static_" in leaf:
            normal(t, 0.25)
        elif leaf == "running_var":
            uniform(t, 0.5, 2.0)
        elif is_norm and leaf == "weight":
            uniform(t, 0.5, 1.5)
        elif is_norm:  # bias, running_mean
            normal(t, 0.2)
        elif leaf == "bias":
            normal(t, 1.0 if ".se." in f".{owner}." else 0.2)
        else:
            spatial = t.shape[-1] * t.shape[-2] if t.ndim >= 4 else 1
            fan_in = t.shape[-3] * spatial if t.ndim >= 4 else t.shape[-1]
            normal(t, (gain / fan_in) ** 0.5)
