#!/usr/bin/env python3
"""Checks of kdna_share: similarity, least squares, plans, children and their export, data, ncnn files, and the whole tool.

    python test_share.py      or      pytest test_share.py

With KDNA_RUN=PROGRAM the whole tool's network is also run by that program (examples/kdna_run.cpp).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, safe_open
from torch import Tensor, nn

import share
from kdna_share import ncnn_file
from kdna_share.child import ChildConv2d
from kdna_share.cka import cka, gram, hsic_1, normalised
from kdna_share.convert import start, with_children
from kdna_share.data import DataError, held_out, read_images
from kdna_share.fit import fit_factors, fit_group, left_over, moments, patches
from kdna_share.plain import with_plain_convolutions
from kdna_share.plan import PlanError, candidates, check_plan, cost, describe, make_plan, survey
from kdna_torch import export, parameter_count
from kdna_torch.interpret import Network

torch.set_num_threads(1)  # the layers are small


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def refused(kind: type[Exception], words: str, action: Callable[..., Any], *args: Any) -> None:
    try:
        action(*args)
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"not refused: {words}")


class Chain(nn.Module):
    """A stem, a strided layer, and four 3x3 and two 1x1 layers that may share, with batch norms far from identity."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, 2, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=at % 2 == 0) for at in range(4))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.points = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.fc = nn.Linear(width, classes)
        for bn in self.bns:
            nn.init.uniform_(bn.weight, 0.5, 1.5)
            nn.init.normal_(bn.bias, 0, 0.3)
            nn.init.normal_(bn.running_mean, 0, 0.3)
            nn.init.uniform_(bn.running_var, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.down(F.relu(self.stem(x))))
        for conv, bn in zip(self.convs, self.bns):
            x = F.relu(bn(conv(x)))
        x = self.depthwise(x)
        for point in self.points:
            x = F.relu(point(x))
        return self.fc(x.mean((2, 3)))


THREES = [f"convs.{i}" for i in range(4)]


# ------------------------------------------------------------------------------------------------------ similarity


def direct_hsic(k: Tensor, other: Tensor) -> float:
    """HSIC_1 by its definition: means over different indices, computed without any matrix identity."""
    n, total = len(k), 0.0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += float(k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]))
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_hsic_is_the_mean_over_different_indices() -> None:
    x, y = noise(6, 5), noise(6, 4, seed=1)
    grams = torch.stack([gram(x), gram(y)])
    found = hsic_1(grams)
    for i in range(2):
        for j in range(2):
            assert math.isclose(float(found[i, j]), direct_hsic(grams[i], grams[j]), rel_tol=1e-6), (found, i, j)
    refused(ValueError, "needs four", hsic_1, grams[:, :3, :3])


def test_cka_of_known_cases() -> None:
    x = noise(40, 12)
    turned = x @ torch.linalg.qr(noise(12, 12, seed=2))[0] * 3 + 5  # linear CKA sees neither rotation, scale nor shift
    other = noise(40, 12, seed=3)
    found = normalised(hsic_1(torch.stack([gram(x), gram(turned), gram(other), gram(torch.ones(40, 3))])))
    assert abs(float(found[0, 1]) - 1) < 1e-5
    assert abs(float(found[0, 2])) < 0.15  # independent: unbiased, so near zero although there are few images
    assert float(found[3].abs().max()) < 1e-6
    assert torch.allclose(found, found.T)


def test_cka_of_batches_is_near_that_of_all() -> None:
    net = Chain().eval()
    x = noise(96, 3, 12, 12)
    layers = [net.convs[0], net.convs[3]]
    whole, parts = cka(net, layers, [x]), cka(net, layers, x.split(24))
    assert abs(float(whole[0, 1] - parts[0, 1])) < 0.05
    assert not net.convs[0]._forward_hooks


# -------------------------------------------------------------------------------------------------- least squares


