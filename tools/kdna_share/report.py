"""Measuring both networks, and one HTML page about them."""

from __future__ import annotations

import base64
import html
import io
import math
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convert import normalised_error, outputs
from .data import Images


@torch.no_grad()
def measure(original: nn.Module, student: nn.Module, images: Images, most: int = 10_000) -> dict[str, Any]:
    """What the converted network does on images that were held out.

    ``error``: mean square of the difference of the outputs, relative to their variance. Images as outputs: ``psnr`` against the
    original's, both clipped to 0..1, for each picture and their mean. Classes: ``agreement`` of the first choices, and with
    labels ``accuracy`` and ``accuracy_before``, all in per cent.
    """
    student.eval()
    result: dict[str, Any] = {"images": min(len(images), most)}
    if isinstance(images.items, list):
        batches = [images.whole(at) for at in range(result["images"])]
    else:
        batches = [images.finish(part) for part in images.items[:most].split(100)]
    errors, psnrs, same, right, before = [], [], 0, 0, 0
    labels = images.labels[:most].split(100) if images.labels is not None else [None] * len(batches)
    counted = 0
    for x, want_label in zip(batches, labels):
        want, found = outputs(original(x))[0].float(), outputs(student(x))[0].float()
        errors.append(normalised_error(found, want).item())
        if want.ndim == 4 and want.shape[1] in (1, 3):
            error = F.mse_loss(found.clamp(0, 1), want.clamp(0, 1)).item()
            psnrs.append(-10 * math.log10(max(error, 1e-12)))
            continue
        choice, other = want.argmax(1), found.argmax(1)
        same, counted = same + int((choice == other).sum()), counted + choice.numel()
        if want_label is not None:
            right, before = right + int((other == want_label).sum()), before + int((choice == want_label).sum())
    result["error"] = sum(errors) / len(errors)
    if psnrs:
        result["psnr"] = sum(psnrs) / len(psnrs)
        result["psnrs"] = dict(zip(images.names or [str(i) for i in range(len(psnrs))], psnrs))
    elif counted:
        result["agreement"] = 100 * same / counted
        if images.labels is not None:
            result |= {"accuracy": 100 * right / counted, "accuracy_before": 100 * before / counted}
    return result


def in_words(result: dict[str, Any]) -> str:
    parts = []
    if "accuracy" in result:
        parts.append(f"accuracy {result['accuracy_before']:.2f} % before, {result['accuracy']:.2f} % after")
    if "agreement" in result:
        parts.append(f"agreement {result['agreement']:.2f} %")
    if "psnr" in result:
        parts.append(f"PSNR {result['psnr']:.2f} dB")
    if "error" in result:
        parts.append(f"error {result['error']:.3g} of the output")
    return ", ".join(parts) + (f" on {result['images']} held-out images" if parts else "")


