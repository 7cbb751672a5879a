"""Running a module while every torch function on values that derive from its inputs is noted down.

``Tracer`` is a torch function mode. A tensor that derives from an input stands for a ``Value`` of the graph; any other
tensor is a constant. ``operations`` says which nodes a function becomes. A function that no node can express gives a
value that only remembers why: it is refused when an output of the network needs it, and not before.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .extents import Dim, Expr, Watch, lost, plain, remembering
from .interpret import compute
from .shape_rules import dims_of
from .values import ExportError, GraphNode, Inexpressible, ModuleFails, Opaque, Value


class Node:
    """What a registered function returns: an operation of the file on tensors or on other Nodes.

    ``inputs`` are the tensors that the layer was called with, or Nodes; ``tensors`` maps roles to the layer's tensors.
    """

    def __init__(self, op: str, inputs: Sequence[Any], tensors: dict[str, Tensor] | None = None, **attributes: Any):
        self.op, self.inputs, self.attributes = op, list(inputs), attributes
        self.tensors = {
            role: tensor.detach() if isinstance(tensor, nn.Parameter) else tensor
            for role, tensor in (tensors or {}).items()
            if tensor is not None
        }


@dataclass
class Trace:
    """What one run gave."""

    inputs: list[Value]
    outputs: list[tuple[str, Value]]
    nodes: list[GraphNode]
    results: list[Tensor] = field(default_factory=list)
    examples: list[Tensor] = field(default_factory=list)
    concretised: bool = False


def tensors_in(structure: Any) -> Iterator[Tensor]:
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for item in structure:
            yield from tensors_in(item)
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from tensors_in(item)


def map_leaves(structure: Any, function: Callable[[Any], Any]) -> Any:
    """Containers of the same kind with ``function`` of what they hold; a torch.Size becomes a tuple."""
    if isinstance(structure, torch.Size):
        return tuple(function(item) for item in structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_leaves(item, function) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_leaves(item, function) for item in structure)
    if isinstance(structure, slice):
        return slice(*(function(part) for part in (structure.start, structure.stop, structure.step)))
    if isinstance(structure, dict):
        return {key: map_leaves(item, function) for key, item in structure.items()}
    return function(structure)


def without_expressions(structure: Any) -> Any:
    return map_leaves(structure, plain)


CASTS = {"float", "double", "half", "bfloat16", "to", "type", "type_as"}
PLAIN_FACTS = {
    "dim",
    "ndimension",
    "stride",
    "is_contiguous",
    "is_floating_point",
    "is_complex",
    "element_size",
    "data_ptr",
    "storage_offset",
    "get_device",
    "is_conj",
    "is_neg",
    "is_inference",
    "_is_view",
    "untyped_storage",
    "is_tensor",
    "__repr__",
    "__format__",
    "__str__",
    "has_names",
    "is_same_size",
    "is_shared",
    "result_type",
    "can_cast",
    "is_signed",
    "__hash__",
    "names",
    "__dir__",
    "_is_zerotensor",
    "register_hook",
    "is_pinned",
}
READS_VALUES = {
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__complex__",
    "item",
    "tolist",
    "numpy",
    "__array__",
    "allclose",
    "equal",
    "__contains__",
    "is_nonzero",
    "nonzero",
    "unique",
    "bincount",
    "__reversed__",
    "argwhere",
}


MAKES_CONSTANTS = {
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
}


def target_dtype(args: Sequence[Any], kwargs: dict[str, Any]) -> torch.dtype | None:
    """The dtype that to(), type() or type_as() asks for, None if no other one."""
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, torch.dtype):
            return arg
        if isinstance(arg, Tensor):
            return arg.dtype
        if isinstance(arg, str) and "Tensor" in arg:
            return torch.float64 if any(f in arg for f in ("Float", "Double", "Half")) else torch.int64
    return None


def stays_float(name: str, source: torch.dtype, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a cast only changes the precision of floating-point numbers."""
    if not source.is_floating_point:
        return False
    if name not in ("to", "type", "type_as"):
        return True
    target = target_dtype(args, kwargs)
    return target is None or target.is_floating_point