def test_factors_are_found_again() -> None:
    parent = noise(6, 5, 3, 3)
    f, s, g = noise(6, seed=1) + 2, torch.rand(3, 3) + 0.5, torch.rand(5) + 0.5
    target = parent * f.view(-1, 1, 1, 1) * s * g.view(1, -1, 1, 1)
    metric = moments(noise(400, 45, seed=4))
    for m in (None, metric):
        fit = fit_factors(target, parent, m, channels=True, rounds=30)
        assert fit.residual < 1e-5, fit.residual
        assert torch.allclose(fit.kernel(parent), target, atol=2e-2)
    assert fit_factors(noise(6, 5, 3, 3, seed=9), parent).residual > 0.7  # unrelated kernels


def test_dead_filters_get_no_huge_factors() -> None:
    dead, target, metric = noise(6, 5, 3, 3), noise(6, 5, 3, 3, seed=1), moments(noise(400, 45, seed=4))
    dead[2] *= 1e-9  # a child that needs this filter cannot have it by a factor
    for fit in (fit_factors(target, dead, metric), fit_group([dead, target], [metric, metric], False)[1][0]):
        assert float(fit.filters.abs().max()) < 30, fit.filters


def test_residual_is_what_the_layer_loses() -> None:
    conv, x = nn.Conv2d(5, 6, 3, padding=1, bias=False), noise(8, 5, 9, 9)
    columns = patches(conv, x, 10**6, torch.Generator())
    other = noise(6, 5, 3, 3, seed=2)
    with torch.no_grad():
        want, found = conv(x), F.conv2d(x, other, padding=1)
    difference = (want - found).transpose(0, 1).flatten(1)
    centred = want.transpose(0, 1).flatten(1)
    direct = difference.var(1, correction=0).sum() / centred.var(1, correction=0).sum()
    assert abs(left_over(conv.weight, other, moments(columns)) / float(direct) - 1) < 1e-4


def test_joint_fit_beats_a_copied_parent() -> None:
    columns = noise(600, 8, seed=3) @ noise(8, 36, seed=4) + 0.05 * noise(
        600, 36, seed=5
    )  # of low rank, as activations are
    targets, metrics = (
        [noise(4, 4, 3, 3, seed=6), noise(4, 4, 3, 3, seed=7)],
        [moments(columns), moments(columns.flip(1))],
    )
    copied = fit_factors(targets[1], targets[0], metrics[1], True).residual
    _, _, left = fit_group(targets, metrics, True)
    assert max(left) < 0.6 * copied, (left, copied)


# ---------------------------------------------------------------------------------------------------------- plans


def test_survey_says_who_never_shares() -> None:
    layers = survey(Chain().eval(), noise(1, 3, 12, 12))
    reasons = {layer.name: layer.reason for layer in layers}
    assert reasons["stem"] == "the stem" and "transition" in reasons["down"] and reasons["depthwise"] == "depthwise"
    assert [layer.name for layer in candidates(layers)] == [*THREES, "points.0", "points.1"]
    assert {layer.name: layer.positions for layer in layers}["stem"] == 144
    tied = Chain().eval()
    tied.convs[1].weight = tied.convs[0].weight
    assert "already" in {x.name: x.reason for x in survey(tied, noise(1, 3, 12, 12))}["convs.0"]


