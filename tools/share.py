#!/usr/bin/env python3
"""Makes the convolutions of a trained network share kernels (docs/sharing.md).

    share.py map     --module torchvision.models:resnet34 --checkpoint F --data D --out DIR    how alike the layers are
    share.py plan    .. --keep 0.5                                                             which layers share
    share.py convert .. --steps 500 --epochs 3                                                 children, trained
    share.py report  .. --kdna-run PROGRAM                                                     a page about both networks
    share.py all     ..                                                                        one after the other

D is an .npy or .npz file (images [N, C, H, W] of bytes or floats, and labels [N] if it has them), or a folder of pictures.
DIR gets map.npz, map.png, plan.json (which may be edited), converted.safetensors, original.safetensors and report.html. A step
reads what the steps before it wrote; convert goes on where it was interrupted. Exit codes: 0 done, 2 refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from export import make_module
from kdna_share import report as reporting
from kdna_share.cka import cka
from kdna_share.convert import Progress, Settings, distil, outputs, start, tune, with_children
from kdna_share.data import DataError, held_out, read_images
from kdna_share.fit import fit_factors
from kdna_share.plain import with_plain_convolutions
from kdna_share.plan import PlanError, candidates, check_plan, describe, make_plan, survey
from kdna_torch import ExportError, export, parameter_count
from kdna_torch.checkpoint import CheckpointError, load_strictly, read_checkpoint
from kdna_torch.interpret import Network


class ShareError(ValueError):
    """A step cannot be done; the message says what is missing."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("map", "plan", "convert", "report", "all"))
    network = parser.add_argument_group("the network")
    network.add_argument("--module", required=True, metavar="MODULE:FUNCTION", help="torchvision.models:resnet34")
    network.add_argument(
        "--kwargs", type=json.loads, default={}, metavar="JSON", help='its arguments, {"num_classes": 10}'
    )
    network.add_argument("--checkpoint", type=Path, help="weights, .pt, .pth or .safetensors, loaded strictly")
    data = parser.add_argument_group("the data")
    data.add_argument("--data", type=Path, required=True, help="array or folder of pictures")
    data.add_argument("--test", type=Path, help="the same for measuring; otherwise every tenth image is held out")
    data.add_argument("--size", type=int, default=224, help="pictures: squares of this many pixels are cut out")
    data.add_argument("--mean", type=numbers, default=[0.0], help="subtracted from images of 0 to 1: 0.485,0.456,0.406")
    data.add_argument("--std", type=numbers, default=[1.0], help="what the images are then divided by")
    data.add_argument("--images", type=int, default=256, help="that the map and the start are computed from")
    plan = parser.add_argument_group("the plan")
    plan.add_argument("--keep", type=float, default=0.5, help="fraction of the shared layers' parameters that stays")
    plan.add_argument("--parents", type=int, default=0, help="at most so many parents")
    plan.add_argument("--rule", choices=("map", "order"), default="map", help="order: children before the next parent")
    plan.add_argument("--gate", type=int, default=4, help="gates have 1 / GATE of the channels; 0: none")
    train = parser.add_argument_group("training")
    defaults = Settings()
    train.add_argument("--steps", type=int, default=defaults.steps, help="of distillation, without labels")
    train.add_argument("--batch", type=int, default=defaults.batch, help="of distillation")
    train.add_argument("--rate", type=float, default=defaults.rate, help="learning rate of distillation")
    train.add_argument("--features", type=float, default=defaults.features, help="weight of the layers' outputs")
    train.add_argument("--epochs", type=int, default=defaults.epochs, help="of fine-tuning with labels")
    train.add_argument("--tune-batch", type=int, default=defaults.tune_batch)
    train.add_argument("--tune-rate", type=float, default=defaults.tune_rate)
    train.add_argument(
        "--teacher", type=float, default=defaults.teacher, help="weight of the original's outputs, 0 to 1"
    )
    train.add_argument("--no-augment", action="store_true", help="neither flip nor shift images")
    train.add_argument("--bf16", action="store_true", help="bfloat16 autocast while training")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument("--kdna-run", type=Path, help="examples/kdna_run, for the speed of both networks")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    if not 0 < args.keep <= 1 or not 0 <= args.teacher <= 1:
        parser.error("--keep lies between 0 and 1, and so does --teacher")
    if min(args.size, args.images, args.batch, args.tune_batch) < 1 or min(args.steps, args.epochs, args.gate) < 0:
        parser.error("sizes are positive; steps, epochs and --gate are not negative")
    return args


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def say(text: str) -> None:
    print(text, flush=True)