class DoublePrecision(TorchFunctionMode):
    """A module runs in double precision throughout: casts between floating-point types do nothing, and what meets a double
    becomes one, such as tensors that are no buffers of their module."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: dict[int, tuple[Tensor, int, Tensor]] = {}

    def raise_all(self, structure: Any) -> Any:
        """The structure with all floating-point tensors in double precision, if one of them is."""
        tensors = [x for x in tensors_in(structure) if x.is_floating_point()]
        if len({x.dtype for x in tensors}) < 2 or not any(x.dtype == torch.float64 for x in tensors):
            return structure
        return map_leaves(structure, lambda x: self.raise_one(x) if isinstance(x, Tensor) else x)

    def raise_one(self, x: Tensor) -> Tensor:
        if not x.is_floating_point() or x.dtype == torch.float64:
            return x
        known = self.raised.get(id(x))
        if known is None or known[1] != x._version:
            self.raised[id(x)] = known = (x, x._version, x.double())
        return known[2]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in CASTS and args and isinstance(args[0], Tensor) and (len(args) > 1 or kwargs or name != "type"):
            if stays_float(name, args[0].dtype, args[1:], kwargs):
                return args[0]
            target = {"float": torch.float64, "half": torch.float64, "bfloat16": torch.float64}.get(name)
            target = target or (target_dtype(args[1:], kwargs) if name != "double" else None)
            if target is not None and target.is_floating_point:
                return args[0].double()
        args, kwargs = self.raise_all((args, kwargs))
        return func(*args, **kwargs)


Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}
LAYERS: dict[str, Callable[..., Any]] = {}


class Tracer(TorchFunctionMode):
    """Notes down the graph of one run of ``module``; see ``run``."""

    def __init__(self, module: nn.Module, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.module, self.options = module, options or {}
        self.nodes: list[GraphNode] = []
        self.made_by: dict[str, GraphNode] = {}
        self.names: set[str] = set()
        self.tracked: dict[int, tuple[weakref.ref[Tensor], Value]] = {}
        self.constants: dict[int, tuple[Tensor, Value]] = {}
        self.products: dict[int, tuple[Tensor, str, Any, Any]] = {}  # constants made by mul and add
        self.module_names = {id(m): name for name, m in reversed(list(module.named_modules(remove_duplicate=False)))}
        self.stack: list[nn.Module] = []
        self.one = torch.ones(1, dtype=torch.float64)
        self.quiet = 0
        self.failed = ""  # the innermost module that raised an exception
        self.notes: list[str] = []
        self.double = DoublePrecision()
        self.parameters = {}
        for name, tensor in all_tensors(module):
            self.parameters.setdefault(geometry(tensor), name)

    # ------------------------------------------------------------------------------------------------ tensors

    def find(self, tensor: Any) -> Value | None:
        """The value that a tensor stands for; None for a constant."""
        entry = self.tracked.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def bind(self, tensor: Tensor, value: Value) -> None:
        if not value.reason and tuple(tensor.shape) != tuple(map(plain, value.dims)):
            found, expected = tuple(tensor.shape), tuple(map(plain, value.dims))
            raise ExportError(f"{self.where()}: {value.name} has the extents {found}, the graph says {expected}")
        key = id(tensor)

        def forget(dead: weakref.ref[Tensor]) -> None:
            if self.tracked.get(key, (None,))[0] is dead:
                del self.tracked[key]

        self.tracked[key] = (weakref.ref(tensor, forget), value)

    def bind_all(self, result: Any, values: Any) -> None:
        if isinstance(result, Tensor):
            self.bind(result, values)
        elif isinstance(result, (list, tuple)):
            if not isinstance(values, (list, tuple)) or len(values) != len(result):
                raise ExportError(f"{self.where()}: {len(result)} results, the graph has {values}")
            for item, value in zip(result, values):
                self.bind_all(item, value)

    def is_tracked(self, structure: Any) -> bool:
        return any(self.find(tensor) is not None for tensor in tensors_in(structure))

    def value(self, x: Any) -> Value:
        """The value of a tensor; a constant becomes a node of its own."""
        if isinstance(x, Value):
            return x
        found = self.find(x)
        if found is not None:
            return found
        if not isinstance(x, Tensor):
            raise ExportError(f"{self.where()}: {type(x).__name__} where a tensor was expected")
        if not x.is_floating_point():
            x = x.double() if x.dtype in (torch.int64, torch.int32, torch.uint8, torch.int16, torch.int8) else x
        key = id(x)
        if key not in self.constants:
            name = self.parameters.get(geometry(x)) or self.fresh("constant")
            made = self.emit("constant", [], {"value": x}, out=self.unique(name))
            self.constants[key] = (x, made)
        return self.constants[key][1]

    def constant(self, x: Tensor | None, what: str) -> Tensor | None:
        """A tensor of weights, which must not depend on the inputs."""
        if x is not None and self.find(x) is not None:
            raise Inexpressible(f"{what} depends on the input of the network")
        return x

    # -------------------------------------------------------------------------------------------------- names

    def where(self) -> str:
        name = self.module_names.get(id(self.stack[-1]), "") if self.stack else ""
        kind = type(self.stack[-1]).__name__ if self.stack else type(self.module).__name__
        return f"{name} ({kind})" if name else kind

    def fresh(self, op: str) -> str:
        """A name for what an operation of the running module makes."""
        top = self.stack[-1] if self.stack else self.module
        name = self.module_names.get(id(top), "")
        simple = type(top).__module__.startswith("torch.nn.") and not any(True for _ in top.children())
        return name if name and simple else f"{name}.{op}" if name else op

    def unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self.names:
            count += 1
            candidate = f"{name}_{count}"
        self.names.add(candidate)
        return candidate

    # --------------------------------------------------------------------------------------------------- nodes

    def emit(
        self,
        op: str,
        inputs: Sequence[Any],
        tensors: dict[str, Tensor | None] | None = None,
        *,
        out: str | None = None,
        **attributes: Any,
    ) -> Value:
        """Adds a node and gives its value."""
        values = [self.value(x) for x in inputs]
        for value in values:
            if value.reason:
                raise Inexpressible(value.reason)
            if value.base is not None:
                raise Inexpressible(f"{op} of a value of {len(value.dims)} axes; the file has one to five")
        given = {role: tensor for role, tensor in (tensors or {}).items() if tensor is not None}
        for role, tensor in given.items():
            if self.find(tensor) is not None:
                raise Inexpressible(f"the {role} of {op} depends on the input of the network")
        dims = dims_of(op, values, given, attributes)
        label = attributes.get("kind", op) if op == "activation" else op
        name = out or self.unique(self.fresh(label))
        if not 1 <= len(dims) <= 5:
            raise Inexpressible(f"{op} makes a value of {len(dims)} axes; the file has one to five")
        filled = tuple(Dim.make(d.value, ("dim", name, i)) if isinstance(d, Opaque) else d for i, d in enumerate(dims))
        value = Value(name, filled)
        node = GraphNode(op, self.label(), values, value, given, attributes)
        self.nodes.append(node)
        self.made_by[name] = node
        return value

    def label(self) -> str:
        return self.module_names.get(id(self.stack[-1]), "") if self.stack else ""

    def inexpressible(self, why: str) -> Value:
        return Value(self.unique("inexpressible"), (), f"{self.where()}: {why}")

    # --------------------------------------------------------------------------------------------- functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.quiet:
            return self.run_plain(func, args, kwargs)
        name = getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__", "__delete__"):
            return self.descriptor(func, name, args, kwargs)
        if not self.is_tracked(args) and not self.is_tracked(kwargs):
            return self.on_constants(func, name, args, kwargs)
        with torch._C.DisableTorchFunction():
            args, kwargs = self.double.raise_all((args, kwargs))
        return self.on_values(func, name, args, kwargs)

    def run_plain(self, func: Any, args: Any, kwargs: Any) -> Any:
        return self.double.__torch_function__(func, (), without_expressions(args), without_expressions(kwargs))

    def descriptor(self, func: Any, kind: str, args: Any, kwargs: Any) -> Any:
        attribute, value = getattr(func.__self__, "__name__", ""), self.find(args[0])
        if value is None or kind != "__get__":
            if value is not None or self.is_tracked(args):
                raise ExportError(f"{self.where()}: assigns {attribute} of a tensor that depends on the input")
            return func(*args, **kwargs)
        if attribute == "shape":
            return self.extents(args[0])
        if attribute in ("T", "mT", "H", "mH", "data", "real"):
            return self.on_values(func, attribute, args, kwargs)
        return func(*args, **kwargs)

    def extents(self, x: Tensor) -> torch.Size:
        value = self.find(x)
        if value is None or value.reason:
            return torch.Size(x.shape)
        return torch.Size(value.dims)

    def on_constants(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        result = self.run_plain(func, args, kwargs)
        operation = {"__mul__": "mul", "__rmul__": "mul", "__add__": "add", "__radd__": "add"}.get(name, name)
        if operation in ("mul", "add") and isinstance(result, Tensor) and len(args) == 2 and not kwargs:
            self.products[id(result)] = (result, operation, args[0], args[1])
        return result

    def on_values(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if name in READS_VALUES:
            raise ExportError(
                f"{self.where()}: {name} reads the values of a tensor that depends on the input; "
                "the file has no control flow"
            )
        if name in PLAIN_FACTS:
            return func(*args, **kwargs)
        if name == "size":
            dims, axis = self.extents(args[0]), kwargs.get("dim", args[1] if len(args) > 1 else None)
            return dims if axis is None else dims[axis]
        if name == "__len__":
            return lost(self.extents(args[0])[0])
        if name in ("numel", "nelement"):
            total: int = 1
            for extent in self.extents(args[0]):
                total = extent * total
            return total
        if name in ("__iter__",):
            return iter(self.on_values(torch.unbind, "unbind", args, {}))
        if name in MAKES_CONSTANTS:
            return self.run_plain(func, args, kwargs)
        if kwargs.get("out") is not None:
            raise ExportError(f"{self.where()}: {name} with out= is not supported")
        kwargs = {key: item for key, item in kwargs.items() if key != "out"}
        if not args:
            first = "input" if "input" in kwargs else next(iter(kwargs))
            args = (kwargs[first],)
            kwargs = {key: item for key, item in kwargs.items() if key != first}
        operation, in_place = name, False
        if name.startswith("__i") and name.endswith("__") and name not in ("__invert__",):
            operation, in_place = f"__{name[3:]}", True
        elif name.endswith("_") and not name.endswith("__"):
            operation, in_place = name[:-1], True
        in_place = in_place or kwargs.get("inplace") is True
        if name == "__setitem__":
            raise ExportError(f"{self.where()}: assigning to a part of a tensor is not supported")
        if in_place and self.find(args[0]) is None:
            raise ExportError(f"{self.where()}: {name} writes what depends on the input into a constant")
        if operation in CASTS and stays_float(operation, args[0].dtype, args[1:], kwargs):
            if len(args) > 1 or kwargs or operation != "type":
                return args[0]
        values = self.handle(operation, func, args, kwargs)
        if in_place:
            return self.run_in_place(func, args, kwargs, values)
        result = self.run_plain(func, args, kwargs)
        made = list(tensors_in(result))
        if not made:
            raise ExportError(f"{self.where()}: {name} reads a tensor that depends on the input")
        if isinstance(values, Value) and values.reason:
            for tensor in made:
                self.bind(tensor, values)
        else:
            self.bind_all(result, values)
        return result

    def handle(self, operation: str, func: Any, args: Any, kwargs: Any) -> Any:
        for tensor in tensors_in((args, kwargs)):
            value = self.find(tensor)
            if value is not None and value.reason:
                return value
        handler = HANDLERS.get(operation) or HANDLERS.get(operation.strip("_"))
        if handler is None:
            return self.inexpressible(f"no operation of the file is {operation}")
        try:
            return handler(self, *args, **kwargs)
        except Inexpressible as why:
            return self.inexpressible(f"{operation}: {why}")
        except TypeError as error:
            if "argument" not in str(error):
                raise
            return self.inexpressible(f"{operation}: {error}")

    def run_in_place(self, func: Any, args: Any, kwargs: Any, values: Any) -> Any:
        """Runs an in-place function; other tensors over the same memory change their values as well."""
        target = args[0]
        storage, shape = target.untyped_storage()._cdata, geometry(target)
        aliases = []
        for reference, _ in list(self.tracked.values()):
            other = reference()
            if other is not None and other is not target and other.untyped_storage()._cdata == storage:
                aliases.append(other)
        result = self.run_plain(func, args, kwargs)
        self.bind(target, values)
        if isinstance(result, Tensor) and result is not target:
            self.bind(result, values)
        for other in aliases:
            same = geometry(other) == shape
            self.bind(other, values if same else self.inexpressible("a tensor was changed in place through a view"))
        return result

    # ------------------------------------------------------------------------------------------------ layers

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    def call(self, original: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """nn.Module.__call__ while tracing."""
        if self.quiet:
            return original(module, *args, **kwargs)
        self.stack.append(module)
        try:
            if self.is_tracked(args) or self.is_tracked(kwargs):
                for kind in type(module).__mro__:
                    if kind.__name__ in LAYERS:
                        described = self.describe(kind.__name__, module, args, kwargs)
                        if described is not None:
                            return self.call_layer(original, module, args, kwargs, described)
                        break
            return original(module, *args, **kwargs)
        except Exception:
            self.failed = self.failed or self.where()
            raise
        finally:
            self.stack.pop()

    def describe(self, kind: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
        try:
            with self.quietly():
                return LAYERS[kind](self, module, *args, **kwargs)
        except Inexpressible as why:
            raise ExportError(f"{self.where()}: {why}") from None

    def call_layer(self, original: Any, module: nn.Module, args: Any, kwargs: Any, described: Any) -> Any:
        inputs = [(x, x._version) for x in tensors_in((args, kwargs)) if self.find(x) is not None]
        with self.quietly():
            result = original(module, *args, **kwargs)

            def evaluate(node: Any) -> Tensor:
                if isinstance(node, Tensor):
                    return node
                operands = [evaluate(x) for x in node.inputs]
                return compute(node.op, operands, node.tensors, without_expressions(node.attributes))

            expected, found = (
                list(tensors_in(result)),
                described if isinstance(described, (list, tuple)) else [described],
            )
            if len(expected) != len(found):
                raise ExportError(
                    f"{self.where()}: {len(expected)} outputs, the registered function gives {len(found)}"
                )
            for want, node in zip(expected, found):
                have = evaluate(node)
                if not torch.isfinite(want).all():
                    raise ExportError(f"{self.where()}: gives numbers that are not finite for the example")
                error = relative_error(have, want)
                if not error <= 1e-9:
                    raise ExportError(
                        f"{self.where()}: forward does not compute what its export as "
                        f"{describe_node(node)} says: the relative difference is {error:.2g}"
                    )
        if any(x._version != version for x, version in inputs):
            raise ExportError(f"{self.where()}: forward changes its input in place")
        built: dict[int, Value] = {}
        for tensor, node in zip(expected, found):
            self.bind(tensor, self.build(node, built))
        return result

    def build(self, node: Any, built: dict[int, Value]) -> Value:
        """Emits a Node and those that it reads, each once; ``built`` are those that have been, by id."""
        if isinstance(node, Tensor):
            return self.value(node)
        if id(node) not in built:
            inputs = [self.build(x, built) for x in node.inputs]
            built[id(node)] = self.emit(node.op, inputs, node.tensors, **node.attributes)
        return built[id(node)]


def relative_error(have: Tensor, want: Tensor) -> float:
    """The largest difference, divided by the largest element; infinite where the extents differ."""
    if have.shape != want.shape:
        return math.inf
    if not want.numel():
        return 0.0
    return (have - want).abs().max().item() / max(want.abs().max().item(), 1e-300)


def describe_node(node: Any) -> str:
    return f"{node.op} {node.attributes.get('method', '')}".strip() if isinstance(node, Node) else "its input"


def geometry(x: Tensor) -> tuple[Any, ...]:
    """Which elements of which memory a tensor shows."""
    return x.data_ptr(), tuple(x.shape), tuple(x.stride()), x.dtype


def all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their state_dict's names, those of buffers that are not kept last."""
    kept = set(module.state_dict(keep_vars=True))
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    yield from ((name, tensor) for name, tensor in named if name in kept)
    yield from ((name, tensor) for name, tensor in named if name not in kept)


