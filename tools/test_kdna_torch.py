#!/usr/bin/env python3
"""Checks of the PyTorch package: state_dict layout, counts, known answers, formulas, plain equivalence.

    python test_kdna_torch.py [SHARED]      or      KDNA_SHARED=SHARED pytest test_kdna_torch.py

Layouts (``<arch>.txt``, one ``key<TAB>shape<TAB>dtype`` a line) and known-answer cases are those of the repository's
tests; SHARED is a folder with more of them under ``keys/`` and ``golden/``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import idx
import make_scenes
from kdna_torch import ARCHS, CondConv2d, DyMNBlock, ODConv2d, SqueezeExcite, build, child_kernel, formulas
from kdna_torch import multiply_adds, parameter_count
from kdna_torch.cases import run_case
from kdna_torch.checkpoint import randomise
from kdna_torch.convnext import PointwiseChild
from kdna_torch.dynamic_networks import DYNAMIC_ARCHS
from kdna_torch.fdconv import FDConv
from kdna_torch.kernels import pack_bits, unpack_bits
from kdna_torch.networks import ResNet18Stage

SHARED = os.environ.get("KDNA_SHARED", "")
TESTS = Path(__file__).resolve().parents[1] / "tests"

# parameters, keys, float buffers, multiply-adds at 224x224 (or SIZES), None where not checked
COUNTS = {
    "resnet18": (9_240_798, 192, 13_824, 2_276_986_880),
    "resnet50": (22_778_060, 370, 56_832, 4_307_779_584),
    "mobilenet_v2": (3_136_840, 392, 34_528, 300_928_384),
    "mobilenet_v2_1d2": (1_878_232, 392, 18_752, 97_170_368),
    "resnet18_plain": (11_689_512, 122, None, 1_814_073_344),
    "resnet50_plain": (25_557_032, 320, None, 4_089_184_256),
    "mobilenet_v2_plain": (3_504_872, 314, None, 300_774_272),
    "mobilenet_v2_1d2_plain": (1_968_680, 314, None, 97_131_840),
    "fashion_dna": (121_317, None, None, 13_880_448),
    "fashion_plain": (225_258, None, None, 13_874_304),
    "segment_dna": (235_702, None, None, 197_400_576),
    "segment_plain": (339_643, None, None, 197_394_432),
    "resnet18_odconv_1x": (11_943_944, 314, None, None),
    "resnet18_odconv_4x": (44_901_640, 346, None, None),
    "resnet18_dyconv_4x": (45_475_008, 179, None, None),
    "resnet18_dcd": (14_703_332, 394, None, None),
    "resnet18_kw_1x": (11_932_148, 259, None, None),
    "mobilenet_v2_odconv_1x": (4_940_185, 824, None, None),
    "mobilenet_v2_odconv_4x": (11_512_149, 926, None, None),
    "mobilenet_v2_kw_1x": (5_168_146, 691, None, None),
    "convnext_tiny": (17_277_256, None, None, 4_460_692_224),
    "convnext_tiny_plain": (28_589_128, 182, None, 4_455_531_264),
    "fashion_convnext_dna": (119_258, None, None, 4_611_904),
    "fashion_convnext_plain": (184_026, None, None, 4_581_184),
}
SIZES = {"fashion": (1, 28, 28), "segment": (1, 64, 64)}


def folders(own: str, part: str) -> list[Path]:
    """The repository's folder of layouts or cases, and the shared one."""
    return [TESTS / own] + ([Path(SHARED) / part] if SHARED else [])


def layout(arch: str) -> list[str]:
    """One ``key<TAB>shape<TAB>dtype`` line per state_dict entry."""
    rows = []
    for key, t in build(arch).state_dict().items():
        shape = "x".join(map(str, t.shape)) or "scalar"
        rows.append(f"{key}\t{shape}\t{str(t.dtype).removeprefix('torch.')}")
    return rows


def test_counts() -> None:
    for arch, (params, keys, buffers, macs) in COUNTS.items():
        net = build(arch)
        assert parameter_count(net) == params, arch
        assert keys in (None, len(net.state_dict())), arch
        assert buffers in (None, sum(b.numel() for b in net.buffers() if b.is_floating_point())), arch
        if macs is not None:
            assert multiply_adds(arch, SIZES.get(arch.partition("_")[0], (3, 224, 224))) == macs, arch


def test_layout() -> None:
    for folder in folders("models/keys", "keys"):
        for arch in ARCHS:
            path = folder / f"{arch}.txt"
            if path.exists():
                assert sorted(layout(arch)) == sorted(path.read_text().splitlines()), path
            else:
                assert folder.parent != TESTS / "models" or arch not in DYNAMIC_ARCHS, arch


