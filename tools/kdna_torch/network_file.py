"""``export``: a PyTorch module as a network file (``docs/graph-file.md``)."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import dynamic_export, operations  # noqa: F401  (they fill the tables of the tracer)
from .extents import Dim, plain
from .interpret import EXTENTS, Network
from .trace import DoublePrecision, Trace, all_tensors, flatten_outputs, geometry, relative_error, run
from .values import ExportError, GraphNode, ModuleFails

DEFAULTS: dict[str, dict[str, Any]] = {
    "conv_transpose2d": {"stride": [1, 1], "pad": [0, 0], "output_pad": [0, 0], "dilation": [1, 1], "groups": 1},
    "position_conv2d": {"stride": [1, 1], "pad": [0] * 4, "dilation": [1, 1], "groups": 1, "sharing": "neighbours"},
    "batch_norm": {"eps": 1e-5},
    "layer_norm": {"eps": 1e-5},
    "group_norm": {"eps": 1e-5},
    "max_pool2d": {"pad": [0] * 4, "dilation": [1, 1], "ceil_mode": False},
    "avg_pool2d": {"pad": [0] * 4, "ceil_mode": False, "count_include_pad": True},
    "pad": {"mode": "constant"},
}
TOLERANCE = 1e-9


# ------------------------------------------------------------------------------------------------------ two sizes


def free_axes(x: Tensor, axes: str) -> tuple[int, ...]:
    """Axes of an input that may have any extent: of images the batch, the height and the width, else the batch."""
    if x.ndim == 4:
        return {"all": (0, 2, 3), "batch": (0,), "map": (2, 3), "none": ()}[axes]
    return (0,) if axes in ("all", "batch") and x.ndim > 1 else ()


def other_example(xs: Sequence[Tensor], axes: str, step: int) -> list[Tensor]:
    """Inputs of other values, and of other extents on the free axes."""
    rng = torch.Generator().manual_seed(1000 + step)
    images = {tuple(x.shape[2:]) for x in xs if x.ndim == 4}
    out = []
    for x in xs:
        shape = list(x.shape)
        for axis in free_axes(x, axes):
            if axis == 0:
                shape[0] += step
            elif len(images) == 1:  # first by what most networks can take, then by what they have to branch for
                shape[axis] += {1: (32, 64), 2: (37, 75)}[step][axis - 2]
            else:  # maps of several sizes: what is proportional stays so
                shape[axis] *= (1 + step) if axis == 2 else (2 + step)
        noise = torch.randn(shape, generator=rng, dtype=torch.float64)
        scale = x.std().item() if x.numel() > 1 else 1.0
        out.append(noise * (scale or 1.0) + x.mean().item())
    return out


def attributes_as_json(node: GraphNode) -> dict[str, Any]:
    """Attributes with expressions where the file allows them, plain numbers elsewhere, and without defaults."""
    out = {}
    for key, item in node.attributes.items():
        if key in EXTENTS.get(node.op, ()):
            item = [expression(n) for n in item]
        elif node.op == "slice" and key in ("start", "stop"):
            item = expression(item)
        elif isinstance(item, (list, tuple)):
            item = [plain(n) for n in item]
        else:
            item = plain(item)
        if DEFAULTS.get(node.op, {}).get(key, ...) != item:
            out[key] = item
    return out


def expression(n: Any) -> Any:
    def listed(e: Any) -> Any:
        return [e[0], *map(listed, e[1:])] if isinstance(e, tuple) else e

    return listed(n.expr) if isinstance(n, Dim) else plain(n)


def same_tensor(a: Tensor, b: Tensor) -> bool:
    if a is b or geometry(a) == geometry(b):
        return True
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, 1e-12, 1e-14)


def difference(a: Trace, b: Trace) -> str | None:
    """Where two traces are not the same graph."""
    for x, y in zip(a.nodes, b.nodes):
        if (x.op, x.out.name, [v.name for v in x.inputs]) != (y.op, y.out.name, [v.name for v in y.inputs]):
            return f"{x.out.name} ({x.op}) is {y.out.name} ({y.op}) at another size"
        if attributes_as_json(x) != attributes_as_json(y):
            return f"{x.out.name} ({x.op}): {attributes_as_json(x)} is {attributes_as_json(y)} at another size"
        if set(x.tensors) != set(y.tensors):
            return f"{x.out.name} ({x.op}) has other tensors at another size"
        for role in x.tensors:
            if not same_tensor(x.tensors[role], y.tensors[role]):
                return (
                    f"{x.out.name} ({x.op}): its {role} is another one for another input: it was computed from the "
                    "input, or from its size, in a way that the trace does not see"
                )
    if len(a.nodes) != len(b.nodes):
        return f"{len(a.nodes)} operations are {len(b.nodes)} at another size"
    if [(n, v.name) for n, v in a.outputs] != [(n, v.name) for n, v in b.outputs]:
        return "the outputs are others at another size"
    return None


def needed(trace: Trace) -> list[GraphNode]:
    """The nodes that the outputs depend on, extents included."""
    alive = {value.name for _, value in trace.outputs}
    kept = []

    def expressions(item: Any) -> None:
        if isinstance(item, list):
            if len(item) == 3 and item[0] == "dim":
                alive.add(item[1])
            for part in item:
                expressions(part)

    for node in reversed(trace.nodes):
        if node.out.name in alive:
            alive.update(value.name for value in node.inputs)
            for item in attributes_as_json(node).values():
                expressions(item)
            kept.append(node)
    return kept[::-1]


def trim(trace: Trace) -> Trace:
    trace.nodes = needed(trace)
    return trace


# -------------------------------------------------------------------------------------------------------- tensors


class Weights:
    """The tensors of the file: a parameter once, under its state_dict's name and in its own precision."""

    def __init__(self, original: nn.Module, double: nn.Module) -> None:
        self.originals = dict(all_tensors(original))
        self.names: dict[Any, str] = {}
        for name, tensor in all_tensors(double):
            self.names.setdefault(geometry(tensor), name)
        self.stored: dict[str, Tensor] = {}
        self.known: dict[Any, str] = {}

    def name(self, tensor: Tensor, proposal: str) -> str:
        known = self.names.get(geometry(tensor)) if tensor.numel() else None
        if known is not None and known in self.originals:
            self.store(known, self.originals[known].detach())
            return known
        tensor = tensor.detach().cpu().contiguous()
        if tensor.is_floating_point() and torch.equal(tensor.float().double(), tensor.double()):
            tensor = tensor.float()
        key = tuple(tensor.shape), tensor.dtype, tensor.numpy().tobytes()
        if key not in self.known:
            name, count = f"folded.{proposal}", 1
            while name in self.stored:
                count += 1
                name = f"folded.{proposal}_{count}"
            self.store(name, tensor)
            self.known[key] = name
        return self.known[key]

    def store(self, name: str, tensor: Tensor) -> None:
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8):
            raise ExportError(f"{name}: tensors of {tensor.dtype} cannot be written")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ExportError(f"{name}: holds numbers that are not finite")
        if name not in self.stored:
            self.stored[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)


