"""Compare the decoder with MBart of transformers, and test its attention weights."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from tiny_decoder import (
    LENGTHS,
    LONGEST,
    PAD,
    VOCAB,
    WIDTH,
    make_decoder,
    make_memory,
    make_tokens,
    nan_memory,  # noqa: F401
)
from torch import Tensor

from captioner.model import transformer_decoder as module
from captioner.model.transformer_decoder import TransformerDecoder

pytestmark = pytest.mark.usefixtures("nan_memory")


@cache
def mbart():
    modeling = pytest.importorskip("transformers.models.mbart.modeling_mbart")
    from transformers import MBartConfig

    config = MBartConfig(
        vocab_size=VOCAB,
        d_model=WIDTH,
        decoder_layers=2,
        decoder_attention_heads=3,
        decoder_ffn_dim=20,
        max_position_embeddings=LONGEST,
        pad_token_id=PAD,
        scale_embedding=False,
        activation_function="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    torch.manual_seed(5)
    model = modeling.MBartDecoder(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return model.eval()


def from_mbart(dtype: torch.dtype) -> TransformerDecoder:
    decoder = make_decoder(seed=9)
    decoder.from_mbart(mbart().state_dict())
    return decoder.to(dtype)


@torch.no_grad()
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["32", "64"]
)
def test_logits_match_transformers(dtype: torch.dtype, tolerance: float) -> None:
    theirs, ours = mbart().to(dtype), from_mbart(dtype)
    memory, tokens = make_memory(3).to(dtype), make_tokens([[LONGEST]] * 3)
    hidden = theirs(input_ids=tokens[:, 0], encoder_hidden_states=memory).last_hidden_state
    expected = hidden @ theirs.embed_tokens.weight.T
    assert expected.std() > 0.5  # otherwise the tolerance would be meaningless
    found = ours(memory, tokens).unflatten(0, (3, LONGEST))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
def test_padded_logits_match_transformers_with_a_mask() -> None:
    theirs, ours = mbart().double(), from_mbart(torch.float64)
    memory, tokens = make_memory(2), make_tokens([[3], [7]])
    flat = tokens[:, 0]
    hidden = theirs(
        input_ids=flat, attention_mask=(flat != PAD).long(), encoder_hidden_states=memory
    ).last_hidden_state
    expected = (hidden @ theirs.embed_tokens.weight.T)[flat != PAD]
    torch.testing.assert_close(ours(memory, tokens), expected)


def test_mbart_weights_of_other_shapes_are_rejected() -> None:
    state = mbart().state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        TransformerDecoder(
            VOCAB, width=24, heads=3, ffn=20, layers=2, max_length=9, pad=PAD
        ).from_mbart(state)
    state.pop("layers.1.fc1.bias")
    with pytest.raises(RuntimeError, match=r"layers\.1\.fc1\.bias"):
        make_decoder().from_mbart(state)


def test_a_shorter_decoder_copies_the_first_mbart_positions() -> None:
    short = TransformerDecoder(VOCAB, width=WIDTH, heads=3, ffn=20, layers=2, max_length=4, pad=PAD)
    short.from_mbart(mbart().state_dict())
    short.double().eval()
    memory, tokens = make_memory(1), make_tokens([[4]])
    torch.testing.assert_close(short(memory, tokens), from_mbart(torch.float64)(memory, tokens))


@torch.no_grad()
def test_attention_weights_match_transformers() -> None:
    theirs = copy.deepcopy(mbart()).double()
    theirs.set_attn_implementation("eager")  # the only one that returns its weights
    memory, tokens = make_memory(3), make_tokens([[LONGEST]] * 3)
    each = theirs(
        input_ids=tokens[:, 0], encoder_hidden_states=memory, output_attentions=True
    ).cross_attentions  # (B, H, T, P) of each layer
    expected = torch.stack(each).mean((0, 2))[:, None]
    found = from_mbart(torch.float64).attention(memory, tokens)
    torch.testing.assert_close(found, expected)
    assert found.std(-1).min() > 0.01  # otherwise uniform weights would pass


def test_attention_weights_sum_to_1_and_do_not_depend_on_other_rows() -> None:
    decoder, memory, tokens = make_decoder(), make_memory(2), make_tokens(LENGTHS)
    found = decoder.attention(memory, tokens)
    assert found.shape == (2, 3, 7, 5)
    torch.testing.assert_close(found.sum(-1), (tokens != PAD).double())
    for b, lengths in enumerate(LENGTHS):
        for k, n in enumerate(lengths):
            alone = decoder.attention(memory[b : b + 1], tokens[b : b + 1, k : k + 1, :n])
            torch.testing.assert_close(found[b, k, :n], alone[0, 0])


def test_attention_weights_exclude_masked_memory() -> None:
    decoder, memory, tokens = make_decoder(), make_memory(2), make_tokens(LENGTHS)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    found = decoder.attention(memory, tokens, mask)
    assert not found[0, ..., 3:].any()
    torch.testing.assert_close(found[0, ..., :3], decoder.attention(memory[:, :3], tokens)[0])
    torch.testing.assert_close(found[1], decoder.attention(memory, tokens)[1])


@torch.no_grad()
def test_attention_weights_match_the_cached_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with weights that are recorded from the calls of `attend` in a search."""
    decoder, memory, tokens = make_decoder(), make_memory(2), make_tokens([[6, 6, 6]] * 2)
    cache = decoder.start(memory, 6, 6)
    keys, seen = [id(k) for k, _ in cache.cross], []
    attend = module.attend

    def recording(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if id(k) in keys:
            seen.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1))  # (B, K, P)
        return attend(q, k, v, mask)

    monkeypatch.setattr(module, "attend", recording)
    for t in range(6):
        seen.clear()
        decoder.step(tokens[..., t], cache)
        found = decoder.attention(memory, tokens[..., : t + 1])[:, :, t]
        recorded = seen[-2:] if t else seen[:2]
        torch.testing.assert_close(found, torch.stack(recorded).mean(0).expand_as(found))


@torch.no_grad()
def test_attention_weights_show_the_position_that_matches_the_queries() -> None:
    decoder, memory, tokens = make_decoder(), make_memory(2), make_tokens(LENGTHS)
    wanted = torch.ones(WIDTH, dtype=torch.float64)
    for layer in decoder.layers:
        a = layer.encoder_attn
        a.q_proj.weight.zero_()
        a.q_proj.bias.copy_(wanted)
        a.k_proj.weight.copy_(torch.eye(WIDTH))
    memory[0, 3], memory[1, 1] = 20 * wanted, 20 * wanted
    found = decoder.attention(memory, tokens)[:, :, 0]
    assert found[0, :, 3].min() > 0.99
    assert found[1, :, 1].min() > 0.99