def known_cases() -> list[tuple[str, dict, dict[str, Tensor], Tensor, Tensor]]:
    """Name, case, tensors, input and output of every case."""
    cases = []
    for folder in folders("golden", "golden"):
        for path in sorted(folder.glob("*.json")):
            tensors = load_file(path.with_suffix(".safetensors"))
            x, y = tensors.pop("input"), tensors.pop("output")
            cases.append((path.stem, json.loads(path.read_text()), tensors, x, y))
    return cases


def test_known_answers() -> None:
    families = set()
    for name, case, tensors, x, expected in known_cases():
        y = run_case(case, tensors, x)
        error = (y - expected).abs().max() / expected.abs().max()
        assert y.shape == expected.shape and error < 1e-6, f"{name}: {error:.2e}"
        families.add(case["family"])
    assert len(families) == 14, families


def test_formulas() -> None:
    """Where there is no public code, the modules agree with loops over the formula."""
    seen = set()
    for name, case, tensors, x, _ in known_cases():
        if case["family"] in formulas.FAMILIES:
            y = formulas.run(case, {k: t.numpy() for k, t in tensors.items()}, x.numpy())
            np.testing.assert_allclose(run_case(case, tensors, x).numpy(), y, rtol=1e-10, atol=1e-10, err_msg=name)
            seen.add(case["family"])
    assert seen == set(formulas.FAMILIES)


def test_dymn_block() -> None:
    """The module against the formula, with and without a stride and the addition of the input."""
    for c, expanded, out, kernel, stride in ((6, 18, 6, 3, 1), (5, 16, 9, 5, 2), (8, 8, 4, 3, 1)):
        block = DyMNBlock(c, expanded, out, kernel, stride, context_dim=7)
        x = torch.randn(2, c, 8, 11, generator=torch.Generator().manual_seed(c))
        randomise(block, 5, sample=x)
        state = {key: tensor.double().numpy() for key, tensor in block.state_dict().items()}
        with torch.no_grad():
            y = block.double().eval()(x.double()).numpy()
        want = formulas.dymn_block({"stride": stride, "kernel": kernel}, state, x.double().numpy())
        assert np.abs(y - want).max() <= 1e-12 * np.abs(want).max()