class Work:
    """What all steps need: the network, its layers and the images."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.out
        args.out.mkdir(parents=True, exist_ok=True)
        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        self.net = load_module(args).eval().requires_grad_(False)
        images = read_images(args.data, args.size, args.mean, args.std)
        if args.test:
            self.train, self.test = images, read_images(args.test, args.size, args.mean, args.std)
        else:
            self.train, self.test = held_out(images, 10)
        if not len(self.train):
            raise DataError(f"{args.data}: one image; at least one to train with and one to measure with are needed")
        self.example = self.train.random(1, self.rng(0), False)
        replaced = with_plain_convolutions(self.net, self.example)
        if replaced:
            say(f"{len(replaced)} layers pad by themselves, and are taken as Conv2d: {replaced[0]} to {replaced[-1]}")
        self.layers = survey(self.net, self.example)

    def rng(self, salt: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.args.seed * 1_000_003 + salt)

    def batches(self, batch: int = 32) -> list[Tensor]:
        """About ``--images`` random training images."""
        rng = self.rng(1)
        whole = not isinstance(self.train.items, list) and len(self.train) <= self.args.images
        if whole:
            parts = [part for part in torch.randperm(len(self.train), generator=rng).split(batch) if len(part) >= 4]
            return [self.train.draw(part, rng, False) for part in parts]
        return [self.train.random(batch, rng, False) for _ in range(-(-self.args.images // batch))]

    def file(self, name: str, step: str) -> Path:
        path = self.out / name
        if not path.exists():
            raise ShareError(f"{path} is missing: run share.py {step} first")
        return path

    def plan(self) -> tuple[dict[str, list[str]], int]:
        path = self.file("plan.json", "plan")
        try:
            return check_plan(json.loads(path.read_text()), self.layers)
        except json.JSONDecodeError as error:
            raise PlanError(f"{path}: {error}") from error


def load_module(args: argparse.Namespace) -> nn.Module:
    try:
        net = make_module(args.module, args.kwargs)
    except (ValueError, OSError, TypeError) as error:
        raise ShareError(f"--module {args.module}: {error}") from error
    if args.checkpoint:
        safe = args.checkpoint.suffix == ".safetensors"
        state = load_file(args.checkpoint) if safe else read_checkpoint(args.checkpoint, False, net.state_dict())
        load_strictly(net, {**counters(net), **state} if safe else state, args.checkpoint)
    return net


def counters(net: nn.Module) -> dict[str, Tensor]:
    """The batch norms' counters of batches, which a file need not have."""
    return {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}


def make_map(work: Work) -> None:
    names = [layer.name for layer in work.layers]
    batches = work.batches()
    say(f"map: {len(names)} convolutions, {sum(map(len, batches))} images in batches of {len(batches[0])}")
    begun = time.monotonic()
    once = [layer for layer in work.layers if layer.calls == 1]
    similarity = cka(work.net, [layer.conv for layer in once], batches)
    full = np.full((len(names), len(names)), np.nan)
    at = [names.index(layer.name) for layer in once]
    full[np.ix_(at, at)] = similarity.numpy()
    residual = np.full_like(full, np.nan)  # row: the layer, column: the parent
    for i, a in enumerate(work.layers):
        for j, b in enumerate(work.layers):
            if a.form == b.form:
                residual[i, j] = 0.0 if i == j else fit_factors(a.conv.weight, b.conv.weight, rounds=4).residual ** 0.5
    np.savez(work.out / "map.npz", names=np.array(names), cka=full, weight_residual=residual)
    reporting.heat_map(work.out / "map.png", names, full)
    pairs = np.tril(np.isfinite(residual), -1)
    if pairs.any():
        like, far = full[pairs], residual[pairs]
        say(
            f"map: {pairs.sum()} pairs of the same shape: CKA {np.nanmin(like):.2f} to {np.nanmax(like):.2f}, median "
            f"{np.nanmedian(like):.2f}; in weight space {far.min():.3f} to {far.max():.3f} of the norm is left"
        )
    say(f"map: {work.out / 'map.png'}, {time.monotonic() - begun:.0f} s")


def make_the_plan(work: Work) -> None:
    a, similarity = work.args, {}
    with np.load(work.file("map.npz", "map")) as stored:
        names, values = [str(n) for n in stored["names"]], stored["cka"]
    for i, x in enumerate(names):
        for j, y in enumerate(names):
            similarity[x, y] = 1.0 if i == j else float(np.nan_to_num(values[i, j]))
    if names != [layer.name for layer in work.layers]:
        raise ShareError(f"{work.out / 'map.npz'} is of another network: run share.py map again")
    parents = make_plan(work.layers, similarity, a.keep, a.rule, a.gate, a.parents)
    made = describe(work.layers, parents, a.rule, a.gate, parameter_count(work.net))
    (work.out / "plan.json").write_text(json.dumps(made, indent=1) + "\n")
    children, kept = sum(map(len, parents.values())), made["shared_layers"]["kept"]
    if kept > a.keep:
        say(
            f"plan: the budget cannot be met: {kept:.1%} of the shared layers' parameters stay, {a.keep:.1%} were asked for; "
            "--gate 0, or a larger one, saves more"
        )
    say(
        f"plan: {len(candidates(work.layers))} layers may share, {children} become children of {len(parents)} parents; "
        f"parameters of the shared layers {made['shared_layers']['before']:,} -> {made['shared_layers']['after']:,}, "
        f"of the network {made['parameters']['before']:,} -> {made['parameters']['after']:,}: {work.out / 'plan.json'}"
    )


