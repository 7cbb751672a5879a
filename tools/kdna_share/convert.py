"""From a network and a plan to a network whose children read their parents' kernels: start, distil, fine-tune."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import parameter_groups

from .child import ChildConv2d, gate_width
from .fit import fit_group, moments, patches
from .hooks import named, watching

NORMS = nn.modules.batchnorm._BatchNorm


def with_children(net: nn.Module, parents: dict[str, list[str]], reduction: int) -> nn.Module:
    """A copy of the network in which the children of every parent read its kernel; gates are C / reduction wide."""
    net = copy.deepcopy(net)
    for parent, children in parents.items():
        for name in children:
            conv = net.get_submodule(name)
            child = ChildConv2d(conv, net.get_submodule(parent), gate_width(conv.in_channels, reduction))
            holder, _, attribute = name.rpartition(".")
            setattr(net.get_submodule(holder), attribute, child)
    return net


@torch.no_grad()
def start(
    student: nn.Module, original: nn.Module, parents: dict[str, list[str]], batches: list[Tensor], seed: int
) -> dict[str, float]:
    """Sets kernels and adapters by least squares on the original's activations.

    Returns what is left of the square of each layer's output. Biases and batch norms take up the difference of the means.
    """
    rng, left = torch.Generator().manual_seed(seed), {}
    for parent, children in parents.items():
        users = [parent, *children]
        convs = named(original, users)
        columns: dict[str, list[Tensor]] = {name: [] for name in users}
        limit = -(-max(8192, 2 * convs[parent].weight[0].numel()) // len(batches))
        with watching(convs, lambda x, y: x) as seen:
            for x in batches:
                original(x)
                for name in users:
                    columns[name].append(patches(convs[name], seen[name], limit, rng))
        gathered = {name: torch.cat(parts) for name, parts in columns.items()}
        targets = [convs[name].weight for name in users]
        gated = student.get_submodule(children[0]).gate is not None if children else False
        kernel, fits, residuals = fit_group(targets, [moments(gathered[name]) for name in users], gated)
        left |= dict(zip(users, residuals))
        student.get_submodule(parent).weight.copy_(kernel)
        for name, fit in zip(children, fits):
            student.get_submodule(name).adapt(fit.filters, fit.spatial, fit.channels)
        for name in users:
            layer = student.get_submodule(name)
            if layer.bias is not None and layer.groups == 1:
                own = kernel if name == parent else fits[children.index(name)].kernel(kernel)
                layer.bias.add_((convs[name].weight - own).flatten(1) @ gathered[name].mean(0))
    correct_norms(student, original, torch.cat(batches)[:64])
    return left


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel."""
    axes = [0, *range(2, x.ndim)]
    return x.mean(axes), x.var(axes, correction=0)


@torch.no_grad()
def correct_norms(student: nn.Module, original: nn.Module, x: Tensor) -> None:
    """Moves the running statistics of the student's batch norms by as much as their inputs have moved.

    Where nothing has moved, nothing is changed, whatever data the statistics were estimated on. Batch norms which the original
    does not have, those of the gates, get the statistics of ``x``.
    """
    norms = {name: m for name, m in student.named_modules() if isinstance(m, NORMS) and m.track_running_stats}
    known = dict(original.named_modules())
    kept = {name: known[name] for name in norms if name in known}
    with watching(kept, lambda given, out: statistics(given)) as before:
        original(x)

    def correct(name: str, m: nn.Module, given: Tensor) -> None:
        mean, var = statistics(given)
        if name in before:
            m.running_mean += mean - before[name][0]
            m.running_var *= ((var + m.eps) / (before[name][1] + m.eps)).clamp(0.01, 100)
        else:
            m.running_mean.copy_(mean)
            m.running_var.copy_(var)

    hooks = [
        m.register_forward_pre_hook(lambda m, given, name=name: correct(name, m, given[0])) for name, m in norms.items()
    ]
    try:
        student.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()


def normalised_error(found: Tensor, want: Tensor) -> Tensor:
    """Mean square of the difference, relative to the variance of what is wanted."""
    want = want.float()
    return F.mse_loss(found.float(), want) / want.var().clamp_min(1e-12)


def outputs(result: Any) -> list[Tensor]:
    """The floating-point tensors of a network's result."""
    if isinstance(result, Tensor):
        return [result] if result.is_floating_point() else []
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else []
    return [t for part in parts for t in outputs(part)]


@dataclass
class Settings:
    """How to train. Learning rates fall along a cosine to zero."""

    steps: int = 500  # of distillation
    batch: int = 16
    rate: float = 1e-3
    features: float = 0.3  # weight of the shared layers' outputs beside the network's; it falls to zero
    epochs: int = 0  # of fine-tuning with labels
    tune_batch: int = 128
    tune_rate: float = 0.02
    teacher: float = 0.5  # weight of the original's outputs beside the labels
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    half: bool = False  # bfloat16 autocast
    seed: int = 0


