#!/usr/bin/env python3
"""Writes a PyTorch checkpoint, or a whole network with its graph, as .safetensors.

    export.py CHECKPOINT OUTPUT [--arch NAME]
    export.py --module PACKAGE.MODULE:FUNCTION [--kwargs JSON] [--checkpoint FILE] --input 1x3x224x224 -o OUTPUT

The first form writes the tensors of a checkpoint: a state_dict, or a dict with one inside under state_dict,
model_state_dict, model, net or state_dict_ema. The prefixes _orig_mod., module. and model. are dropped where all keys
have them. A parent kernel is stored once.

The second form calls FUNCTION (or a class), which must give a module, loads the checkpoint into it, traces it on random
inputs and writes a network file (docs/graph-file.md). Every --input is an input of the module, by position or as
NAME=EXTENTS. Exit codes: 0 written, 2 refused.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from kdna_torch import ARCHS, ExportError, build, export
from kdna_torch.checkpoint import CheckpointError, check_layout, load_strictly, read_checkpoint


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", metavar="CHECKPOINT", help=".pt or .pth")
    parser.add_argument("target", type=Path, nargs="?", metavar="OUTPUT", help=".safetensors")
    parser.add_argument("--arch", choices=sorted(ARCHS), help="check keys, shapes and dtypes against this network")
    parser.add_argument("--allow-pickle", action="store_true", help="read files that need full unpickling (runs code)")
    network = parser.add_argument_group("a network with its graph")
    network.add_argument(
        "--module", metavar="MODULE:FUNCTION", help="what makes the module, torchvision.models:resnet50"
    )
    network.add_argument(
        "--kwargs", type=json.loads, default={}, metavar="JSON", help='its arguments, {"num_classes": 10}'
    )
    network.add_argument("--checkpoint", type=Path, help="weights, loaded strictly")
    network.add_argument(
        "--input", action="append", default=[], metavar="[NAME=]1x3x224x224", help="extents of an input"
    )
    network.add_argument("-o", "--output", type=Path, help=".safetensors")
    network.add_argument(
        "--odconv-bn", choices=("auto", "yes", "no"), default="auto", help="whether ODConv uses attention.bn"
    )
    network.add_argument(
        "--sizes",
        choices=("any", "alike"),
        default="any",
        help="alike: do not try odd extents where the code compares extents",
    )
    network.add_argument("--no-check", action="store_true", help="do not compare the file with the module")
    args = parser.parse_args(argv)
    if args.module:
        if args.source or args.arch or not args.input or not args.output:
            parser.error("--module needs --input and -o, and takes a checkpoint by --checkpoint")
    elif not args.target or args.input or args.output or args.checkpoint or args.kwargs:
        parser.error("CHECKPOINT and OUTPUT, or --module with --input and -o, are needed")
    return args


def export_checkpoint(args: argparse.Namespace) -> str:
    net = None
    if args.arch:
        with torch.device("meta"):
            net = build(args.arch)
    state = read_checkpoint(args.source, args.allow_pickle, net.state_dict() if net else None)
    storages = {(t.untyped_storage().data_ptr(), t.storage_offset()) for t in state.values() if t.numel()}
    if len(storages) != sum(t.numel() > 0 for t in state.values()):
        raise CheckpointError(f"{args.source}: two keys share one tensor; the file format holds each only once")
    if net:
        check_layout(state, net)
    ordered = {key: state[key].clone(memory_format=torch.contiguous_format) for key in sorted(state)}
    save_file(ordered, args.target)
    elements = sum(t.numel() for t in ordered.values())
    return f"{args.target}: {len(ordered)} tensors, {elements} elements, {args.target.stat().st_size} bytes"


def make_module(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """The module that "package.module:function" makes; a name of the current folder will do as well."""
    package, colon, attribute = name.partition(":")
    if not colon:
        raise ExportError(f"--module {name}: PACKAGE.MODULE:FUNCTION is needed")
    sys.path.insert(0, "")
    try:
        made: Any = importlib.import_module(package)
        for part in attribute.split("."):
            made = getattr(made, part)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"--module {name}: {error}") from error
    if not isinstance(made, nn.Module):
        made = made(**kwargs)
    if not isinstance(made, nn.Module):
        raise ExportError(f"--module {name}: gives a {type(made).__name__}, not a module")
    return made


def example_inputs(given: list[str]) -> tuple[Any, list[str] | None]:
    """Random tensors of the given extents: a tuple, or a dict where they have names."""
    rng, tensors, names = torch.Generator().manual_seed(0), [], []
    for text in given:
        name, _, extents = text.rpartition("=")
        try:
            shape = [int(n) for n in extents.split("x")]
        except ValueError:
            raise ExportError(f"--input {text}: extents like 1x3x224x224 are needed") from None
        tensors.append(torch.randn(shape, generator=rng))
        names.append(name)
    if any(names):
        if not all(names):
            raise ExportError("--input: either all inputs have names, or none")
        return dict(zip(names, tensors)), names
    return tuple(tensors), None


def export_network(args: argparse.Namespace) -> str:
    module = make_module(args.module, args.kwargs)
    if args.checkpoint:
        state = read_checkpoint(args.checkpoint, args.allow_pickle, module.state_dict())
        load_strictly(module, state, args.checkpoint)
    examples, names = example_inputs(args.input)
    graph = export(
        module,
        examples,
        args.output,
        input_names=names,
        odconv_bn=args.odconv_bn,
        sizes=args.sizes,
        check=not args.no_check,
    )
    inputs = ", ".join(
        f"{i['name']} {'x'.join('*' if n is None else str(n) for n in i['shape'])}" for i in graph["inputs"]
    )
    outputs = ", ".join(o["name"] for o in graph["outputs"])
    return f"{args.output}: {len(graph['nodes'])} nodes, {inputs} -> {outputs}, {args.output.stat().st_size} bytes"


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        print(export_network(args) if args.module else export_checkpoint(args))
    except (CheckpointError, ExportError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