def settings_of(a: argparse.Namespace) -> Settings:
    names = ("steps", "batch", "rate", "features", "epochs", "tune_batch", "tune_rate", "teacher", "seed")
    return Settings(**{name: getattr(a, name) for name in names}, half=a.bf16)


def convert(work: Work) -> None:
    a, (parents, reduction) = work.args, work.plan()
    settings, augment = settings_of(a), not a.no_augment
    if settings.epochs and work.train.labels is None:
        raise ShareError(f"--epochs {settings.epochs}: {a.data} has no labels")
    student = with_children(work.net, parents, reduction).requires_grad_(True)
    shared = [name for parent, children in parents.items() for name in (parent, *children)]
    progress = Progress(work.out / "progress.pt", say)
    begun, key = time.monotonic(), json.dumps([parents, reduction, vars(settings), augment, str(a.data)])
    if progress.resume(key):
        student.load_state_dict(progress.state["student"])
        say(f"convert: goes on at step {progress.state['step']}, epoch {progress.state.get('epoch', 0)}")
    else:
        first = reporting.measure(work.net, student, work.test) if shared else {}
        left = start(student, work.net, parents, work.batches(), a.seed)
        fitted = reporting.measure(work.net, student, work.test)
        progress.state = {
            "key": key,
            "step": 0,
            "student": student.state_dict(),
            "left": left,
            "copied": first,
            "fitted": fitted,
        }
        progress.state["start_seconds"] = time.monotonic() - begun
        if left:
            mean = sum(left.values()) / len(left)
            say(
                f"convert: least squares leave {mean:.3f} of the square of the shared layers' outputs; {reporting.in_words(fitted)}"
            )
    earlier = progress.state.get("seconds", 0.0)
    distil(
        student,
        work.net,
        shared,
        lambda step: work.train.random(a.batch, work.rng(2 + step), augment),
        settings,
        progress,
    )
    if "distilled" not in progress.state:
        progress.state["distilled"] = reporting.measure(work.net, student, work.test)
        say(f"convert: distilled; {reporting.in_words(progress.state['distilled'])}")

    def labelled(indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        rng = work.rng(10_000_000 + 100_000 * epoch + int(indices[0]))
        return work.train.draw(indices, rng, augment), work.train.labels[indices]

    tune(student, work.net, len(work.train), labelled, settings, progress)
    student.eval().requires_grad_(False)
    progress.state["seconds"] = earlier + time.monotonic() - begun
    progress.state["result"] = reporting.measure(work.net, student, work.test)
    progress.save(True)
    example = work.test.whole(0, 64)
    for net, name in ((work.net, "original"), (student, "converted")):
        path = work.out / f"{name}.safetensors"
        export(net, example, path)
        say(
            f"convert: {path}, {path.stat().st_size:,} bytes; differs from PyTorch by {loaded_error(path, net, example):.1e}"
        )
    say(f"convert: {reporting.in_words(progress.state['result'])}; {progress.state['seconds']:.0f} s")


def loaded_error(path: Path, net: nn.Module, x: Tensor) -> float:
    """The file is read back and run: the largest difference from the module, relative to the largest output."""
    with torch.no_grad():
        found, wanted = list(Network(path)([x]).values()), outputs(net(x))
    return max(((f - w).abs().max() / w.abs().max().clamp_min(1e-30)).item() for f, w in zip(found, wanted))


def report(work: Work) -> None:
    state = torch.load(work.file("progress.pt", "convert"), map_location="cpu", weights_only=True)
    work.file("converted.safetensors", "convert")
    plan = json.loads(work.file("plan.json", "plan").read_text())
    example, speeds = work.test.whole(0, 256), {}
    if work.args.kdna_run:
        parents, reduction = work.plan()
        student = with_children(work.net, parents, reduction)
        student.load_state_dict(state["student"])
        for name, net in (("original", work.net), ("converted", student.eval())):
            speeds[name] = reporting.run_library(work.args.kdna_run, work.out / f"{name}.safetensors", net, example)
            say(
                f"report: {name} in C++: {speeds[name]['ms']:.2f} ms, differs from PyTorch by {speeds[name]['error']:.1e}"
            )
    path = work.out / "report.html"
    path.write_text(reporting.page(vars(work.args), plan, state, speeds, work.out, list(example.shape)))
    say(f"report: {path}")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    steps = {"map": make_map, "plan": make_the_plan, "convert": convert, "report": report}
    try:
        work = Work(args)
        for name in steps if args.step == "all" else [args.step]:
            steps[name](work)
    except (ShareError, PlanError, DataError, CheckpointError, ExportError, OSError) as error:
        print(f"share: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
