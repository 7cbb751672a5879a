"""Values and nodes of the graph that is being traced, and what is raised where it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


class ExportError(ValueError):
    """A module that the file format cannot express, or that cannot be traced."""


class ModuleFails(ExportError):
    """The module itself raised an exception."""


class Inexpressible(ValueError):
    """Raised by a handler where the file has no node for a call."""


@dataclass
class Value:
    """A value of the graph.

    ``dims`` holds its extents: an int where it is the same for all inputs, else a Dim. ``reason`` says why the value cannot
    be expressed, and is empty where it can. A value of more than five axes is not in the graph: ``base`` is one that is,
    with the same elements in the same order.
    """

    name: str
    dims: tuple[int, ...]
    reason: str = ""
    base: Value | None = None


@dataclass
class GraphNode:
    """A node of the file, with tensors in place of their names."""

    op: str
    name: str
    inputs: list[Value]
    out: Value
    tensors: dict[str, Tensor]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Opaque:
    """An extent of the value being made that has no simpler expression than that."""

    value: int