class Same(nn.Conv2d):
    """Pads by itself, so that a map keeps its size at stride 1."""

    def forward(self, x: Tensor) -> Tensor:
        (h, w), (kh, kw) = x.shape[2:], self.kernel_size
        need = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in ((h, self.stride[0], kh), (w, self.stride[1], kw))]
        x = F.pad(x, (need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        return F.conv2d(x, (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True), self.bias, padding=1)


def test_layers_that_pad_by_themselves_become_plain() -> None:
    layers = [Same(3, 4, 3), Same(4, 4, 5), Same(4, 4, 1), Same(4, 4, 4), Same(4, 4, 3, 2), Standardised(4, 4, 3)]
    net, small, large = nn.Sequential(*layers).eval(), noise(2, 3, 4, 4), noise(2, 3, 13, 10, seed=1)
    with torch.no_grad():
        want = net(small), net(large)
        assert with_plain_convolutions(net, small) == ["0", "1", "2"]  # extents of 4 pad unequally; 4 steps; 5 changes its kernel
        assert [type(m) is nn.Conv2d for m in net] == [True] * 3 + [False] * 3 and net[1].weight is layers[1].weight
        assert all(torch.allclose(net(x), y, atol=1e-5) for x, y in zip((small, large), want))


def test_plan_keeps_the_budget_and_follows_the_map() -> None:
    net = Chain().eval()
    layers = survey(net, noise(1, 3, 12, 12))
    names = [layer.name for layer in layers]
    similarity = {(a, b): 0.5 for a in names for b in names} | {(a, a): 1.0 for a in names}
    similarity["convs.0", "convs.3"] = similarity["convs.3", "convs.0"] = 0.99
    whole = sum(layer.parameters for layer in candidates(layers))
    plan = make_plan(layers, similarity, 0.8, "map", 4)
    assert plan in ({"convs.3": ["convs.0"]}, {"convs.0": ["convs.3"]}), plan
    for keep in (0.75, 0.5, 0.4):
        for rule in ("map", "order"):
            plan = make_plan(layers, similarity, keep, rule, 4)
            assert cost(candidates(layers), plan, 4) <= keep * whole
            made = describe(layers, plan, rule, 4, parameter_count(net))
            student = with_children(net, plan, 4)
            assert parameter_count(student) == made["parameters"]["after"], (
                parameter_count(student),
                made["parameters"],
            )
            assert check_plan(json.loads(json.dumps(made)), layers) == (plan, 4)
            if rule == "order":
                assert all(names.index(c) < names.index(p) for p, group in plan.items() for c in group)
    least = make_plan(layers, similarity, 0.05, "map", 4)  # cannot be met
    assert sorted(map(len, least.values())) == [1, 3], least
    points = [layer for layer in layers if "points" in layer.name]
    refused(PlanError, "larger than the kernels", make_plan, points, similarity, 0.5, "map", 1)


def test_edited_plans_are_checked() -> None:
    layers = survey(Chain().eval(), noise(1, 3, 12, 12))
    for parents, words in (
        ({"convs.9": ["convs.0"]}, "no such convolution"),
        ({"convs.1": ["points.0"]}, "its kernel is"),
        ({"convs.1": ["convs.0"], "convs.2": ["convs.0"]}, "stands twice"),
        ({"convs.1": ["down"]}, "transition"),
        ({"convs.1": []}, "a list of children"),
    ):
        refused(PlanError, words, check_plan, {"version": 1, "parents": parents}, layers)
    refused(PlanError, "the version 1", check_plan, {"parents": {}}, layers)
    refused(PlanError, "gate is", check_plan, {"version": 1, "gate": -1, "parents": {}}, layers)


# ------------------------------------------------------------------------------------------------------- children


def test_fresh_child_computes_with_its_parents_kernel() -> None:
    conv, parent, x = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 3, padding=1), noise(2, 4, 8, 8)
    child = ChildConv2d(conv, parent, 2).eval()
    assert child.weight is parent.weight and child.adapter_parameters() == 6 + 9 + 4 * 2 * 2 + 4 + 4
    with torch.no_grad():
        want = F.conv2d(x, parent.weight, conv.bias, 2, 1)
        assert torch.allclose(child(x), want, atol=1e-6)
        f, s, g = torch.rand(6) + 0.5, torch.rand(3, 3) + 0.5, torch.rand(4) * 0.5 + 0.7
        child.adapt(f, s, g)
        kernel = parent.weight * f.view(-1, 1, 1, 1) * s * g.view(1, -1, 1, 1)
        assert torch.allclose(child(x), F.conv2d(x, kernel, conv.bias, 2, 1), atol=1e-5)
    refused(ValueError, "its parent's", ChildConv2d, conv, nn.Conv2d(4, 5, 3), 2)


def test_start_keeps_what_the_layers_compute() -> None:
    net, parents = Chain(16).eval(), {"convs.1": ["convs.0", "convs.2"], "points.1": ["points.0"]}
    batches = [noise(32, 3, 12, 12, seed=at) for at in range(3)]
    with torch.no_grad():
        want = net(batches[0])
        copied = with_children(net, parents, 4).eval()
        fitted = with_children(net, parents, 4).eval()
        left = start(fitted, net, parents, batches, 0)
        errors = [float((s(batches[0]) - want).square().mean() / want.var()) for s in (copied, fitted)]
    assert set(left) == {"convs.0", "convs.1", "convs.2", "points.0", "points.1"} and max(left.values()) < 0.9
    assert errors[1] < 0.5 * errors[0], errors


def test_export_stores_a_shared_kernel_once() -> None:
    net, parents = Chain().eval(), {"convs.1": ["convs.0", "convs.2"], "points.1": ["points.0"]}
    student = with_children(net, parents, 2).eval()
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.1 * noise(*p.shape, seed=p.numel()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.safetensors")
        graph = export(student, noise(1, 3, 12, 12), path)
        children = [node for node in graph["nodes"] if node.get("method") == "kernel_dna"]
        assert len(children) == 3
        for node in children:
            roles = {"weight", "filter", "fc1", "fc2", "fc2_bias", "bn.mean"} | (
                {"spatial"} if "convs" in node["name"] else set()
            )
            assert roles <= set(node["tensors"]), node
        kernels = [t for t in load_file(path).values() if tuple(t.shape) == (8, 8, 3, 3)]
        assert len(kernels) == 3  # down, convs.1 with its two children, convs.3
        x = noise(2, 3, 16, 20, seed=3)
        with torch.no_grad():
            found, want = next(iter(Network(path)([x.double()]).values())), student.double()(x.double())
        assert torch.allclose(found, want, atol=1e-9)


# ----------------------------------------------------------------------------------------------------------- data


def test_data_files() -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "a.npz", images=np.full((20, 1, 6, 6), 255, np.uint8), labels=np.arange(20) % 3)
        images = read_images(folder / "a.npz", 8, [0.5], [0.25])
        train, test = held_out(images, 10)
        assert (len(train), len(test)) == (18, 2) and test.labels.tolist() == [0, 1]
        assert torch.equal(train.random(4, torch.Generator(), True), torch.full((4, 1, 6, 6), 2.0))
        pictures = folder / "pictures"
        pictures.mkdir()
        for at, size in enumerate(((40, 30), (9, 12))):
            Image.new("RGB", size, (51 * at, 102, 255)).save(pictures / f"{at}.png")
        images = read_images(pictures, 16, [0.0], [1.0])
        x = images.random(5, torch.Generator().manual_seed(0), True)
        assert x.shape == (5, 3, 16, 16) and images.whole(0).shape == (1, 3, 24, 40)
        assert torch.allclose(x[:, 1:], torch.tensor([0.4, 1.0]).view(1, 2, 1, 1).expand(5, 2, 16, 16))
        np.save(folder / "b.npy", np.zeros((3, 4), np.float32))
        refused(DataError, "[N, C, H, W]", read_images, folder / "b.npy", 8, [0.0], [1.0])
        np.savez(folder / "c.npz", images=np.zeros((3, 1, 2, 2), np.uint8), labels=np.zeros(2))
        refused(DataError, "labels of 3 images", read_images, folder / "c.npz", 8, [0.0], [1.0])
        refused(DataError, "neither", read_images, folder / "nothing", 8, [0.0], [1.0])


def test_ncnn_file() -> None:
    text = (
        "7767517\n8 9\nInput data 0 1 image\nSplit split 1 2 image a b\n"
        "Convolution c1 1 1 a u 0=4 1=3 4=1 5=1 6=108\nPReLU p1 1 1 u v 0=4\n"
        "Convolution c2 1 1 v w 0=12 1=1 6=48\nPixelShuffle s 1 1 w x 0=2\n"
        "Interp i 1 1 b y 0=1 1=2.000000e+00 2=2.000000e+00\nBinaryOp add 2 1 x y z\n"
        "Interp j 1 1 z out 0=3 1=5.000000e-01 2=5.000000e-01\n"
    )
    k1, b1, a1, k2 = noise(4, 3, 3, 3).half(), noise(4, seed=1), noise(4, seed=2), noise(12, 4, 1, 1, seed=3)
    tag = np.array([ncnn_file.HALF, 0], "<u4")
    data = (
        tag[:1].tobytes()
        + k1.numpy().tobytes()
        + b1.numpy().tobytes()
        + a1.numpy().tobytes()
        + tag[1:].tobytes()
        + k2.numpy().tobytes()
    )
    x = torch.rand(2, 3, 6, 8)
    with tempfile.TemporaryDirectory() as name:
        param, weights = Path(name, "net.param"), Path(name, "net.bin")
        param.write_text(text)
        weights.write_bytes(data)
        with torch.no_grad():
            found = ncnn_file.load(param)(x)
        y = F.pixel_shuffle(F.conv2d(F.prelu(F.conv2d(x, k1.float(), b1, padding=1), a1), k2), 2)
        y = F.interpolate(y + F.interpolate(x, scale_factor=2.0), scale_factor=0.5, mode="bicubic", align_corners=False)
        assert torch.allclose(found, y, atol=1e-5)
        for edit, words in (
            (lambda t: t.replace("6=48", "6=47"), "c2: 47 weights"),
            (lambda t: t.replace("5=1 6=108", "5=1 6=108 9=1"), "c1: the settings"),
            (lambda t: t.replace("PReLU", "Softmax"), "Softmax"),
            (lambda t: t.replace("7767517", "1"), "begins with"),
            (lambda t: t.replace("1 1 v w", "1 1 q w"), "reads q"),
        ):
            param.write_text(edit(text))
            refused(ncnn_file.NcnnError, words, ncnn_file.load, param)
        param.write_text(text)
        weights.write_bytes(data + b"1234")
        refused(ncnn_file.NcnnError, "4 bytes", ncnn_file.load, param)
        weights.write_bytes(data[:-4])
        refused(ncnn_file.NcnnError, "c2: needs 192 bytes", ncnn_file.load, param)


# ------------------------------------------------------------------------------------------------------- the tool


def test_all_steps() -> None:
    program = os.environ.get("KDNA_RUN", "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        labels = np.arange(120) % 3
        images = (rng.random((120, 3, 12, 12)) * 120 + 60 * labels[:, None, None, None]).astype(np.uint8)
        np.savez(folder / "d.npz", images=images, labels=labels)
        words = [
            "--module",
            "test_share:Chain",
            "--data",
            str(folder / "d.npz"),
            "--keep",
            "0.6",
            "--steps",
            "12",
            "--batch",
            "8",
        ]
        words += ["--epochs", "1", "--tune-batch", "16", "--out", str(folder / "out"), "--images", "64"]
        words += ["--kdna-run", program] if program else []
        assert share.main(["plan", *words]) == 2  # there is no map yet
        assert share.main(["all", *words]) == 0
        out = folder / "out"
        made = {p.name for p in out.iterdir()}
        assert {
            "map.npz",
            "map.png",
            "plan.json",
            "converted.safetensors",
            "original.safetensors",
            "report.html",
        } <= made
        plan = json.loads((out / "plan.json").read_text())
        assert plan["shared_layers"]["kept"] <= 0.6
        with safe_open(out / "converted.safetensors", "pt") as file:
            graph = json.loads(file.metadata()["kdna.graph"])
        children = sum(map(len, plan["parents"].values()))
        assert sum(node.get("method") == "kernel_dna" for node in graph["nodes"]) == children > 0
        page = (out / "report.html").read_text()
        assert "accuracy" in page and "data:image/png" in page and ("C++" in page) == bool(program)
        before = (out / "converted.safetensors").read_bytes()
        assert share.main(["convert", *words]) == 0  # finds that everything has been done
        assert (out / "converted.safetensors").read_bytes() == before
        (out / "progress.pt").unlink()
        assert share.main(["convert", *words]) == 0  # the same seed gives the same network
        assert (out / "converted.safetensors").read_bytes() == before
        assert share.main(["convert", *words, "--module", "test_share:Missing"]) == 2


if __name__ == "__main__":
    tests = [(name, test) for name, test in sorted(globals().items()) if name.startswith("test_")]
    for name, test in tests:
        test()
        print(f"{name}: passed", flush=True)
    print(f"{len(tests)} tests passed")