def test_disjoint_kernels() -> None:
    """Every kernel of an FDConv is a sum of waves of its own frequencies; together they have the whole spectrum."""
    torch.manual_seed(3)
    layer = FDConv(6, 4, 3, kernel_num=5).double()
    kernels = layer.kernels()
    spectrum = torch.view_as_complex(layer.dft_weight[0].detach()).numpy() * layer.alpha
    rows, columns = 4 * 3, 6 * 3
    i, j, seen = np.arange(rows)[:, None], np.arange(columns), set()
    for kernel, (ps, fs) in zip(kernels, layer.indices[0].permute(1, 0, 2).tolist()):
        plane = np.zeros((rows, columns))
        for p, f in zip(ps, fs):
            wave = np.exp(2j * np.pi * (p * i / rows + f * j / columns))
            plane += (spectrum[p, f] * wave).real * (1 if f in (0, columns // 2) else 2) / (rows * columns)
            seen.add((p, f))
        own = plane.reshape(4, 3, 6, 3).transpose(0, 2, 1, 3)
        np.testing.assert_allclose(kernel.detach().numpy(), own, rtol=0, atol=1e-12)
    assert len(seen) == rows * (columns // 2 + 1)
    distances = [np.hypot(*np.array([(min(p, rows - p) / rows, f / columns) for p, f in zip(*group)]).T)
                 for group in layer.indices[0].permute(1, 0, 2).tolist()]
    assert all(a.max() <= b.min() + 1e-6 for a, b in zip(distances, distances[1:]))


def test_packed_bits() -> None:
    assert pack_bits(torch.tensor([1, 2, 3, 4, 5]), 3).tolist() == [0b11_010_001, 0b0_101_100_0]
    for bits in range(1, 10):
        values = torch.randint(0, 2**bits, (29,), generator=torch.Generator().manual_seed(bits))
        packed = pack_bits(values, bits)
        assert len(packed) == -(-29 * bits // 8) and torch.equal(unpack_bits(packed, bits, 29), values)


def test_child_convolution_identities() -> None:
    """A gate on the input equals a gate on the kernel's input channels; zero adapters give the parent's kernel."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 7, 5, dtype=torch.double)
    parent = torch.randn(6, 8, 3, 3, dtype=torch.double)
    a_f, a_sp = torch.randn(6, 1, 1, 1).double(), torch.randn(1, 1, 3, 3).double()
    gate = SqueezeExcite(8, 2).double().eval().gate(x).detach()
    kernel = child_kernel(parent, a_f, a_sp)
    a = F.conv2d(gate * x, kernel, padding=1)
    b = F.conv2d(x, kernel * gate.view(1, 8, 1, 1), padding=1)
    torch.testing.assert_close(a, b)
    assert torch.equal(child_kernel(parent, 0 * a_f, 0 * a_sp), parent)


def test_condconv_equals_per_sample_convolution() -> None:
    torch.manual_seed(0)
    for groups, stride, bias in ((1, 1, True), (2, 2, False), (8, 1, True)):
        layer = CondConv2d(8, 8, 3, 4, stride, 1, groups, bias).double()
        if bias:
            torch.nn.init.normal_(layer.bias)
        x = torch.randn(3, 8, 9, 7).double()
        alpha = torch.sigmoid(layer.routing(x.mean((2, 3))))
        rows = []
        for s, a in zip(x, alpha):
            b = None if layer.bias is None else a @ layer.bias
            rows.append(F.conv2d(s[None], torch.einsum("n,nocij->ocij", a, layer.weight), b, stride, 1, 1, groups))
        torch.testing.assert_close(layer(x), torch.cat(rows))


def test_odconv_equals_convolution_with_gated_kernels() -> None:
    """Sample by sample, with all four attentions in the kernel."""
    for groups, k, kernels in ((1, 3, 4), (2, 3, 1), (1, 1, 3), (8, 3, 4)):
        layer = ODConv2d(8, 8, k, 2, k // 2, 1, groups, kernels)
        randomise(layer, 0)
        layer.double().eval()
        x = torch.randn(3, 8, 7, 6, generator=torch.Generator().manual_seed(1)).double()
        a, rows = layer.attention, []
        for s in x:
            z = a(s[None])
            kernel = layer.weight
            if kernels > 1:
                kernel = kernel * torch.softmax(a.kernel_fc(z).view(-1, 1, 1, 1, 1), 0)
            kernel = kernel.sum(0)
            if k > 1:
                kernel = kernel * torch.sigmoid(a.spatial_fc(z)).view(1, 1, k, k)
            if groups < 8:
                kernel = kernel * torch.sigmoid(a.filter_fc(z)).view(-1, 1, 1, 1)
            gates = torch.sigmoid(a.channel_fc(z)).view(groups, -1)  # of the input channels, one row a group
            kernel = kernel.unflatten(0, (groups, -1)) * gates[:, None, :, None, None]
            rows.append(F.conv2d(s[None], kernel.flatten(0, 1), None, 2, k // 2, 1, groups))
        torch.testing.assert_close(layer(x), torch.cat(rows))


def test_random_networks_are_well_conditioned() -> None:
    """With weights as make_reference.py makes them: logits of O(1) that differ, float32 close to double."""
    for arch in ("mobilenet_v2_kw_1x", "resnet18_dcd"):
        net = build(arch)
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        x = x * torch.tensor([0.5, 1.5]).view(-1, 1, 1, 1)
        randomise(net, 0, sample=x)
        with torch.no_grad():
            single = net.eval()(x)
            y = net.double()(x.double())
        assert 0.3 < y.std() < 5 and (y[0] - y[1]).std() > 0.3 * y.std(), arch
        assert (single - y).abs().max() < 1e-4 * y.abs().max(), arch


def test_children_share_their_parent() -> None:
    """The gradient of a parent kernel includes its children's: one parameter, used more than once."""
    torch.manual_seed(0)
    net = build("fashion_dna").eval()
    stage = net.layer3
    net(torch.randn(2, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert "layer3.conv2.weight" in dict(net.named_parameters())
    assert stage.conv2.weight.grad.abs().max() > 0


def test_plain_twins() -> None:
    """With every gate at one, a shared network equals its twin holding the expanded child kernels."""
    for name, size in (("fashion", (28, 28)), ("segment", (16, 24))):
        dna, plain = build(f"{name}_dna").double().eval(), build(f"{name}_plain").double().eval()
        randomise(dna, 0)
        state = {k: v for k, v in dna.state_dict().items() if ".se." not in k and "static_" not in k}
        for prefix, stage in dna.named_modules():
            if not isinstance(stage, ResNet18Stage) or not stage.shared:
                continue
            for k, parent in enumerate((stage.conv2, stage.conv2, stage.conv3)):
                stage.se[k].se.fc2.weight.data.zero_()
                stage.se[k].se.fc2.bias.data.fill_(50)
                adapters = stage.static_filter_attn[k], stage.static_spatial_attn[k]
                state[f"{prefix}.convs.{k}.weight"] = child_kernel(parent.weight, *adapters)
        plain.load_state_dict(state)
        x = torch.randn(2, 1, *size, dtype=torch.double)
        torch.testing.assert_close(dna(x), plain(x))


def test_convnext_children_compute_with_their_parents_kernels() -> None:
    """With every gate at rest, and fresh filter factors, a child equals its parent; gates at one give the plain twin."""
    dna, plain = build("fashion_convnext_dna").double().eval(), build("fashion_convnext_plain").double().eval()
    children = {n: m for n, m in dna.named_modules() if isinstance(m, PointwiseChild)}
    assert [len(stage.parents) - len({*stage.parents}) for stage in dna.stages] == [0, 4, 2]
    assert len(children) == 12 and all(at < parent for s in dna.stages for at, parent in enumerate(s.parents) if at != parent)
    child = next(iter(children.values()))
    x, parent = torch.randn(2, 32, 5, 5, dtype=torch.double), dna.stages[1].blocks[2].mlp.fc1.weight
    child.se1.se.fc2.weight.data.zero_()
    child.se1.se.fc2.bias.data.zero_()
    torch.testing.assert_close(child(x, parent), F.conv2d(x, parent))
    randomise(dna, 0)
    state = {k: v for k, v in dna.state_dict().items() if ".se1." not in k and "static_" not in k}
    for name, m in children.items():
        stage, block, layer = dna.stages[int(name.split(".")[1])], int(name.split(".")[3]), name.rpartition(".")[2]
        m.se1.se.fc2.weight.data.zero_()
        m.se1.se.fc2.bias.data.fill_(50)
        owner = getattr(stage.blocks[stage.parents[block]].mlp, layer)
        state[f"{name}.weight"] = child_kernel(owner.weight, m.static_filter_attn)
    plain.load_state_dict(state)
    image = torch.randn(2, 1, 28, 28, dtype=torch.double)
    torch.testing.assert_close(dna(image), plain(image))


def test_scenes() -> None:
    """A scene depends on its seed alone, shows what its classes say, and is kept in a file as it is."""
    rng = np.random.default_rng(0)
    items = rng.integers(100, 256, (20, 28, 28)).astype(np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    grey, classes = make_scenes.scenes(items, labels, 6, [1, 2])
    assert grey.shape == classes.shape == (6, make_scenes.SIZE, make_scenes.SIZE)
    assert grey.dtype == classes.dtype == np.uint8
    few = make_scenes.scenes(items, labels, 3, [1, 2])
    assert np.array_equal(few[0], grey[:3]) and np.array_equal(few[1], classes[:3])
    assert not np.array_equal(make_scenes.scenes(items, labels, 3, [1, 3])[1], few[1])
    shown = [len(set(np.unique(c)) - {0}) for c in classes]
    assert all(1 <= n <= make_scenes.ITEMS[1] for n in shown) and (classes == 0).any() and classes.max() < 11
    assert (grey[classes > 0] > make_scenes.MASK - 1).all()
    ones = make_scenes.interpolation(9, 4)
    np.testing.assert_allclose(ones.sum(1), 1)
    np.testing.assert_allclose(ones @ np.arange(4), np.clip((np.arange(9) + 0.5) * 4 / 9 - 0.5, 0, 3), rtol=1e-6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scenes.gz")
        idx.write_idx(path, grey)
        assert np.array_equal(idx.read_idx(path), grey)


def test_export() -> None:
    """Bare and wrapped checkpoints give the same file; anything else is refused with exit code 2."""
    check_export("fashion_dna", "fc.bias", ("layer3.conv3.weight", "layer3.conv2.weight"))
    tied = "features.4.conv.1.1.bias", "features.3.conv.1.1.bias"
    check_export("mobilenet_v2_kw_1x", "warehouse_manager.weights.3", tied)


def check_export(arch: str, left_out: str, tied_keys: tuple[str, str]) -> None:
    net = build(arch)
    randomise(net, 1)
    state = net.state_dict()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in reversed(state.items())}}
    incomplete = {k: v for k, v in state.items() if k != left_out}
    tied = state | {tied_keys[0]: state[tied_keys[1]]}
    with tempfile.TemporaryDirectory() as folder:

        def export(content: object, *options: str) -> tuple[int, bytes]:
            source, target = Path(folder, "in.pt"), Path(folder, "out.safetensors")
            target.unlink(missing_ok=True)
            torch.save(content, source)
            script = Path(__file__).with_name("export.py")
            command = [sys.executable, str(script), str(source), str(target), *options]
            done = subprocess.run(command, capture_output=True)
            assert b"Traceback" not in done.stderr, done.stderr
            return done.returncode, target.read_bytes() if target.exists() else b""

        check = ("--arch", arch)
        code, exported = export(state, *check)
        assert code == 0
        assert export(wrapped, *check) == (0, exported)
        assert len(exported) < 4 * sum(t.numel() for t in state.values()) + 200 * len(state)
        for content in (incomplete, tied, [1, 2], {"state_dict": {}}, {"a": 1}, {"state_dict": state, "x": Path()}):
            assert export(content, *check) == (2, b"")


def main() -> None:
    global SHARED
    if len(sys.argv) > 1:
        SHARED = sys.argv[1]
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"ok {name}")


if __name__ == "__main__":
    main()
