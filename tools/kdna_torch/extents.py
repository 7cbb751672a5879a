"""Integers that remember how they follow from the extents of a traced network's values.

``Dim`` is an int with an expression of ``docs/graph-file.md`` behind it: ("dim", value, axis) or (operation, a, b).
Arithmetic with a Dim gives a Dim; ``/`` gives a ``Ratio``, a float that math.ceil and math.floor turn back into a Dim.
Python's int(), max(), min() and len() would forget the expression: ``remembering`` replaces them in the modules whose
code is traced.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

Expr = Any  # an int, or a tuple: ("dim", value, axis), (operation, Expr, Expr)


class Watch:
    """Whether the expression of a Dim got lost or a Dim was compared, which only another size can show to be harmless."""

    concretised = False


def expr_of(n: int) -> Expr:
    return n.expr if isinstance(n, Dim) else int(n)


def plain(n: Any) -> Any:
    """The int or float itself, without an expression."""
    if isinstance(n, Dim):
        return int.__int__(n)
    return float.__float__(n) if isinstance(n, Ratio) else n


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a // b,
    "ceil_div": lambda a, b: -(-a // b),
    "max": max,
    "min": min,
}


def combine(op: str, a: int, b: int) -> int:
    """a op b, with its expression unless both are plain."""
    value = OPERATIONS[op](plain(a), plain(b))
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return value
    if op in ("add", "mul", "max", "min") and not isinstance(a, Dim):
        a, b = b, a
    x, y = expr_of(a), expr_of(b)
    if (op in ("add", "sub") and y == 0) or (op in ("mul", "div", "ceil_div") and y == 1):
        return a
    if op in ("max", "min") and x == y:
        return a
    if op == "sub" and x == y:
        return 0
    if op == "mul" and y == 0:
        return 0
    if isinstance(x, tuple) and isinstance(y, int) and isinstance(x[2], int) and x[0] != "dim":
        inner, k = x[1], x[2]
        if op in ("add", "sub") and x[0] in ("add", "sub"):  # (n + k) + y
            total = (k if x[0] == "add" else -k) + (y if op == "add" else -y)
            return Dim.make(
                value, inner if total == 0 else ("add", inner, total) if total > 0 else ("sub", inner, -total)
            )
        if op == "mul" and x[0] == "mul":
            return Dim.make(value, ("mul", inner, k * y))
        if op in ("div", "ceil_div") and x[0] == "mul" and y > 0 and k % y == 0:
            return Dim.make(value, inner if k == y else ("mul", inner, k // y))
    if op in ("div", "ceil_div") and isinstance(x, tuple) and x[0] == "mul" and y in (x[1], x[2]):
        return Dim.make(value, x[1] if x[2] == y else x[2])
    if op in ("div", "ceil_div") and x == y:
        return 1
    return Dim.make(value, (op, x, y))


class Dim(int):
    """An extent, or what was computed from extents."""

    expr: Expr

    @staticmethod
    def make(value: int, expr: Expr) -> int:
        if isinstance(expr, int):
            return value
        made = Dim(value)
        made.expr = expr
        return made

    def __add__(self, other: Any) -> Any:
        return combine("add", self, other) if is_int(other) else float_op(self, other, "add")

    def __sub__(self, other: Any) -> Any:
        return combine("sub", self, other) if is_int(other) else float_op(self, other, "sub")

    def __mul__(self, other: Any) -> Any:
        return combine("mul", self, other) if is_int(other) else float_op(self, other, "mul")

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Any:
        return combine("sub", other, self) if is_int(other) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        if is_int(other) and other > 0:
            return combine("div", self, other)
        return math.floor(self / other)

    def __rfloordiv__(self, other: Any) -> Any:
        return combine("div", other, self) if is_int(other) and self > 0 else NotImplemented

    def __mod__(self, other: Any) -> Any:
        if is_int(other) and other > 0:
            return combine("sub", self, combine("mul", combine("div", self, other), other))
        Watch.concretised = True
        return plain(self) % other

    def __rmod__(self, other: Any) -> Any:
        if is_int(other):
            return combine("sub", other, combine("mul", combine("div", other, self), self))
        return NotImplemented

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        if is_int(other) and other > 0:
            return Ratio.make(self, other)
        return float_op(self, other, "div")

    def __rtruediv__(self, other: Any) -> Any:
        return Ratio.make(other, self) if is_int(other) and self > 0 else lost(other) / lost(self)

    def __neg__(self) -> Any:
        return combine("sub", 0, self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if is_int(other) and modulus is None and 1 <= other <= 4:
            result = self
            for _ in range(other - 1):
                result = result * self
            return result
        return lost(self) ** other

    def __floor__(self) -> Any:
        return self

    __ceil__ = __trunc__ = __floor__

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __int__(self) -> int:
        return lost(self)

    def __float__(self) -> float:
        return float(lost(self))

    def __eq__(self, other: Any) -> bool:
        return compare(self, other, int.__eq__)

    def __ne__(self, other: Any) -> bool:
        return compare(self, other, int.__ne__)

    def __lt__(self, other: Any) -> bool:
        return compare(self, other, int.__lt__)

    def __le__(self, other: Any) -> bool:
        return compare(self, other, int.__le__)

    def __gt__(self, other: Any) -> bool:
        return compare(self, other, int.__gt__)

    def __ge__(self, other: Any) -> bool:
        return compare(self, other, int.__ge__)

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __bool__(self) -> bool:
        return lost(self) != 0

    def __deepcopy__(self, memo: Any) -> Dim:
        return self


class Ratio(float):
    """numerator / denominator, at least one of them a Dim."""

    numerator: int
    denominator: int

    @staticmethod
    def make(numerator: int, denominator: int) -> Any:
        if not isinstance(numerator, Dim) and not isinstance(denominator, Dim):
            return numerator / denominator
        made = Ratio(plain(numerator) / plain(denominator))
        made.numerator, made.denominator = numerator, denominator
        return made

    def __mul__(self, other: Any) -> Any:
        if is_int(other):
            return Ratio.make(self.numerator * other, self.denominator)
        parts = small_fraction(other)
        return Ratio.make(self.numerator * parts[0], self.denominator * parts[1]) if parts else lost(self) * other

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if is_int(other) and other > 0:
            return Ratio.make(self.numerator, self.denominator * other)
        return lost(self) / other

    def __add__(self, other: Any) -> Any:
        if is_int(other):
            return Ratio.make(self.numerator + self.denominator * other, self.denominator)
        return lost(self) + other

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if is_int(other):
            return Ratio.make(self.numerator - self.denominator * other, self.denominator)
        return lost(self) - other

    def __floordiv__(self, other: Any) -> Any:
        return math.floor(self / other)

    def __floor__(self) -> Any:
        return combine("div", self.numerator, self.denominator)

    def __ceil__(self) -> Any:
        return combine("ceil_div", self.numerator, self.denominator)

    def __trunc__(self) -> Any:
        return self.__floor__() if float.__ge__(self, 0.0) else self.__ceil__()

    def __int__(self) -> int:
        return int(lost(self))

    def __float__(self) -> float:
        return lost(self)

    def __round__(self, digits: Any = None) -> Any:
        return round(lost(self), digits)


def is_int(n: Any) -> bool:
    return isinstance(n, int) and not isinstance(n, bool)


def small_fraction(x: Any) -> tuple[int, int] | None:
    """x as a fraction of small numbers, where it is exactly one."""
    if not isinstance(x, float) or isinstance(x, Ratio) or not math.isfinite(x) or x <= 0:
        return None
    parts = x.as_integer_ratio()
    return parts if max(parts) <= 1 << 16 else None


def lost(n: Any) -> Any:
    Watch.concretised = True
    return plain(n)


def float_op(a: Dim, b: Any, op: str) -> Any:
    """A Dim with a float: exact where the float is a fraction of small numbers."""
    if isinstance(b, bool) or not isinstance(b, float):
        return NotImplemented
    if isinstance(b, Ratio):
        if op == "mul":
            return b * a
        return {"add": lambda: b + a, "sub": lambda: lost(a) - lost(b), "div": lambda: lost(a) / lost(b)}[op]()
    parts = small_fraction(b)
    if parts and op == "mul":
        return Ratio.make(a * parts[0], parts[1])
    if parts and op == "div":
        return Ratio.make(a * parts[1], parts[0])
    x = float(lost(a))
    return {"add": x + b, "sub": x - b, "mul": x * b, "div": x / b if b else math.nan}[op]


def compare(a: Dim, b: Any, op: Callable[[Any, Any], Any]) -> bool:
    if not isinstance(b, int):
        b = float(b) if isinstance(b, float) else b
        result = getattr(float, op.__name__)(float(plain(a)), plain(b)) if isinstance(b, float) else NotImplemented
        Watch.concretised = True
        return result
    if not (isinstance(b, Dim) and a.expr == b.expr):
        Watch.concretised = True
    return op(plain(a), plain(b))


# ------------------------------------------------------------------------- Python functions that keep expressions


class _IntMeta(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, int)

    def __subclasscheck__(cls, other: Any) -> bool:
        return issubclass(other, int)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Dim):
            return args[0]
        if len(args) == 1 and isinstance(args[0], Ratio):
            return args[0].__trunc__()
        return int(*args, **kwargs)

    def __eq__(cls, other: Any) -> bool:
        return other is cls or other is int

    def __hash__(cls) -> int:
        return hash(int)

    def __or__(cls, other: Any) -> Any:
        return int | other

    def __ror__(cls, other: Any) -> Any:
        return other | int


class _Int(metaclass=_IntMeta):
    """int() that keeps a Dim."""


def _extreme(op: str, builtin: Callable[..., Any]) -> Callable[..., Any]:
    def choose(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs:
            args = tuple(args[0])
        if kwargs or len(args) < 2 or not any(isinstance(a, Dim) for a in args) or not all(map(is_int, args)):
            return builtin(*args, **kwargs) if len(args) > 1 or kwargs else builtin(args)
        result = args[0]
        for a in args[1:]:
            result = combine(op, result, a)
        return result

    return choose


def _len(value: Any) -> int:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.ndim else len(value)


@contextlib.contextmanager
def remembering(roots: Iterable[str]) -> Iterator[None]:
    """Code of modules under the given packages calls an int, max, min and len that keep expressions."""
    own = {"int": _Int, "max": _extreme("max", max), "min": _extreme("min", min), "len": _len}
    wanted, changed = set(roots) - {"torch", "builtins", "numpy", __name__.partition(".")[0]}, []
    for name, module in list(sys.modules.items()):
        inside = name.partition(".")[0] in wanted or name in roots and name not in ("torch", "builtins")
        if not inside or not hasattr(module, "__dict__") or name.startswith("torch."):
            continue
        for key, function in own.items():
            if key not in vars(module):
                setattr(module, key, function)
                changed.append((module, key))
    try:
        yield
    finally:
        for module, key in changed:
            delattr(module, key)
