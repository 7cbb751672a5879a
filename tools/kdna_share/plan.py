"""Which layers share: ``survey`` looks at a network, ``make_plan`` gives every child its parent, ``check_plan`` reads what a
person may have edited.

A plan is JSON: ``{"version": 1, "rule": .., "gate": 4, "parents": {"layer4.1.conv2": ["layer4.0.conv2", ..]}, ..}``. Only ``gate``
(the gates' widths are channels / gate; 0 for none) and ``parents`` are read back; the rest tells what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .child import gate_width


class PlanError(ValueError):
    """The plan does not fit the network; the message names the layer."""


@dataclass
class Layer:
    """A convolution, in the order of the calls."""

    name: str
    conv: nn.Conv2d
    positions: int  # of its output, for one image
    calls: int
    reason: str = ""  # why it never shares; empty if it may

    @property
    def form(self) -> tuple[Any, ...]:
        """Layers of the same form can read one kernel."""
        return tuple(self.conv.weight.shape), self.conv.groups

    @property
    def parameters(self) -> int:
        return self.conv.weight.numel()

    @property
    def multiply_adds(self) -> int:
        return self.conv.weight.numel() * self.positions * self.calls

    def adapter(self, reduction: int) -> tuple[int, int]:
        """Parameters and multiply-adds that a child in this place has of its own."""
        o, c, (kh, kw) = self.conv.out_channels, self.conv.in_channels, self.conv.kernel_size
        hidden = gate_width(c, reduction)
        gate = 2 * c * hidden + 2 * hidden + c if hidden else 0  # fc1, bn, fc2 and its bias
        return o + (kh * kw if kh * kw > 1 else 0) + gate, 2 * c * hidden * self.calls


def survey(net: nn.Module, image: Tensor) -> list[Layer]:
    """The network's 2-D convolutions with what they do for one image, in the order of their first calls."""
    found: dict[str, Layer] = {}

    def note(name: str, m: nn.Conv2d, out: Tensor) -> None:
        if name in found:
            found[name].calls += 1
        else:
            found[name] = Layer(name, m, out.shape[2] * out.shape[3] if out.ndim == 4 else 0, 1)

    hooks = [
        m.register_forward_hook(lambda m, i, out, name=name: note(name, m, out))
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            net(image)
    finally:
        for hook in hooks:
            hook.remove()
    layers = list(found.values())
    owners: dict[int, int] = {}
    for layer in layers:
        owners[id(layer.conv.weight)] = owners.get(id(layer.conv.weight), 0) + 1
    for at, layer in enumerate(layers):
        layer.reason = reason(layer, at == 0, owners[id(layer.conv.weight)] > 1)
    return layers


def reason(layer: Layer, first: bool, tied: bool) -> str:
    conv = layer.conv
    if first:
        return "the stem"
    if type(conv).forward is not nn.Conv2d.forward:
        return f"a {type(conv).__name__} computes otherwise than a Conv2d"
    if "weight" not in conv._parameters:
        return "its kernel is computed from other parameters"
    if tied:
        return "shares its kernel already"
    if layer.calls > 1:
        return f"runs {layer.calls} times"
    if conv.groups > 1 and conv.groups == conv.in_channels:
        return "depthwise"
    if max(conv.stride) > 1:
        return "a transition (its stride is above one)"
    if not layer.positions or conv.padding_mode != "zeros":
        return "not a padded convolution of images"
    if layer.positions == 1:
        return "works on one position, as the layers of a gate do"
    return ""


def candidates(layers: list[Layer]) -> list[Layer]:
    """Layers that may share and that are not the only one of their form."""
    free = [layer for layer in layers if not layer.reason]
    return [a for a in free if any(b is not a and b.form == a.form for b in free)]


def cost(layers: list[Layer], parents: dict[str, list[str]], reduction: int) -> int:
    """Parameters of the shared layers' kernels and adapters under a plan; layers of no family keep their own kernels."""
    children = {name for group in parents.values() for name in group}
    return sum(layer.adapter(reduction)[0] if layer.name in children else layer.parameters for layer in layers)


def make_plan(
    layers: list[Layer], similarity: dict[tuple[str, str], float], keep: float, rule: str, reduction: int, most: int = 0
) -> dict[str, list[str]]:
    """Children by parent, such that at most the fraction ``keep`` of the candidates' parameters stays.

    One parent after the other gives up its kernel, until the budget is met (or ``most`` parents are left): the one whose users
    find the nearest substitutes, counted for each parameter saved. By the rule "map", any layer of the same form may take
    over; by "order", the next parent behind it, so that children stand before their parent as in the paper's networks. Where
    the budget cannot be met, as many layers share as can.
    """
    pool = candidates(layers)
    if rule not in ("map", "order"):
        raise PlanError(f"the rule is {rule!r}; map or order")
    place = {layer.name: at for at, layer in enumerate(layers)}
    by_name = {layer.name: layer for layer in pool}
    whole = sum(layer.parameters for layer in pool)
    if not pool:
        raise PlanError("no two convolutions have the same shape, other than stem, transitions and depthwise ones")
    parent = {layer.name: layer.name for layer in pool}

    def best(name: str, without: str) -> str | None:
        others = {p for p in parent.values() if p != without and by_name[p].form == by_name[name].form}
        if rule == "order":
            others = {p for p in others if place[p] > place[name]}
            return min(others, key=place.__getitem__, default=None)
        return max(others, key=lambda p: similarity[name, p], default=None)

    def grouped() -> dict[str, list[str]]:
        names = dict.fromkeys(p for n, p in parent.items() if p != n)
        return {p: [n for n in parent if parent[n] == p and n != p] for p in names}

    while cost(pool, grouped(), reduction) > keep * whole or most and len(set(parent.values())) > most:
        options = []
        for given_up in sorted(set(parent.values()), key=place.__getitem__):
            users = [name for name, p in parent.items() if p == given_up]
            moved = {name: best(name, given_up) for name in users}
            saved = by_name[given_up].parameters - by_name[given_up].adapter(reduction)[0]
            if None in moved.values() or saved <= 0:
                continue
            before = sum(similarity[name, given_up] for name in users)
            lost = before - sum(similarity[name, p] for name, p in moved.items())
            crowd = sum(p in set(moved.values()) for p in parent.values()) + len(users)  # families of like sizes first
            options.append(((lost + 0.05 * crowd) / saved, place[given_up], given_up, moved))
        if not options:
            break
        parent |= min(options)[3]
    if keep < 1 and not grouped():
        raise PlanError(
            "no child would save parameters: the gates are larger than the kernels; --gate 0 leaves them out"
        )
    return grouped()


def describe(
    layers: list[Layer], parents: dict[str, list[str]], rule: str, reduction: int, whole: int
) -> dict[str, Any]:
    """The plan with what follows from it. ``whole`` are the network's parameters."""
    pool, children = candidates(layers), {name: p for p, group in parents.items() for name in group}
    kept, owned = cost(pool, parents, reduction), sum(layer.parameters for layer in pool)
    macs = sum(layer.multiply_adds for layer in layers)
    more = sum(layer.adapter(reduction)[1] for layer in pool if layer.name in children)
    return {
        "version": 1,
        "rule": rule,
        "gate": reduction,
        "parents": parents,
        "shared_layers": {"before": owned, "after": kept, "kept": round(kept / owned, 4) if owned else 1.0},
        "parameters": {"before": whole, "after": whole - owned + kept},
        "multiply_adds_of_convolutions": {"before": macs, "after": macs + more},
        "layers": [
            {
                "name": layer.name,
                "kernel": list(layer.conv.weight.shape),
                "role": f"child of {children[layer.name]}"
                if layer.name in children
                else "parent"
                if layer.name in parents
                else f"never shared: {layer.reason}"
                if layer.reason
                else "own kernel",
            }
            for layer in layers
        ],
    }


def check_plan(plan: Any, layers: list[Layer]) -> tuple[dict[str, list[str]], int]:
    """Parents and reduction of a plan, if it fits the network."""
    known = {layer.name: layer for layer in layers}
    if not isinstance(plan, dict) or plan.get("version") != 1 or not isinstance(plan.get("parents"), dict):
        raise PlanError("a plan has the version 1 and an object of parents")
    reduction, parents, seen = plan.get("gate", 4), plan["parents"], set()
    if type(reduction) is not int or reduction < 0:
        raise PlanError(f"gate is {reduction!r}; 0, or what the channels are divided by")
    for parent, children in parents.items():
        if not isinstance(children, list) or not children:
            raise PlanError(f"{parent}: a list of children was expected")
        for name in (parent, *children):
            if name not in known:
                raise PlanError(f"{name}: the network has no such convolution")
            if known[name].reason and known[name].reason not in ("the stem",) or name in seen:
                raise PlanError(f"{name}: {'stands twice in the plan' if name in seen else known[name].reason}")
            if known[name].form != known[parent].form:
                raise PlanError(f"{name}: its kernel is {known[name].form}, that of {parent} is {known[parent].form}")
            seen.add(name)
    return parents, reduction
