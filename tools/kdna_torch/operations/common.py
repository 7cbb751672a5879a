"""What the handlers of PyTorch's functions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..extents import Dim, lost
from ..shape_rules import axis_of
from ..trace import HANDLERS, Tracer
from ..values import Inexpressible


def handles(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            HANDLERS[name] = function
        return function

    return add


def integer(n: Any) -> int:
    """A number that the file cannot make depend on extents."""
    if isinstance(n, Tensor):
        raise Inexpressible("a tensor where a number was expected")
    return lost(n) if isinstance(n, Dim) else int(n)


def number(n: Any) -> float | int | None:
    """A Python number, or the one element of a constant without axes; None for other tensors."""
    if isinstance(n, (bool, int, float)):
        return lost(n) if not isinstance(n, bool) else int(n)
    return None


def pair(n: Any, function: Callable[[Any], Any] = integer) -> list[Any]:
    items = list(n) if isinstance(n, (list, tuple)) else [n]
    if len(items) == 1:
        items *= 2
    if len(items) != 2:
        raise Inexpressible(f"{len(items)} numbers where two were expected")
    return [function(i) for i in items]


def listed(first: Any, rest: Sequence[Any]) -> list[Any]:
    """The numbers of view(2, 3) or view((2, 3))."""
    return [*first, *rest] if isinstance(first, (list, tuple)) else [first, *rest]


def axes_of(dim: Any, rank: int) -> list[int]:
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(rank))
    return [axis_of(integer(i), rank) for i in (dim if isinstance(dim, (list, tuple)) else [dim])]


def rank_of(t: Tracer, x: Any) -> int:
    return len(t.value(x).dims)