def graph_of(trace: Trace, free: Sequence[Sequence[int]], weights: Weights) -> dict[str, Any]:
    nodes = []
    for node in trace.nodes:
        entry: dict[str, Any] = {"op": node.op, "name": node.name or node.out.name}
        if node.inputs:
            entry["in"] = [value.name for value in node.inputs]
        entry["out"] = node.out.name
        if node.tensors:
            owner = node.out.name
            entry["tensors"] = {
                role: weights.name(tensor, owner if node.op == "constant" else f"{owner}.{role}")
                for role, tensor in node.tensors.items()
            }
        nodes.append(entry | attributes_as_json(node))
    shapes = [[None if i in axes else n for i, n in enumerate(x.shape)] for x, axes in zip(trace.examples, free)]
    return {
        "version": 1,
        "inputs": [{"name": v.name, "shape": shape} for v, shape in zip(trace.inputs, shapes)],
        "outputs": [{"name": name, "value": value.name} for name, value in trace.outputs],
        "nodes": nodes,
    }


def check_numbers(graph: dict[str, Any]) -> None:
    def walk(item: Any, where: str) -> None:
        if isinstance(item, float) and not math.isfinite(item):
            raise ExportError(f"{where}: the number {item} cannot be written")
        for part in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
            walk(part, where)

    for node in graph["nodes"]:
        walk(node, node["out"])


