"""What the layers of a network read and compute while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

Key = TypeVar("Key")


@contextmanager
def watching(layers: Mapping[Key, nn.Module], keep: Callable[[Tensor, Tensor], Any]) -> Iterator[dict[Key, Any]]:
    """A dict that holds, after every run, keep(input, output) of each layer."""
    seen: dict[Key, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda m, given, out, key=key: seen.__setitem__(key, keep(given[0], out)))
        for key, layer in layers.items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def named(net: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    return {name: net.get_submodule(name) for name in names}
