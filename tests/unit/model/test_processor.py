"""Test the choice of kernels under each instruction set that can be emulated.

Restricting a library to an older instruction set emulates an older processor: FBGEMM computes int8
layers, oneDNN float32 and bfloat16 layers, ATen everything else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from captioner.backends import precision
from captioner.errors import CaptionerError
from captioner.model.cpu import processor
from captioner.model.cpu.packed import PackedLinear
from captioner.training import distributed

CPU = torch.device("cpu")
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
}
BASELINE = AVX2 | {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
AVX512 = {"FBGEMM_ENABLE_INSTRUCTIONS": "AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
EMULATED = {"as it is": {}, "avx512 without vnni": AVX512, "avx2": AVX2, "baseline": BASELINE}

needs_int8 = pytest.mark.skipif(
    processor.int8_accumulator() is None, reason="no int8 kernels for this processor"
)

MEASURE = """
import itertools, json, torch
from captioner.model.cpu.processor import has_fast_bfloat16, int8_accumulator, int8_error

torch.manual_seed(0)
accumulator, errors = int8_accumulator(), []
weights = {
    "normal": lambda o, i: torch.randn(o, i),
    "uniform": lambda o, i: torch.rand(o, i) - 0.5,
    "constant": lambda o, i: torch.ones(o, i) + 0.1 * torch.randn(o, i),
}
inputs = {
    "normal": lambda n, i: torch.randn(n, i),
    "uniform": lambda n, i: torch.rand(n, i),
    "gelu": lambda n, i: torch.nn.functional.gelu(torch.randn(n, i)),
    "large": lambda n, i: torch.full((n, i), 30.0) + torch.randn(n, i),
}
with torch.inference_mode():
    for outputs, size, rows in ((64, 16, 1), (40, 48, 5), (1000, 384, 80), (64, 2048, 33)):
        for (w, weight), (x, input) in itertools.product(weights.items(), inputs.items()):
            if (w, x) == ("constant", "normal"):
                continue  # the sums cancel, so that every rounding error is relatively large
            error = int8_error(weight(outputs, size), input(rows, size), accumulator)
            errors.append([error, w, x, size, rows])
print(json.dumps([accumulator, has_fast_bfloat16(), max(errors)]))
"""


@pytest.mark.slow
@needs_int8
@pytest.mark.parametrize("name", EMULATED)
def test_int8_layers_match_float64_on_each_instruction_set(name):
    run = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **EMULATED[name]},
        capture_output=True,
        text=True,
        check=True,
    )
    accumulator, fast, (error, *case) = json.loads(run.stdout)
    assert accumulator in processor.ACCUMULATORS
    assert error <= 0.02, (accumulator, case)
    if "ATEN_CPU_CAPABILITY" in EMULATED[name] and platform.machine() in ("x86_64", "AMD64"):
        assert not fast


@needs_int8
@torch.inference_mode()
def test_a_saturating_kernel_is_recognized(monkeypatch):
    """Emulate a kernel without VNNI: exact products, saturated sums in 16 bits."""
    packed = {}

    def quantize(weight, bias, accumulator):
        found = original(weight, bias, accumulator)
        packed[found] = torch.ops.quantized.linear_unpack(found)[0]
        return found

    def linear_dynamic(x, weight, reduce_range):
        weight = packed[weight]
        low, high = min(0.0, x.min().item()), max(0.0, x.max().item())
        scale = (high - low) / 255
        values = ((x - low) / scale).round()  # 0 to 255
        integers = weight.int_repr().float()
        products = values[:, None] * integers  # (N, O, I)
        sums = products.unflatten(2, (-1, 2)).sum(3).clamp(-32768, 32767).sum(2)
        zero_point = round(-low / scale)
        return (sums - zero_point * integers.sum(1)) * scale * weight.q_per_channel_scales().float()

    original = processor.quantize
    monkeypatch.setattr(processor, "quantize", quantize)
    monkeypatch.setattr(torch.ops.quantized, "linear_dynamic", linear_dynamic)
    assert not processor._is_accurate(32)
    assert processor._is_accurate(16)


@needs_int8
@pytest.mark.parametrize("size", [15, 16])
@torch.inference_mode()
def test_neighboring_products_cannot_saturate(size):
    torch.manual_seed(0)
    weight = torch.randn(200, size)
    weight[0] = 1.0
    packed = processor.quantize(weight, torch.zeros(200), 16)
    values = torch.ops.quantized.linear_unpack(packed)[0].int_repr().int()
    even = values[:, : size // 2 * 2]
    sums = even.unflatten(1, (-1, 2)).sum(2)
    assert 255 * max(sums.abs().max(), values.abs().max()) <= 32767


@pytest.mark.parametrize("accumulator", [None, 16, 32])
def test_auto_selects_int8_only_where_it_is_correct(monkeypatch, accumulator):
    monkeypatch.setattr(precision, "int8_accumulator", lambda: accumulator)
    expected = "int8" if accumulator and processor.can_pack(CPU) else "float32"
    assert precision.fastest_dtype(CPU, compile=False) == expected
    assert precision.fastest_dtype(CPU, compile=True) == "float32"


def test_int8_without_a_correct_kernel_is_an_error(monkeypatch):
    monkeypatch.setattr(precision, "can_pack", lambda device, dtype=torch.float32: True)
    monkeypatch.setattr(precision, "int8_accumulator", lambda: None)
    with pytest.raises(CaptionerError, match="no int8 kernel that computes correctly"):
        precision.prepare_models([], [], device="cpu", dtype="int8", compile=False)


@pytest.mark.parametrize(
    ("capability", "bfloat16", "fast"),
    [
        ("AVX512", True, True),
        ("AVX512", False, False),
        ("AVX2", True, False),
        ("DEFAULT", True, False),
        ("NEON", False, True),
    ],
)
def test_bfloat16_is_fast_only_with_its_instructions(monkeypatch, capability, bfloat16, fast):
    monkeypatch.setattr(processor, "can_pack", lambda device, dtype=torch.float32: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    assert processor.has_fast_bfloat16() is fast


@pytest.mark.parametrize("fast", [True, False])
def test_the_precision_of_training_follows_the_processor(monkeypatch, fast):
    if torch.accelerator.is_available():
        pytest.skip("the precision follows the accelerator")
    monkeypatch.setattr(distributed, "has_fast_bfloat16", lambda: fast)
    assert distributed.choose_precision("auto") == ("bf16" if fast else "no")
    for name in ("no", "bf16", "fp16"):
        assert distributed.choose_precision(name) == name
    assert bool(distributed.precision_warning("bf16")) is not fast
    assert not distributed.precision_warning("auto")


@needs_int8
@torch.inference_mode()
def test_a_packed_layer_uses_the_scales_for_this_processor(monkeypatch):
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 32), torch.randn(5, 64)
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    error = PackedLinear(layer, int8=True)(x) - expected
    assert error.norm() <= 0.02 * expected.norm()