@contextlib.contextmanager
def tracing(tracer: Tracer) -> Iterator[None]:
    """nn.Module.__call__ reports to the tracer."""
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return tracer.call(original, module, args, kwargs)

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        with tracer:
            yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


def package_roots(module: nn.Module) -> set[str]:
    names = {type(m).__module__ for m in module.modules()} | {"__main__"}
    return names | {name.partition(".")[0] for name in names}


def flatten_outputs(structure: Any, name: str, where: str) -> list[tuple[str, Tensor]]:
    """Tensors of a nested output with their names; refuses what is neither a tensor nor a container nor None."""
    if isinstance(structure, Tensor):
        return [(name or "output", structure)]
    join = f"{name}." if name else ""
    if isinstance(structure, dict):
        parts = [(str(key), item) for key, item in structure.items()]
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        parts = list(zip(structure._fields, structure))
    elif isinstance(structure, (list, tuple)):
        parts = [(str(i) if name else f"output.{i}", item) for i, item in enumerate(structure)]
    elif structure is None:
        return []
    else:
        raise ExportError(
            f"{where}: an output is a {type(structure).__name__}; outputs must be tensors, "
            "or tuples, lists and dicts of them"
        )
    return [pair for key, item in parts for pair in flatten_outputs(item, join + key, where)]


