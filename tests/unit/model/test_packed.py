"""Compare packed layers with plain ones, to rounding, and int8 layers to one percent."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from captioner.model.cpu.mobilenet import STAGES, MobileNet
from captioner.model.cpu.packed import PackedLinear, pack_linear_layers
from captioner.model.cpu.processor import can_pack
from captioner.model.fusion import CrossAttention
from captioner.model.layers import EncoderLayer
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.transformer_decoder import TransformerDecoder

pytestmark = pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="no oneDNN")
SIZES = {"width": 32, "heads": 4, "ffn": 48}


def near(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Return whether the error is small relative to the values."""
    return (found - expected).float().abs().mean() < tolerance * expected.float().abs().mean()


@pytest.mark.parametrize("rows", [1, 5, 80])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_packed_linear_layer_matches_the_layer(rows, bias):
    torch.manual_seed(rows)
    one, two = nn.Linear(48, 64, bias=bias), nn.Linear(48, 40)
    x = torch.randn(2, rows, 48)
    expected = torch.cat([one(x), two(x)], -1)
    torch.testing.assert_close(PackedLinear(one, two)(x), expected)
    int8 = PackedLinear(one, two, int8=True)(x)
    assert int8.shape == expected.shape
    assert near(int8, expected, 0.03)
    assert not torch.equal(int8, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (32, 33), (35, 45)])
@pytest.mark.parametrize("name", STAGES)
@torch.inference_mode()
def test_packed_convolutions_match_plain_ones(name, size, dtype):
    if not can_pack(torch.device("cpu"), dtype):
        pytest.skip("no such kernels")
    torch.manual_seed(0)
    plain = MobileNet(name).eval()
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # Smaller variances amplify rounding errors in each layer, up to a few percent.
            norm.running_var.uniform_(0.2, 1)
            norm.bias.normal_()
    plain.fold_batch_norms()
    plain.to(dtype, memory_format=torch.channels_last)
    packed = copy.deepcopy(plain)
    packed.pack_convolutions(size)
    x = torch.randn(2, 3, *size).to(dtype, memory_format=torch.channels_last)
    found, expected = packed.forward_features(x), plain.forward_features(x)
    assert found.shape == expected.shape
    assert expected.float().std() > 0.1
    assert near(found, expected, 1e-5 if dtype == torch.float32 else 0.1)
    with pytest.raises(ValueError, match="for which it was packed"):
        packed.forward_features(x[..., 1:])


@torch.inference_mode()
def test_packed_layers_accept_non_contiguous_rows():
    layer = nn.Linear(16, 8)
    x = torch.randn(5, 32)[:, ::2]
    for int8, tolerance in ((False, 1e-5), (True, 0.05)):
        assert near(PackedLinear(layer, int8=int8)(x), layer(x), tolerance)


@torch.inference_mode()
def test_packed_layers_with_zero_weights():
    layer = nn.Linear(16, 8)
    layer.weight.zero_()
    found = PackedLinear(layer, int8=True)(torch.zeros(3, 16))
    torch.testing.assert_close(found, layer.bias.expand(3, -1))


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
@pytest.mark.parametrize(("int8", "tolerance"), [(False, 1e-5), (True, 0.1)])
@torch.inference_mode()
def test_a_packed_decoder_matches_the_decoder(int8, tolerance, kind):
    torch.manual_seed(0)
    build = partial(TransformerDecoder, **SIZES)
    if kind == "lstm":
        build = partial(LSTMDecoder, width=SIZES["width"])
    decoder = build(60, layers=2, max_length=12, pad=0).eval()
    packed = copy.deepcopy(decoder)
    pack_linear_layers(packed, int8=int8)
    assert not any(type(layer) is nn.Linear for layer in packed.modules())
    memory, tokens = torch.randn(3, 7, 32), torch.randint(1, 60, (3, 2, 6))
    assert near(packed(memory, tokens), decoder(memory, tokens), tolerance)
    weights = packed.attention(memory, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6))
    assert near(weights, decoder.attention(memory, tokens), tolerance)
    caches = [x.start(memory, 6, 6) for x in (packed, decoder)]
    for step in range(6):
        found, expected = (
            x.step(tokens[..., step], cache)
            for x, cache in zip((packed, decoder), caches, strict=True)
        )
        assert near(found, expected, tolerance)


@torch.inference_mode()
def test_packed_encoder_and_fusion_layers():
    torch.manual_seed(0)
    layer = EncoderLayer(dropout=0.0, **SIZES).eval()
    fusion = CrossAttention(layers=2, dropout=0.0, **SIZES).eval()
    memory, states = torch.randn(2, 5, 32), torch.randn(3, 4, 32)
    mask, owners = torch.rand(3, 4) > 0.3, torch.tensor([0, 1, 1])
    mask[:, 0] = True
    expected = layer(memory), *fusion(memory, owners, states, mask)
    pack_linear_layers(layer)
    pack_linear_layers(fusion)
    found = layer(memory), *fusion(memory, owners, states, mask)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two) if two is not None else None


def test_only_cpus_have_packed_kernels():
    assert not can_pack(torch.device("meta"))
    assert not can_pack(torch.device("cpu"), torch.float16)
