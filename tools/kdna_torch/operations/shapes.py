"""Reshaping, permuting, joining and cutting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..extents import Dim, combine, lost, plain
from ..shape_rules import axis_of, product, reshaped
from ..trace import Tracer
from ..values import Inexpressible, Opaque, Value
from .common import axes_of, handles, integer, listed, number, rank_of


@handles("view", "reshape")
def reshape(t: Tracer, x: Tensor, *sizes: Any, shape: Any = None, size: Any = None) -> Value:
    given = shape if shape is not None else size
    if sizes and isinstance(sizes[0], torch.dtype):
        raise Inexpressible("another dtype over the same memory")
    wanted = list(given) if given is not None else listed(sizes[0], sizes[1:])
    if any(isinstance(n, Tensor) for n in wanted):
        raise Inexpressible("an extent that is a tensor")
    value = t.value(x)
    if len(wanted) == len(value.dims) and all(
        plain(n) == plain(d) and isinstance(n, Dim) == isinstance(d, Dim) for n, d in zip(wanted, value.dims)
    ):
        return value
    if len(wanted) > 5:
        return Value(t.unique("wide"), tuple(known_extents(reshaped(value.dims, wanted))), "", value.base or value)
    return t.emit("reshape", [value.base or value], shape=wanted)


def known_extents(dims: Sequence[Any]) -> Sequence[int]:
    if any(isinstance(d, Opaque) for d in dims):
        raise Inexpressible("more than five axes, one of them of an extent without expression")
    return dims


@handles("view_as", "reshape_as")
def view_as(t: Tracer, x: Tensor, other: Tensor) -> Value:
    return reshape(t, x, list(t.extents(other)))


@handles("flatten", "ravel")
def flatten(t: Tracer, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Value:
    rank = rank_of(t, x)
    first, last = axis_of(start_dim, rank), axis_of(end_dim, rank)
    if first == last:
        return t.value(x)
    if t.value(x).base is not None:
        dims = t.value(x).dims
        return reshape(t, x, [*dims[:first], product(dims[first : last + 1]), *dims[last + 1 :]])
    return t.emit("flatten", [x], **({"first": first} if first else {}), **({"last": last} if last != rank - 1 else {}))


@handles("unflatten")
def unflatten(t: Tracer, x: Tensor, dim: int, sizes: Sequence[int]) -> Value:
    dims, axis = t.value(x).dims, axis_of(dim, rank_of(t, x))
    sizes = list(sizes)
    known = product([n for n in sizes if plain(n) != -1])
    sizes = [dims[axis] // known if plain(n) == -1 else n for n in sizes]
    return reshape(t, x, [*dims[:axis], *sizes, *dims[axis + 1 :]])


@handles("squeeze")
def squeeze(t: Tracer, x: Tensor, dim: Any = None) -> Value:
    dims = t.value(x).dims
    axes = axes_of(dim, len(dims))
    for i in axes:
        if isinstance(dims[i], Dim):  # the other size tells whether it is always, or never, one
            lost(dims[i])
    axes = [i for i in axes if plain(dims[i]) == 1]
    return t.emit("squeeze", [x], axes=axes) if axes else t.value(x)


@handles("unsqueeze")
def unsqueeze(t: Tracer, x: Tensor, dim: int) -> Value:
    return t.emit("unsqueeze", [x], axes=[axis_of(dim, rank_of(t, x) + 1)])


def permuted(t: Tracer, x: Any, axes: Sequence[int]) -> Value:
    if list(axes) == list(range(len(axes))):
        return t.value(x)
    if t.value(x).base is not None:
        return permuted_wide(t, t.value(x), list(axes))
    return t.emit("permute", [x], axes=list(axes))


def permuted_wide(t: Tracer, x: Value, axes: list[int]) -> Value:
    """Permutes more than five axes, those that stay together as one."""
    runs = [[axes[0]]]
    for axis in axes[1:]:
        if axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) > 5 or x.base is None:
        raise Inexpressible(f"permutes {len(runs)} axes; the file has one to five")
    order = sorted(range(len(runs)), key=lambda i: runs[i][0])
    merged = t.emit("reshape", [x.base], shape=[product([x.dims[a] for a in runs[i]]) for i in order])
    moved = t.emit("permute", [merged], axes=[order.index(i) for i in range(len(runs))])
    return Value(t.unique("wide"), tuple(x.dims[a] for a in axes), "", moved)


@handles("permute")
def permute(t: Tracer, x: Tensor, *axes: Any, dims: Any = None) -> Value:
    wanted = list(dims) if dims is not None else listed(axes[0], axes[1:])
    return permuted(t, x, axes_of(wanted, rank_of(t, x)))


@handles("transpose", "swapaxes", "swapdims")
def transpose(t: Tracer, x: Tensor, dim0: int, dim1: int) -> Value:
    rank = rank_of(t, x)
    axes = list(range(rank))
    a, b = axis_of(dim0, rank), axis_of(dim1, rank)
    axes[a], axes[b] = axes[b], axes[a]
    return permuted(t, x, axes)


@handles("t", "T", "mT", "H", "mH", "adjoint")
def transposed(t: Tracer, x: Tensor) -> Value:
    rank = rank_of(t, x)
    return transpose(t, x, -2, -1) if rank >= 2 else t.value(x)


@handles("movedim", "moveaxis")
def movedim(t: Tracer, x: Tensor, source: Any, destination: Any) -> Value:
    rank = rank_of(t, x)
    moved = dict(zip(axes_of(destination, rank), axes_of(source, rank)))
    rest = iter(i for i in range(rank) if i not in moved.values())
    return permuted(t, x, [moved[i] if i in moved else next(rest) for i in range(rank)])


@handles("expand", "broadcast_to")
def expand(t: Tracer, x: Tensor, *sizes: Any, size: Any = None) -> Value:
    wanted = list(size) if size is not None else listed(sizes[0], sizes[1:])
    dims = t.value(x).dims
    lead = len(wanted) - len(dims)
    wanted = [dims[i - lead] if plain(n) == -1 else n for i, n in enumerate(wanted)]
    return t.emit("expand", [x], shape=wanted)


@handles("expand_as")
def expand_as(t: Tracer, x: Tensor, other: Tensor) -> Value:
    return expand(t, x, list(t.extents(other)))


def concat(t: Tracer, values: Sequence[Any], axis: int) -> Value:
    return t.emit("concat", values, axis=axis) if len(values) != 1 else t.value(values[0])


@handles("cat", "concat", "concatenate")
def cat(t: Tracer, tensors: Any, dim: int = 0, axis: Any = None) -> Value:
    tensors = [x for x in tensors if t.find(x) is not None or x.numel() or x.ndim != 1]
    return concat(t, tensors, axis_of(dim if axis is None else axis, rank_of(t, tensors[0])))


@handles("stack")
def stack(t: Tracer, tensors: Any, dim: int = 0) -> Value:
    axis = axis_of(dim, rank_of(t, tensors[0]) + 1)
    return concat(t, [t.emit("unsqueeze", [x], axes=[axis]) for x in tensors], axis)


def cut(t: Tracer, x: Any, axis: int, start: int, stop: int | None, step: int = 1) -> Value:
    """x[start:stop:step] along an axis, 0 <= start."""
    value = t.value(x)
    d = value.dims[axis]
    attributes: dict[str, Any] = {}
    if isinstance(start, Dim) or start != 0:
        attributes["start"] = start
    if stop is not None:
        if isinstance(stop, Dim) and not (isinstance(d, Dim) and d.expr == stop.expr):
            attributes["stop"] = stop if plain(stop) <= plain(d) else combine("min", stop, d)
        elif not isinstance(stop, Dim) and stop < plain(d):
            attributes["stop"] = stop
        elif not isinstance(stop, Dim) and isinstance(d, Dim):
            lost(d)  # whether the slice ends before the axis does is for another size to tell
    if step != 1:
        attributes["step"] = step
    return t.emit("slice", [value], axis=axis, **attributes) if attributes else value


@handles("narrow")
def narrow(t: Tracer, x: Tensor, dim: int, start: Any, length: int) -> Value:
    axis = axis_of(dim, rank_of(t, x))
    if isinstance(start, Tensor):
        raise Inexpressible("a start that is a tensor")
    start = combine("add", t.value(x).dims[axis], start) if plain(start) < 0 else start
    return cut(t, x, axis, start, combine("add", start, length))


@handles("select")
def select(t: Tracer, x: Tensor, dim: int, index: int) -> Value:
    axis = axis_of(dim, rank_of(t, x))
    index = combine("add", t.value(x).dims[axis], index) if plain(index) < 0 else index
    return t.emit("squeeze", [cut(t, x, axis, index, combine("add", index, 1))], axes=[axis])


@handles("split", "split_with_sizes")
def split(
    t: Tracer,
    x: Tensor,
    split_size_or_sections: Any = None,
    dim: int = 0,
    split_size: Any = None,
    split_sizes: Any = None,
) -> list[Value]:
    given = next(n for n in (split_size_or_sections, split_size, split_sizes) if n is not None)
    axis = axis_of(dim, rank_of(t, x))
    total = t.value(x).dims[axis]
    if isinstance(given, (list, tuple)):
        ends, end = [], 0
        for n in given:
            end = combine("add", end, n)
            ends.append(end)
    else:
        count = -(-plain(total) // plain(given))
        if isinstance(total, Dim):
            lost(total)
        ends = [combine("mul", given, i + 1) for i in range(count)]
    starts = [0, *ends[:-1]]
    return [cut(t, x, axis, a, None if i + 1 == len(ends) else b) for i, (a, b) in enumerate(zip(starts, ends))]


@handles("chunk")
def chunk(t: Tracer, x: Any, chunks: int, dim: int = 0) -> list[Value]:
    value = t.value(x)
    axis = axis_of(dim, len(value.dims))
    return split(t, value, combine("ceil_div", value.dims[axis], integer(chunks)), axis)


@handles("tensor_split")
def tensor_split(t: Tracer, x: Tensor, indices_or_sections: Any, dim: int = 0) -> list[Value]:
    axis = axis_of(dim, rank_of(t, x))
    total = t.value(x).dims[axis]
    if isinstance(indices_or_sections, int):
        n, total = indices_or_sections, integer(total)
        indices = [i * (total // n) + min(i, total % n) for i in range(1, n)]
    else:
        indices = list(indices_or_sections)
    return [cut(t, x, axis, a, b) for a, b in zip([0, *indices], [*indices, None])]


@handles("unbind")
def unbind(t: Tracer, x: Tensor, dim: int = 0) -> list[Value]:
    axis = axis_of(dim, rank_of(t, x))
    return [select(t, x, axis, i) for i in range(integer(t.value(x).dims[axis]))]


def gather_axis(t: Tracer, value: Value, axis: int, indices: list[int]) -> Value:
    """Chosen places of an axis, as slices that are concatenated."""
    total = integer(value.dims[axis])
    indices = [i + total if i < 0 else i for i in indices]
    parts, at = [], 0
    while at < len(indices):
        step = max(indices[at + 1] - indices[at], 1) if at + 1 < len(indices) else 1
        end = at + 1
        while end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        parts.append(cut(t, value, axis, indices[at], indices[end - 1] + 1, step if end - at > 1 else 1))
        at = end
    if len(parts) > 256 or not parts:
        raise Inexpressible(f"an index of {len(parts)} separate parts")
    return concat(t, parts, axis)


@handles("index_select")
def index_select(t: Tracer, x: Tensor, dim: int, index: Tensor) -> Value:
    if t.find(index) is not None:
        raise Inexpressible("an index that depends on the input")
    return gather_axis(t, t.value(x), axis_of(dim, rank_of(t, x)), index.tolist())


@handles("__getitem__")
def getitem(t: Tracer, x: Tensor, index: Any) -> Value:
    items = list(index) if isinstance(index, tuple) else [index]
    value = t.value(x)
    taken = sum(i is not None and i is not Ellipsis for i in items)
    if any(i is Ellipsis for i in items):
        at = next(n for n, i in enumerate(items) if i is Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(value.dims) - taken)
    axis, gone, added, gathered = 0, [], [], 0
    position = 0  # among the axes of the result, counting those that are to go
    for item in items:
        if item is None:
            added.append(position)
            position += 1
            continue
        d = value.dims[axis]
        if (
            isinstance(item, bool)
            or isinstance(item, Tensor)
            and (t.find(item) is not None or item.dtype == torch.bool)
        ):
            raise Inexpressible("an index that is a mask or depends on the input")
        if isinstance(item, Tensor) and item.ndim == 0:
            item = int(item)
        if isinstance(item, (Tensor, list, range)):
            indices = item.tolist() if isinstance(item, Tensor) else list(item)
            if gathered or not all(isinstance(i, int) for i in indices):
                raise Inexpressible("indices on several axes, or of several axes")
            gathered = 1
            value = gather_axis(t, value, axis, [integer(i) for i in indices])
        elif isinstance(item, slice):
            start, stop, step = item.start, item.stop, integer(1 if item.step is None else item.step)
            if step < 1:
                raise Inexpressible("a step below one")
            start = 0 if start is None else start
            value = cut(t, value, axis, clipped(d, start), None if stop is None else clipped(d, stop), step)
        else:
            place = combine("add", d, item) if plain(item) < 0 else item
            value = cut(t, value, axis, place, combine("add", place, 1))
            gone.append(axis)
        axis += 1
        position += 1
    if gathered and gone:
        raise Inexpressible("an index that mixes numbers and lists")
    if added:
        before_adding = [p - sum(a < p for a in added) for p in added]
        shift = [b - sum(g < b for g in gone) for b in before_adding]
        places = [s + i for i, s in enumerate(shift)]
    if gone:
        value = t.emit("squeeze", [value], axes=gone)
    return t.emit("unsqueeze", [value], axes=places) if added else value


def clipped(d: int, n: int) -> int:
    """A bound of a slice, counted from the start."""
    if plain(n) < 0:
        if -plain(n) > plain(d):
            lost(d)
            return 0
        return combine("add", d, n)
    return n


@handles("repeat", "tile")
def repeat(t: Tracer, x: Tensor, *sizes: Any, repeats: Any = None, dims: Any = None) -> Value:
    given = repeats if repeats is not None else dims
    counts = list(given) if given is not None else listed(sizes[0], sizes[1:])
    value = t.value(x)
    lead = len(counts) - len(value.dims)
    if lead < 0:
        counts, lead = [1] * -lead + counts, 0
    if lead:
        value = t.emit("unsqueeze", [value], axes=list(range(lead)))
    if all(plain(n) == 1 or not isinstance(d, Dim) and d == 1 for n, d in zip(counts, value.dims)):
        shape = [n if not isinstance(d, Dim) and d == 1 else d for n, d in zip(counts, value.dims)]
        if all(plain(n) == 1 and not isinstance(n, Dim) for n in counts):
            return value
        return t.emit("expand", [value], shape=shape)
    for axis, n in enumerate(counts):
        n = integer(n)
        if not 1 <= n <= 64:
            raise Inexpressible(f"{n} repetitions")
        value = concat(t, [value] * n, axis)
    return value


@handles("repeat_interleave")
def repeat_interleave(t: Tracer, x: Tensor, repeats: Any, dim: Any = None, output_size: Any = None) -> Value:
    if isinstance(repeats, Tensor) or dim is None:
        raise Inexpressible("repetitions that are a tensor, or no axis")
    value = t.value(x)
    axis = axis_of(dim, len(value.dims))
    wide = t.emit("unsqueeze", [value], axes=[axis + 1])
    wide = t.emit("expand", [wide], shape=[*value.dims[: axis + 1], repeats, *value.dims[axis + 1 :]])
    return t.emit("flatten", [wide], first=axis, last=axis + 1)


@handles("roll")
def roll(t: Tracer, x: Tensor, shifts: Any, dims: Any = None) -> Value:
    if dims is None:
        raise Inexpressible("no axis")
    value = t.value(x)
    for shift, dim in zip(*(list(n) if isinstance(n, (list, tuple)) else [n] for n in (shifts, dims))):
        axis = axis_of(dim, len(value.dims))
        d = value.dims[axis]
        if plain(shift) == 0:
            continue
        if abs(plain(shift)) >= plain(d):
            raise Inexpressible("a shift longer than its axis")
        at = combine("sub", d, shift) if plain(shift) > 0 else -shift
        value = concat(t, [cut(t, value, axis, at, None), cut(t, value, axis, 0, at)], axis)
    return value


@handles("pixel_shuffle")
def pixel_shuffle(t: Tracer, x: Tensor, upscale_factor: int) -> Value:
    return t.emit("pixel_shuffle", [x], factor=integer(upscale_factor))


@handles("pixel_unshuffle")
def pixel_unshuffle(t: Tracer, x: Tensor, downscale_factor: int) -> Value:
    return t.emit("pixel_unshuffle", [x], factor=integer(downscale_factor))


@handles("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Tracer, x: Tensor, groups: int) -> Value:
    return t.emit("channel_shuffle", [x], groups=integer(groups))


@handles("pad", "constant_pad_nd")
def pad(t: Tracer, x: Tensor, pad: Any, mode: Any = "constant", value: Any = None) -> Value:
    if not isinstance(mode, str):
        mode, value = "constant", mode
    current, pads = t.value(x), list(pad)
    rank = len(current.dims)
    before, after = [0] * rank, [0] * rank
    for i in range(len(pads) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    if any(plain(n) < 0 for n in pads):
        if mode != "constant":
            raise Inexpressible("a negative width of a border")
        for axis in range(rank):
            start = -before[axis] if plain(before[axis]) < 0 else 0
            d = current.dims[axis]
            stop = combine("add", d, after[axis]) if plain(after[axis]) < 0 else None
            current = cut(t, current, axis, start, stop)
            before[axis] = before[axis] if plain(before[axis]) > 0 else 0
            after[axis] = after[axis] if plain(after[axis]) > 0 else 0
    if not any(isinstance(n, Dim) or n for n in (*before, *after)):
        return current
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise Inexpressible(f"mode {mode}")
    fill = 0.0 if value is None else float(number(value) or 0)
    return t.emit("pad", [current], before=before, after=after, mode=mode, **({"value": fill} if fill else {}))
