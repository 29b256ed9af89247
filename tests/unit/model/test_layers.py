"""Test that dropout is unbiased with an exact scale, and compare attention with PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from captioner.model.layers import Attention, Dropout, EncoderLayer, attend

# The device that draws bytes, and rates: small, usual, large, and the extremes of one byte.
RATES = (1 / 256, 0.1, 0.3, 0.5, 0.9, 255 / 256)


def rounded(p: float) -> float:
    return round(p * 256) / 256


@pytest.mark.parametrize("p", RATES)
def test_dropout_rate_and_scale(p: float) -> None:
    torch.manual_seed(0)
    n = 400_000
    y = Dropout(p)(torch.ones(n))
    keep = 1 - rounded(p)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / keep).item()}
    deviation = 5 * math.sqrt(keep * (1 - keep) / n)
    assert (y != 0).double().mean().item() == pytest.approx(keep, abs=deviation)
    assert y.double().mean().item() == pytest.approx(1, abs=deviation / keep)


def test_dropout_rate_is_rounded_to_1_256() -> None:
    torch.manual_seed(0)
    for p in (0.05, 0.1, 0.3):
        dropped = (Dropout(p)(torch.ones(1_000_000)) == 0).double().mean().item()
        assert dropped == pytest.approx(p, abs=1 / 512 + 5 * math.sqrt(p / 1_000_000))


def test_dropout_elements_are_independent() -> None:
    """Neighbors share a random word, but their bytes must be independent."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(8 * 50_000)) != 0).double().view(-1, 8)
    correlation = torch.corrcoef(kept.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(len(kept))
    assert kept.mean(0).sub(0.5).abs().max() < 5 * 0.5 / math.sqrt(len(kept))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 11), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dropout_keeps_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype)
    y = Dropout(0.5)(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))  # 2 is exact in every dtype


def test_dropout_accepts_any_memory_format() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 48).t()
    y = Dropout(0.5)(x)
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))
    assert 0.4 < (y == 0).double().mean().item() < 0.6


def test_dropout_is_the_identity_in_evaluation_and_at_rate_0() -> None:
    x = torch.randn(9, 5)
    assert Dropout(0.7).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_depends_on_the_seed() -> None:
    x, dropout = torch.ones(1000), Dropout(0.3)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_dropout_gradient_uses_the_mask_of_the_output() -> None:
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.3)(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, y.detach())


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_invalid_dropout_rates_are_rejected(p: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Dropout(p)


def masks(t: int, s: int) -> list[torch.Tensor | None]:
    causal = torch.arange(t)[:, None] + (s - t) >= torch.arange(s)
    some = torch.rand(2, 1, t, s) < 0.6
    some[..., 0] = True  # every query may attend to a position
    return [None, causal, some]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, 6), (5, 5), (3, 8)])
def test_attention_matches_pytorch(t: int, s: int, which: int) -> None:
    torch.manual_seed(t * s)
    mask = masks(t, s)[which]
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (t, s, s))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, mask), expected)
    torch.testing.assert_close(attend(q, k, v, mask), expected)  # with gradients enabled


@pytest.mark.parametrize("which", [0, 1, 2])
def test_attention_gradient_matches_pytorch(which: int) -> None:
    torch.manual_seed(1)
    mask = masks(4, 6)[which]
    qkv = [torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (4, 6, 6)]
    weight = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    ours = torch.autograd.grad((attend(*qkv, mask) * weight).sum(), qkv)
    theirs = torch.autograd.grad(
        (F.scaled_dot_product_attention(*qkv, attn_mask=mask) * weight).sum(), qkv
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("grad", [False, True])
def test_attention_uses_only_positions_where_the_mask_is_true(grad: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 1, 1, 4), torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    with torch.set_grad_enabled(grad):
        alone = attend(q, k, v, torch.tensor([[False, True, False]]))
        torch.testing.assert_close(alone[0, 0, 0], v[0, 0, 1])


@pytest.mark.parametrize("grad", [False, True])
def test_attention_in_half_precision_keeps_its_dtype_without_nan(grad: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 4).bfloat16() for _ in range(3))
    mask = masks(5, 5)[1]
    with torch.set_grad_enabled(grad):
        found = attend(q, k, v, mask)
    assert found.dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_split_heads_and_merge_heads_are_inverse() -> None:
    attention = Attention(12, 3)
    x = torch.randn(2, 5, 12)
    heads = attention.split_heads(x)
    assert heads.shape == (2, 3, 5, 4)
    torch.testing.assert_close(heads[:, 1], x[..., 4:8])
    assert torch.equal(attention.merge_heads(heads), x)


def test_encoder_layer_matches_pytorch() -> None:
    """Compare with a pre-norm torch.nn.TransformerEncoderLayer with the same weights."""
    torch.manual_seed(0)
    ours = EncoderLayer(12, 3, 20, 0.0).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    a, state = ours.self_attn, {}
    for kind in ("weight", "bias"):
        parts = [getattr(p, kind) for p in (a.q_proj, a.k_proj, a.v_proj)]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
        state[f"self_attn.out_proj.{kind}"] = getattr(a.out_proj, kind)
        pairs = zip(
            ("norm1", "norm2", "linear1", "linear2"),
            (ours.self_attn_layer_norm, ours.final_layer_norm, ours.fc1, ours.fc2),
            strict=True,
        )
        state |= {f"{name}.{kind}": getattr(module, kind) for name, module in pairs}
    theirs.load_state_dict(state)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("grad", [False, True])
def test_encoder_layer_ignores_padding(grad: bool) -> None:
    """Other padding, more padding or none does not change the valid positions."""
    torch.manual_seed(0)
    layer = EncoderLayer(12, 3, 20, 0.0).double()
    lengths = torch.tensor([7, 2, 1])
    x = torch.randn(3, 7, 12, dtype=torch.float64)
    mask = torch.arange(7) < lengths[:, None]
    with torch.set_grad_enabled(grad):
        before = layer(x, mask)[mask]
        other = torch.where(mask[..., None], x, 9 * torch.randn_like(x))
        other = torch.cat([other, torch.randn_like(x[:, :2])], 1)
        longer = F.pad(mask, (0, 2))
        torch.testing.assert_close(layer(other, longer)[longer], before)
        alone = torch.cat([layer(x[i : i + 1, :n])[0] for i, n in enumerate(lengths)])
        torch.testing.assert_close(alone, before)
        assert not torch.allclose(layer(x)[mask], before)  # without the mask padding has an effect


def test_encoder_layer_with_a_full_mask_equals_no_mask() -> None:
    torch.manual_seed(0)
    layer, x = EncoderLayer(12, 3, 20, 0.0).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x, torch.ones(2, 5, dtype=torch.bool)), layer(x))


def test_padding_gets_no_gradient() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(12, 3, 20, 0.0).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    (grad,) = torch.autograd.grad(layer(x, mask)[mask].square().sum(), x)
    assert (grad.abs().amax(-1) > 0).equal(mask)