def run_library(program: Path, file: Path, net: nn.Module, x: Tensor, repeat: int = 20) -> dict[str, float]:
    """The median time of a run by examples/kdna_run, one thread, and the largest difference from PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "x.npy"), Path(folder, "y.npy")
        np.save(given, x.numpy())
        words = [program, "--model", file, "--input", given, "--output", made, "--repeat", str(repeat)]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        timed = re.search(r"median ([0-9.]+) ms", done.stdout)
        if done.returncode or not timed:
            raise OSError(f"{program}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
        found = torch.from_numpy(np.load(made))
    with torch.no_grad():
        want = outputs(net(x))[0]
    return {"ms": float(timed[1]), "error": ((found - want).abs().max() / want.abs().max()).item()}


def figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def heat_map(path: Path, names: list[str], values: np.ndarray) -> None:
    side = max(5.0, 0.16 * len(names) + 2)
    drawing = figure(side + 1, side)
    axes = drawing.subplots()
    shown = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    size = 7 if len(names) < 60 else 4
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    drawing.colorbar(shown, label="linear CKA", shrink=0.8)
    drawing.savefig(path, dpi=110)


def curves(state: dict[str, Any]) -> bytes:
    drawing = figure(8, 3)
    left, right = drawing.subplots(1, 2)
    if state.get("curve"):
        left.semilogy(*zip(*state["curve"]))
    left.set(xlabel="step of distillation", ylabel="error of the output")
    if state.get("tune_curve"):
        right.plot(*zip(*state["tune_curve"]))
    right.set(xlabel="epoch of fine-tuning", ylabel="loss")
    data = io.BytesIO()
    drawing.savefig(data, dpi=100)
    return data.getvalue()


def table(rows: list[list[Any]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(str(cell))}</th>" for cell in rows[0]) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows[1:]]
    return "<table>" + "\n".join(lines) + "</table>"


def image(data: bytes) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}">'


STYLE = "body{font:15px sans-serif;max-width:60em;margin:2em auto}td,th{padding:.2em .8em;text-align:left}img{max-width:100%}"


def page(
    options: dict[str, Any],
    plan: dict[str, Any],
    state: dict[str, Any],
    speeds: dict[str, Any],
    out: Path,
    extents: list[int],
) -> str:
    """The report. ``state`` is what convert has saved, ``speeds`` what run_library gave for both networks."""

    def change(what: str, before: float, after: float) -> list[Any]:
        return [
            what,
            f"{before:,.5g}" if before % 1 else f"{before:,.0f}",
            f"{after:,.5g}" if after % 1 else f"{after:,.0f}",
            f"{100 * (after / before - 1):+.1f} %",
        ]

    rows = [["", "original", "converted", "change"]]
    for key, what in (
        ("shared_layers", "parameters of the layers that may share"),
        ("parameters", "parameters"),
        ("multiply_adds_of_convolutions", "multiply-adds of the convolutions"),
    ):
        rows.append(change(what, plan[key]["before"], plan[key]["after"]))
    sizes = [(out / f"{name}.safetensors").stat().st_size for name in ("original", "converted")]
    rows.append(change("file, bytes", *sizes))
    if speeds:
        extent = "x".join(map(str, extents))
        rows.append(change(f"C++, one thread, {extent}, ms", speeds["original"]["ms"], speeds["converted"]["ms"]))
        rows.append(
            ["C++ beside PyTorch, largest relative difference", *(f"{speeds[n]['error']:.1e}" for n in speeds), ""]
        )
    stages = [["stage", "on held-out images"]]
    for key, what in (
        ("copied", "parents' kernels copied"),
        ("fitted", "fitted by least squares"),
        ("distilled", f"distilled, {state['step']} steps"),
        ("result", f"fine-tuned, {state.get('epoch', 0)} epochs"),
    ):
        if state.get(key):
            stages.append([what, in_words(state[key])])
    left = [["layer", "role", "left of the square of its output"]]
    roles = {layer["name"]: layer["role"] for layer in plan["layers"]}
    left += [[name, roles.get(name, ""), f"{value:.3f}"] for name, value in state.get("left", {}).items()]
    roles_table = [["layer", "kernel", "role"]] + [
        [x["name"], "x".join(map(str, x["kernel"])), x["role"]] for x in plan["layers"]
    ]
    single = state["result"].get("psnrs", {})
    parts = [
        f"<h1>{html.escape(str(options['module']))}: kernels shared</h1>",
        f"<p>{html.escape(in_words(state['result']))}. Conversion took {state['seconds']:.0f} s, seed {options['seed']}.</p>",
        table(rows),
        "<h2>Accuracy</h2>",
        table(stages),
        table([["picture", "PSNR, dB"], *([name, f"{value:.2f}"] for name, value in single.items())]) if single else "",
        "<h2>Training</h2>",
        image(curves(state)),
        "<h2>What least squares leave</h2><p>A parent's kernel and the factors of its children are fitted together to what the "
        "layers compute in the original network.</p>",
        table(left),
        "<h2>How alike the layers are</h2>",
        image((out / "map.png").read_bytes()) if (out / "map.png").exists() else "",
        "<h2>Plan</h2>",
        table(roles_table),
        "<h2>Options</h2>",
        table([["option", "value"], *([k, v] for k, v in options.items())]),
    ]
    title = html.escape(str(options["module"]))
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>\n' + "\n".join(parts) + "\n"
    )