# --------------------------------------------------------------------------------------------------------- export


def named_inputs(module: nn.Module, examples: Any) -> tuple[list[Tensor], dict[str, Tensor], list[str]]:
    """Positional and keyword examples, and a name for each."""
    if isinstance(examples, Tensor):
        examples = (examples,)
    if isinstance(examples, Mapping):
        args, kwargs = [], dict(examples)
    else:
        args, kwargs = list(examples), {}
    for x in [*args, *kwargs.values()]:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ExportError(
                f"an input is {x.dtype if isinstance(x, Tensor) else type(x).__name__}; "
                "inputs must be floating-point tensors"
            )
        if not 1 <= x.ndim <= 5 or not x.numel():
            raise ExportError(
                f"an input has the extents {tuple(x.shape)}; one to five axes, none of them empty, are needed"
            )
    parameters = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    names = [parameters[i] if i < len(parameters) else f"input{i}" for i in range(len(args))]
    return args, kwargs, names + list(kwargs)


def doubled(module: nn.Module) -> nn.Module:
    """A copy in double precision."""
    memo = {}
    for part in module.modules():
        for item in vars(part).values():  # what hooks have computed cannot be copied otherwise
            if isinstance(item, Tensor) and item.grad_fn is not None:
                memo[id(item)] = item.detach().clone()
    try:
        return copy.deepcopy(module, memo).cpu().double()
    except Exception as error:  # a module may hold anything
        raise ExportError(f"{type(module).__name__}: cannot be copied: {error}") from error


def report(text: str) -> None:
    print(f"export: {text}")


ATTEMPTS = ("all", "batch", "map", "none")
KEPT = {"all": "", "batch": "height and width", "map": "batch", "none": "all extents"}