@dataclass
class Progress:
    """What a conversion has done: it is saved every minute and after each phase, and goes on from there."""

    path: Path
    say: Callable[[str], None]
    state: dict[str, Any] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)

    def resume(self, key: Any) -> bool:
        """Whether the file belongs to this plan and these settings; if so, its state is read."""
        if not self.path.exists():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state.get("key") != key:
            self.say(f"{self.path} belongs to another plan or to other settings: starting anew")
            return False
        self.state = state
        return True

    def save(self, force: bool = False) -> None:
        if not force and time.monotonic() - self.saved < 60:
            return
        temporary = self.path.with_suffix(".tmp")
        torch.save(self.state, temporary)
        temporary.replace(self.path)
        self.saved = time.monotonic()


def set_rate(optimiser: torch.optim.Optimizer, peak: float, part: float, warm: float) -> None:
    """The learning rate after ``part`` of the training: a cosine from ``peak`` to zero, times ``warm`` until that is one."""
    for group in optimiser.param_groups:
        group["lr"] = peak * min(1, warm) * 0.5 * (1 + math.cos(math.pi * part))


def output(given: Tensor, made: Tensor) -> Tensor:
    return made


def distil(
    student: nn.Module,
    original: nn.Module,
    layers: list[str],
    draw: Callable[[int], Tensor],
    settings: Settings,
    progress: Progress,
) -> None:
    """Trains the student to compute what the original does, on images without labels, in eval mode.

    ``draw(step)`` gives the step's batch. ``layers`` are those whose outputs are compared as well.
    """
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, settings.rate, (0.9, 0.99))
    if "distil" in progress.state:
        optimiser.load_state_dict(progress.state["distil"])
    first, curve = progress.state.get("step", 0), progress.state.setdefault("curve", [])
    student.eval()
    begun, mean = time.monotonic(), None
    with watching(named(original, layers), output) as want, watching(named(student, layers), output) as found:
        for step in range(first, settings.steps):
            part = step / settings.steps
            set_rate(optimiser, settings.rate, part, (step + 1) / 20)
            x = draw(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.half):
                with torch.no_grad():
                    targets = outputs(original(x))
                made = outputs(student(x))
            error = sum(normalised_error(y, t) for y, t in zip(made, targets)) / len(targets)
            loss = error
            if settings.features and layers:
                beside = sum(normalised_error(found[name], want[name]) for name in layers) / len(layers)
                loss = error + settings.features * (1 - part) * beside
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            mean = error.item() if mean is None else 0.95 * mean + 0.05 * error.item()
            if (step + 1) % max(1, settings.steps // 100) == 0:
                curve.append([step + 1, mean])
                bar(progress.say, "distil", step + 1, settings.steps, first, begun, f"error {mean:.3g} of the output")
            progress.state |= {"step": step + 1, "student": student.state_dict(), "distil": optimiser.state_dict()}
            progress.save(step + 1 == settings.steps)


def bar(say: Callable[[str], None], what: str, done: int, total: int, first: int, begun: float, text: str) -> None:
    passed = time.monotonic() - begun
    ahead = passed / max(done - first, 1) * (total - done)
    filled = 20 * done // total
    say(f"{what} [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}, {passed:.0f} s, {ahead:.0f} s left, {text}")


def tune(
    student: nn.Module,
    original: nn.Module,
    count: int,
    draw: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    settings: Settings,
    progress: Progress,
) -> None:
    """Trains with labels, in train mode, ``settings.epochs`` times over ``count`` images; ``draw(indices, epoch)`` gives them.

    The loss mixes cross entropy with the divergence from the original's outputs.
    """
    groups = parameter_groups(student, settings.weight_decay)
    optimiser = torch.optim.SGD(groups, settings.tune_rate, momentum=0.9, nesterov=True)
    if "tune" in progress.state:
        optimiser.load_state_dict(progress.state["tune"])
    batch = min(settings.tune_batch, count)
    steps, curve = count // batch, progress.state.setdefault("tune_curve", [])
    total = settings.epochs * steps
    for epoch in range(progress.state.get("epoch", 0), settings.epochs):
        student.train()
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1000 * settings.seed + epoch))
        begun, mean = time.monotonic(), None
        for at, indices in enumerate(order[: steps * batch].split(batch)):
            part = (epoch * steps + at) / total
            set_rate(optimiser, settings.tune_rate, part, (epoch * steps + at + 1) / 50)
            x, labels = draw(indices, epoch)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.half):
                with torch.no_grad():
                    target = outputs(original(x))[0].float()
                made = outputs(student(x))[0].float()
            loss = (1 - settings.teacher) * F.cross_entropy(made, labels, label_smoothing=settings.smoothing)
            if settings.teacher:
                divergence = F.kl_div(
                    made.log_softmax(1), target.log_softmax(1), log_target=True, reduction="batchmean"
                )
                loss = loss + settings.teacher * divergence
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            if (at + 1) % max(1, steps // 10) == 0:
                curve.append([epoch + (at + 1) / steps, mean])
                bar(
                    progress.say, f"epoch {epoch + 1} of {settings.epochs}", at + 1, steps, 0, begun, f"loss {mean:.4f}"
                )
        progress.state |= {"epoch": epoch + 1, "student": student.state_dict(), "tune": optimiser.state_dict()}
        progress.save(True)
    student.eval()