def constant_output(tracer: Tracer, tensor: Tensor, name: str) -> Value:
    try:
        return tracer.value(tensor)
    except Inexpressible as why:
        raise ExportError(f"output {name}: {why}") from None


def run(
    module: nn.Module,
    args: Sequence[Tensor],
    kwargs: dict[str, Tensor],
    names: Sequence[str],
    free: Sequence[Sequence[int]],
    options: dict[str, Any],
) -> Trace:
    """Traces a module in double precision; ``free`` says which axes of each input may have any extent."""
    tracer = Tracer(module, options)
    Watch.concretised = False
    values = []
    for name, x, axes in zip(names, [*args, *kwargs.values()], free):
        name = tracer.unique(name)
        dims: list[Expr] = [Dim.make(n, ("dim", name, i)) if i in axes else n for i, n in enumerate(x.shape)]
        values.append(Value(name, tuple(dims)))
        tracer.bind(x, values[-1])
    tracer.examples = [*args, *kwargs.values()]  # kept alive
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), remembering(package_roots(module)), tracing(tracer):
            result = module(*args, **kwargs)
    except ExportError:
        raise
    except Exception as error:  # whatever the module raises
        reason = (str(error).splitlines() or [""])[0]
        raise ModuleFails(f"{tracer.failed or type(module).__name__}: {type(error).__name__}: {reason}") from error
    finally:
        torch.set_default_dtype(default)
    kind = type(module).__name__
    outputs, results = [], []
    for name, tensor in flatten_outputs(result, "", kind):
        value = tracer.find(tensor)
        value = constant_output(tracer, tensor, name) if value is None else value
        if value.reason or value.base is not None:
            raise ExportError(value.reason or f"output {name} has {len(value.dims)} axes; the file has one to five")
        outputs.append((name, value))
        results.append(tensor.detach().clone())
    if not outputs:
        raise ExportError(f"{kind}: gives no tensor")
    options.setdefault("notes", set()).update(tracer.notes)
    return Trace(values, outputs, tracer.nodes, results, tracer.examples, Watch.concretised)