def export(
    module: nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    odconv_bn: str = "auto",
    sizes: str = "any",
    check: bool = True,
    say: Any = report,
) -> dict[str, Any]:
    """Writes the network that a module computes in eval mode, and returns its graph.

    The module is copied, brought to double precision and run several times: on ``example_inputs`` (a tensor, a tuple of
    tensors, or a dict of keyword arguments), and on inputs of another batch, height and width. Where the runs are not the
    same network, the extents of the inputs are fixed to the example's, and ``say`` gets a line that tells so. Where the
    code compares extents, a third run has odd ones; with ``sizes="alike"`` it is left out, and the network is right for
    extents for which the comparisons come out as for the example's, such as other multiples of 32.

    ``odconv_bn`` says whether ODConv layers use attention.bn: "yes", "no", or "auto", which looks at what forward calls.
    ``check`` runs the file (``kdna_torch.interpret``) on the same inputs in double precision and compares.

    Raises ExportError, and leaves no file, where the module uses what the file cannot express: an operation that is not in
    ``docs/graph-file.md``, control flow on values, assignment to parts of tensors, kernels that depend on the input in other
    than the known ways, outputs that are not tensors. The message names the module and the operation.
    """
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ExportError(f"{name or 'the module'}: a scripted module cannot be traced; export the original one")
    while isinstance(module, nn.DataParallel) or hasattr(module, "_orig_mod"):  # wrapped, or compiled
        module = module.module if isinstance(module, nn.DataParallel) else module._orig_mod
    args, kwargs, names = named_inputs(module, example_inputs)
    names = list(input_names) if input_names is not None else names
    if len(names) != len(args) + len(kwargs) or len(set(names)) != len(names):
        raise ExportError(f"{len(args) + len(kwargs)} inputs have the names {names}")
    if odconv_bn not in ("auto", "yes", "no"):
        raise ExportError(f"odconv_bn is {odconv_bn!r}; auto, yes or no")
    if sizes not in ("any", "alike"):
        raise ExportError(f"sizes is {sizes!r}; any or alike")
    double = doubled(module).eval()
    double.requires_grad_(False)
    examples = [x.detach().cpu().double() for x in (*args, *kwargs.values())]
    options: dict[str, Any] = {"odconv_bn": odconv_bn}

    def trace(xs: Sequence[Tensor], free: Sequence[Sequence[int]]) -> Trace:
        fresh = [x.clone() for x in xs]
        positional, keyword = fresh[: len(args)], dict(zip(kwargs, fresh[len(args) :]))
        made = trim(run(double, positional, keyword, names, free, options))
        made.examples = list(xs)
        return made

    reasons, first, second, free = [], None, None, []
    for axes in ATTEMPTS:
        free = [free_axes(x, axes) for x in examples]
        if axes != "none" and not any(free) or axes in ("batch", "map") and not any(x.ndim == 4 for x in examples):
            continue
        try:
            first = trace(examples, free)
        except ModuleFails:
            raise
        except ExportError as error:  # perhaps only because an extent is not known
            if axes == "none":
                raise
            reasons.append(str(error))
            continue
        why = None
        for step in (1, 2) if sizes == "any" else (1,):
            try:
                second = trace(other_example(examples, axes, step), free)
                why = difference(first, second)
            except ModuleFails as error:  # it does not take odd extents, or no others at all
                why = str(error) if step == 1 else None
            except ExportError as error:
                why = str(error)
            if why or not (first.concretised or second.concretised):
                break
        if why is None:
            if reasons:
                say(f"{KEPT[axes]} fixed to the example's: {reasons[0]}")
            break
        reasons.append(why)
    else:
        raise ExportError(reasons[-1])
    assert first is not None and second is not None
    if output_names is not None:
        if len(output_names) != len(first.outputs):
            raise ExportError(f"{len(first.outputs)} outputs, but {len(output_names)} names")
        for made in (first, second):
            made.outputs = [(name, value) for name, (_, value) in zip(output_names, made.outputs)]
    weights = Weights(module, double)
    graph = graph_of(first, free, weights)
    check_numbers(graph)
    write(
        Path(path),
        graph,
        weights.stored,
        lambda file: verify(file, double, first, second, args, kwargs) if check else None,
    )
    for note in sorted(options.get("notes", ())):
        say(note)
    return graph


def write(path: Path, graph: dict[str, Any], tensors: dict[str, Tensor], verify_file: Any) -> None:
    """The file appears under its name only when it has been checked."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        ordered = {name: tensors[name] for name in sorted(tensors)}
        save_file(ordered, temporary, {"kdna.graph": json.dumps(graph, separators=(",", ":"))})
        verify_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def verify(file: Path, double: nn.Module, first: Trace, second: Trace, args: Any, kwargs: Any) -> None:
    """Compares the file with the module itself at the example, and with what the trace computed at the other size."""
    network = Network(file)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), DoublePrecision():
            fresh = [x.clone() for x in first.examples]
            result = double(*fresh[: len(args)], **dict(zip(kwargs, fresh[len(args) :])))
    finally:
        torch.set_default_dtype(default)
    wanted = [tensor for _, tensor in flatten_outputs(result, "", type(double).__name__)]
    for trace, expected in ((first, wanted), (second, second.results)):
        found = network(trace.examples)
        for (name, _), want in zip(trace.outputs, expected):
            compare(name, found[name], want)


def compare(name: str, found: Tensor, want: Tensor) -> None:
    if found.shape != want.shape:
        raise ExportError(f"output {name} has the extents {tuple(found.shape)}, the module's {tuple(want.shape)}")
    if not torch.isfinite(want).all():
        raise ExportError(f"output {name} of the module holds numbers that are not finite for the example")
    error = relative_error(found, want)
    if not error <= TOLERANCE:
        raise ExportError(
            f"output {name} differs from the module's by {error:.2g} of its largest element: "
            "this is an error of the exporter, or the module is not the same function every time"
        )
