"""Capabilities of the CPU: which bfloat16 and int8 kernels are fast and correct.

This is the only module that depends on the instruction set. The measured speeds on which
its choices are based are in benchmarks/README.md.

Shapes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

ACCUMULATORS = (32, 16)
"""Widths in bits of the accumulators of int8 kernels, the more accurate first.

Without VNNI instructions, x86 kernels add the products of two neighboring inputs in 16 bits, which
can saturate: inputs are unsigned (up to 255), weights signed, and 255 x (127 + 127) > 32,767.
"""
INT8_ERROR = 0.02
"""Largest accepted relative error (Frobenius norm) of an int8 layer against float64."""


def can_pack(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether torch has prepacked oneDNN kernels for a device and a type."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def has_fast_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16 and torch uses them.

    With AVX2 alone, bfloat16 in torch was 8 to 12 times slower than float32. With AVX-512 but
    without its bfloat16 extension, oneDNN emulates it.
    """
    if not can_pack(torch.device("cpu"), torch.bfloat16):
        return False
    capability = torch.backends.cpu.get_cpu_capability()
    if capability.startswith(("DEFAULT", "AVX2")):
        return False
    if capability.startswith("AVX512"):
        return torch.cpu._is_avx512_bf16_supported()
    return True  # not x86: oneDNN has checked it


@functools.cache
def int8_accumulator() -> int | None:
    """Return the accumulator width for which this CPU computes int8 layers correctly.

    None means that no int8 kernel passes the comparison with float64. The comparison runs once per
    process and takes a few milliseconds.
    """
    return next(filter(_is_accurate, ACCUMULATORS), None)


def quantize(weight: Tensor, bias: Tensor, accumulator: int) -> torch.ScriptObject:
    """Quantize and pack the weight of a linear layer for `torch.ops.quantized.linear_dynamic`.

    Args:
        weight: (O, I), float32. Quantized symmetrically with one scale per output.
        bias: (O,), float32.
        accumulator: Width of the accumulator, see `int8_accumulator`. For 16, the scales are
            large enough that no two neighboring products saturate.

    Raises:
        RuntimeError: torch has no int8 kernels for this processor.
    """
    largest = weight.abs().amax(1)
    if accumulator == 16:
        # Rounding adds at most 1 to the sum of a pair, and 255 x 128 fits.
        pairs = F.pad(weight, (0, weight.shape[1] % 2)).unflatten(1, (-1, 2))  # (O, I / 2, 2)
        largest = largest.maximum(pairs.sum(2).abs().amax(1))
    scale = largest.clamp(min=1e-8) / 127
    zeros = torch.zeros(len(weight), dtype=torch.long)
    with warnings.catch_warnings():
        # torch deprecates quantized tensors, but not the kernels that use them.
        warnings.simplefilter("ignore")
        values = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(values, bias)


def int8_error(weight: Tensor, x: Tensor, accumulator: int) -> float:
    """Return the relative error (Frobenius norm) of an int8 layer against float64.

    The weight (O, I) and the input x (N, I) are float32.
    """
    packed = quantize(weight, torch.zeros(len(weight)), accumulator)
    expected = x.double() @ weight.double().T  # (N, O)
    error = torch.ops.quantized.linear_dynamic(x.contiguous(), packed, False) - expected
    return float(error.norm() / expected.norm())


@torch.inference_mode()
def _is_accurate(accumulator: int) -> bool:
    """Compare int8 layers with float64 on random values and on the values that saturate first."""
    random = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 64).expand(33, -1)
    # Neighboring inputs of equal sign within a pair, and across pairs.
    signs = [torch.tensor(s).tile(48, 16) for s in ([1.0, 1, -1, -1], [1.0, -1, -1, 1])]
    cases = [(torch.ones(48, 64), ramp), (-torch.ones(48, 64), 1 - ramp)]
    cases += [(sign, (sign[:33] * way > 0).float()) for sign in signs for way in (1, -1)]
    cases.append((torch.randn(48, 64, generator=random), torch.randn(33, 64, generator=random)))
    try:
        return all(
            int8_error(weight, x[:rows], accumulator) <= INT8_ERROR
            for weight, x in cases
            for rows in (1, 33)
        )
    except RuntimeError:  # no kernels for this processor
        return False
