#!/usr/bin/env python3
"""Checks of the PyTorch package: state_dict layout, counts, known answers, plain equivalence.

    python test_kdna_torch.py [SHARED]      or      KDNA_SHARED=SHARED pytest test_kdna_torch.py

SHARED is a folder with ``keys/<arch>.txt`` (one ``key<TAB>shape<TAB>dtype`` a line) and ``golden/`` (known-answer
cases); without it the checks that need them are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from kdna_torch import ARCHS, CondConv2d, SqueezeExcite, build, child_kernel, multiply_adds, parameter_count
from kdna_torch.cases import run_case
from kdna_torch.checkpoint import randomise

SHARED = os.environ.get("KDNA_SHARED", "")

# parameters, keys, float buffers, multiply-adds at 224x224 (28x28 for the Fashion-MNIST pair)
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
}


def shared(part: str) -> Path | None:
    return Path(SHARED) / part if SHARED else None


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
        assert multiply_adds(arch, (1, 28, 28) if "fashion" in arch else (3, 224, 224)) == macs, arch


def test_layout() -> None:
    folder = shared("keys")
    if folder is None:
        return
    for arch in ARCHS:
        path = folder / f"{arch}.txt"
        if path.exists():
            assert sorted(layout(arch)) == sorted(path.read_text().splitlines()), arch


def test_known_answers() -> None:
    folder = shared("golden")
    if folder is None:
        return
    seen = 0
    for path in sorted(folder.glob("*.json")):
        case = json.loads(path.read_text())
        if case["family"] not in ("kerneldna", "condconv"):
            continue
        tensors = load_file(path.with_suffix(".safetensors"))
        x, expected = tensors.pop("input"), tensors.pop("output")
        y = run_case(case, tensors, x)
        error = (y - expected).abs().max() / expected.abs().max()
        assert error < 1e-6, f"{path.stem}: {error:.2e}"
        seen += 1
    assert seen


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


def test_children_share_their_parent() -> None:
    """The gradient of a parent kernel includes its children's: one parameter, used more than once."""
    torch.manual_seed(0)
    net = build("fashion_dna").eval()
    stage = net.layer3
    net(torch.randn(2, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert "layer3.conv2.weight" in dict(net.named_parameters())
    assert stage.conv2.weight.grad.abs().max() > 0


def test_plain_twin() -> None:
    """With every gate at one, fashion_dna equals fashion_plain holding the expanded child kernels."""
    dna, plain = build("fashion_dna").double().eval(), build("fashion_plain").double().eval()
    randomise(dna, 0)
    for gate in dna.layer3.se:
        gate.se.fc2.weight.data.zero_()
        gate.se.fc2.bias.data.fill_(50)
    state = {k: v for k, v in dna.state_dict().items() if ".se." not in k and "static_" not in k}
    for k, parent in enumerate((dna.layer3.conv2, dna.layer3.conv2, dna.layer3.conv3)):
        adapters = dna.layer3.static_filter_attn[k], dna.layer3.static_spatial_attn[k]
        state[f"layer3.convs.{k}.weight"] = child_kernel(parent.weight, *adapters)
    plain.load_state_dict(state)
    x = torch.randn(2, 1, 28, 28, dtype=torch.double)
    torch.testing.assert_close(dna(x), plain(x))


def test_export() -> None:
    """Bare and wrapped checkpoints give the same file; anything else is refused with exit code 2."""
    net = build("fashion_dna")
    randomise(net, 1)
    state = net.state_dict()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in reversed(state.items())}}
    incomplete = {k: v for k, v in state.items() if k != "fc.bias"}
    tied = state | {"layer3.conv3.weight": state["layer3.conv2.weight"]}
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

        check = ("--arch", "fashion_dna")
        code, exported = export(state, *check)
        assert code == 0
        assert export(wrapped, *check) == (0, exported)
        assert len(exported) < 4 * sum(t.numel() for t in state.values()) + 16_384
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
