"""Reading checkpoints and putting random weights into networks."""

from __future__ import annotations

import argparse
import contextlib
import pickle
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .dynamic import DCDBranch, DyConv2d, ODConv2d
from .warehouse import KWConv2d, KWManager


class CheckpointError(ValueError):
    """A file that is not the checkpoint it should be."""


# Where a state_dict lies in what training code saves, the first that is there; averaged weights only where they are alone.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema")
PREFIXES = ("_orig_mod.", "module.", "model.")  # of torch.compile, of DataParallel, of a class that holds the network


@contextlib.contextmanager
def harmless_globals() -> Iterator[None]:
    """Lets the restricted unpickler read the argparse.Namespace that many checkpoints hold; it holds attributes only."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    with safe_globals([argparse.Namespace]) if safe_globals else contextlib.nullcontext():
        yield


def unwrap(loaded: Any) -> Any:
    """The state_dict in what a file held, under the keys of ``WRAPPERS``, however deep."""
    while True:
        if isinstance(loaded, nn.Module):
            return loaded.state_dict()
        inner = None
        if isinstance(loaded, Mapping):
            found = (loaded.get(key) for key in WRAPPERS)
            inner = next((item for item in found if isinstance(item, Mapping | nn.Module)), None)
        if inner is None:
            return loaded
        loaded = inner


def strip_prefixes(state: dict[str, Tensor], expected: Collection[str] | None = None) -> dict[str, Tensor]:
    """Drops ``PREFIXES`` that every key has, but none when the keys are the expected ones."""
    while state and (expected is None or set(state) != set(expected)):
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def read_checkpoint(
    path: Path, allow_pickle: bool = False, expected: Collection[str] | None = None
) -> dict[str, Tensor]:
    """The state_dict in a .pt/.pth file: bare, or under a key of ``WRAPPERS``; without ``PREFIXES``.

    Only tensors, plain containers and argparse.Namespace are read unless ``allow_pickle`` is set. ``expected`` are the keys
    of the network that it is for, if known.
    """
    def load(weights_only: bool) -> Any:
        try:
            with harmless_globals():
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
    loaded = unwrap(loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path}: no state_dict found")
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: entry {key!r} is not a tensor under a string key")
        state[key] = value.detach()
    return strip_prefixes(state, expected)


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


def variance_factors(module: nn.Module) -> dict[str, float]:
    """Weights whose variance has to differ from gain / fan_in to keep activations O(1), and by what factor.

    The kernels of dynamic convolutions make up for what the attentions take away: a sigmoid 0.3, a softmax mixture
    0.45, a mixture of n cells 1.6 / n in the mean. Attention heads get less weight the more of them follow each other,
    as each adds to the relative error of the activations; their biases keep them far from identity.
    """
    factors: dict[str, float] = {}
    attentions = sum(isinstance(m, ODConv2d | DyConv2d | KWConv2d) for m in module.modules())
    head = min(1, 6 / max(attentions, 1))
    for owner, m in module.named_modules():
        prefix = f"{owner}." if owner else ""
        if isinstance(m, ODConv2d):
            heads = [m.attention.channel_fc, m.attention.filter_fc, m.attention.spatial_fc]
            mixed = m.attention.kernel_fc is not None
            factors[f"{prefix}weight"] = 0.3 ** -sum(h is not None for h in heads) / (0.45 if mixed else 1)
            factors |= {f"{prefix}attention.{name}_fc.weight": head for name in ("channel", "filter", "spatial")}
            factors[f"{prefix}attention.kernel_fc.weight"] = 2 * head
        elif isinstance(m, DyConv2d):
            factors[f"{prefix}weight"] = 1 / 0.45
            factors[f"{prefix}attention.fc2.weight"] = head
        elif isinstance(m, DCDBranch):
            factors[f"{prefix}fc_phi.weight"] = 1 / m.bn2.num_features
        elif isinstance(m, KWConv2d):
            factors[f"{prefix}attention.fc2.weight"] = head
        elif isinstance(m, KWManager):
            for i, (cells, users) in enumerate(zip(m.weights, m.names.values())):
                fan_in = sum(conv.shape[1] * conv.shape[2] ** 2 for conv in users) / len(users)
                factors[f"{prefix}weights.{i}"] = len(cells) / 1.6 * cells[0, 0].numel() / fan_in
    return factors


@torch.no_grad()
def randomise(module: nn.Module, seed: int, gain: float = 1.4, sample: Tensor | None = None) -> None:
    """Deterministic weights that keep activations O(1) and everything far from identity.

    Dynamic layers multiply activations by functions of activations, so deep networks of them stay O(1) only if the
    batch norms fit the data: with ``sample`` (an input) their statistics are set by ``settle``.

    Convolutions and linear layers: normal, variance gain / fan_in (times ``variance_factors``); adapters a_sp, a_f:
    normal, std 0.25; biases of gates and attentions: normal; batch norms: weight in [0.5, 1.5], var in [0.5, 2], bias
    and mean normal, std 0.2.
    """
    rng = torch.Generator().manual_seed(seed)
    factors = variance_factors(module)

    def normal(t: Tensor, std: float) -> None:
        t.copy_(torch.randn(t.shape, generator=rng) * std)

    def uniform(t: Tensor, low: float, high: float) -> None:
        t.copy_(torch.rand(t.shape, generator=rng) * (high - low) + low)

    for name, t in module.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        is_norm = isinstance(module.get_submodule(owner), _BatchNorm)
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
        elif leaf in ("bias", "basis_bias"):
            normal(t, 1.0 if ".se." in f".{owner}." or ".attention." in f".{owner}." else 0.2)
        else:
            spatial = t.shape[-1] * t.shape[-2] if t.ndim >= 4 else 1
            fan_in = t.shape[-3] * spatial if t.ndim >= 4 else t.shape[-1]
            normal(t, (gain * factors.get(name, 1) / fan_in) ** 0.5)
    if sample is not None:
        settle(module, sample, rng)


@torch.no_grad()
def settle(module: nn.Module, sample: Tensor, rng: torch.Generator) -> None:
    """Fits a float32 module's batch norms to a forward pass: mean within 0.2, variance within [0.5, 2] mean squares.

    Channels are scaled but not centred (and quiet ones scaled less): dividing by the differences within a channel, or
    between a few samples, would amplify rounding errors from layer to layer.
    """

    def before(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        square = x.square().mean([0, *range(2, x.ndim)])
        square = (square + square.mean()) / 2
        factor = torch.rand(len(square), generator=rng).double() * 1.5 + 0.5
        norm.running_mean.copy_(square.sqrt() * torch.randn(len(square), generator=rng).double() * 0.2)
        norm.running_var.copy_(square * factor)

    hooks = [m.register_forward_pre_hook(before) for m in module.modules() if isinstance(m, _BatchNorm)]
    training = module.training
    module.double().eval()(sample.double())  # in double precision the rounding does not depend on the machine
    module.float().train(training)
    for hook in hooks:
        hook.remove()


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Loads all of ``state`` into the module, and nothing else; ``source`` is named in the error."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {error}") from error
