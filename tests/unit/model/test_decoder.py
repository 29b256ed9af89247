"""Test that padding, the future and other images do not affect the decoder, and its cache."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tiny_decoder import (
    LENGTHS,
    LONGEST,
    PAD,
    VOCAB,
    WIDTH,
    make_decoder,
    make_lstm,
    make_memory,
    make_tokens,
    nan_memory,  # noqa: F401
    spread,
)
from torch import Tensor

from captioner.model.decoder import Decoder
from captioner.model.lstm_decoder import LSTMDecoder
from captioner.model.transformer_decoder import TransformerDecoder

pytestmark = pytest.mark.usefixtures("nan_memory")


@pytest.fixture(params=[make_decoder, make_lstm], ids=["transformer", "lstm"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    """A decoder of each architecture, with 2 layers."""
    return request.param()


def test_logits_follow_the_order_of_the_tokens_without_padding(decoder: Decoder) -> None:
    memory = make_memory(2)
    tokens = make_tokens(LENGTHS)
    logits = decoder(memory, tokens)
    assert logits.shape == (25, VOCAB)
    start = 0
    for b in range(2):
        for k in range(3):
            n = LENGTHS[b][k]
            alone = decoder(memory[b : b + 1], tokens[b : b + 1, k : k + 1, :n])
            torch.testing.assert_close(logits[start : start + n], alone)
            start += n


@pytest.mark.parametrize("t", range(6))
def test_a_token_changes_only_later_logits(decoder: Decoder, t: int) -> None:
    memory = make_memory(1)
    tokens = make_tokens([[6]])
    other = tokens.clone()
    other[0, 0, t] = tokens[0, 0, t] % (VOCAB - 1) + 1
    one, two = (decoder(memory, x) for x in (tokens, other))
    assert torch.equal(one[:t], two[:t])
    changed = (one[t:] - two[t:]).abs().amax(-1)
    assert (changed > 1e-6).all()  # random weights attend to all earlier positions


def test_more_padding_does_not_change_logits(decoder: Decoder) -> None:
    memory = make_memory(2)
    tokens = make_tokens(LENGTHS)
    longer = F.pad(tokens, (0, 2), value=PAD)
    torch.testing.assert_close(decoder(memory, tokens), decoder(memory, longer))


def test_a_row_of_padding_has_no_logits(decoder: Decoder) -> None:
    memory = make_memory(2)
    tokens = make_tokens(LENGTHS)
    more = torch.cat([tokens, torch.full_like(tokens[:, :1], PAD)], 1)
    torch.testing.assert_close(decoder(memory, tokens), decoder(memory, more))


def test_logits_do_not_depend_on_other_rows_and_images(decoder: Decoder) -> None:
    memory = make_memory(2)
    tokens = make_tokens(LENGTHS)
    before = spread(decoder(memory, tokens), tokens)
    other, others_memory = make_tokens(LENGTHS), make_memory(2)
    other[0, 1] = tokens[0, 1]
    others_memory[0] = memory[0]
    after = spread(decoder(others_memory, other), other)
    torch.testing.assert_close(before[0, 1], after[0, 1])
    assert not torch.allclose(before[1], after[1])


def test_logits_depend_on_the_memory(decoder: Decoder) -> None:
    tokens = make_tokens([[4], [4]])
    tokens[1] = tokens[0]
    one, two = spread(decoder(make_memory(2), tokens), tokens)
    assert ((one - two).abs().amax(-1) > 1e-6).all()


def test_rows_of_an_image_equal_images_with_the_same_memory(decoder: Decoder) -> None:
    memory = make_memory(2)
    tokens = make_tokens(LENGTHS)
    flat = decoder(memory.repeat_interleave(3, 0), tokens.flatten(0, 1)[:, None])
    torch.testing.assert_close(decoder(memory, tokens), flat)


def test_memory_positions_have_no_order(decoder: Decoder) -> None:
    memory, tokens = make_memory(2), make_tokens(LENGTHS)
    shuffled = memory[:, torch.randperm(memory.shape[1])]
    torch.testing.assert_close(decoder(memory, tokens), decoder(shuffled, tokens))


def naive(decoder: TransformerDecoder, memory: Tensor, tokens: Tensor) -> Tensor:
    """Return logits (B, K, T, V) without packing: padding is computed as well."""
    images, rows, length = tokens.shape
    flat, memory = tokens.flatten(0, 1), memory.repeat_interleave(rows, 0)
    x = decoder.embed_tokens(flat) + decoder.embed_positions.weight[:length]
    x = decoder.layernorm_embedding(x)
    heads = decoder.layers[0].self_attn.heads

    def attention(a: torch.nn.Module, queries: Tensor, keys: Tensor, causal: bool) -> Tensor:
        parts = (a.q_proj(queries), a.k_proj(keys), a.v_proj(keys))
        parts = (p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in parts)
        out = F.scaled_dot_product_attention(*parts, is_causal=causal)
        return a.out_proj(out.transpose(1, 2).flatten(2))

    for layer in decoder.layers:
        h = layer.self_attn_layer_norm(x)
        x = x + attention(layer.self_attn, h, h, True)
        x = x + attention(layer.encoder_attn, layer.encoder_attn_layer_norm(x), memory, False)
        x = x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))
    return (decoder.layer_norm(x) @ decoder.embed_tokens.weight.T).unflatten(0, (images, rows))


@pytest.mark.parametrize("lengths", [LENGTHS, [[4, 4], [4, 4]]], ids=["packed", "full"])
def test_packed_logits_and_gradients_match_a_padded_computation(lengths: list[list[int]]) -> None:
    decoder, tokens = make_decoder(), make_tokens(lengths)
    memory = make_memory(2).requires_grad_()
    places = tokens != PAD
    ours, theirs = decoder(memory, tokens), naive(decoder, memory, tokens)[places]
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    inputs = [memory, *decoder.parameters()]
    grads = [torch.autograd.grad((x * weight).sum(), inputs) for x in (ours, theirs)]
    torch.testing.assert_close(*grads)


@torch.no_grad()
def stepwise(
    decoder: Decoder, memory: Tensor, tokens: Tensor, mask: Tensor | None = None
) -> Tensor:
    rows = tokens.shape[0] * tokens.shape[1]
    state = decoder.start(memory, rows, tokens.shape[-1], mask)
    return torch.stack([decoder.step(tokens[..., t], state) for t in range(tokens.shape[-1])], 2)


@pytest.mark.parametrize("rows", [1, 3])
def test_cached_steps_equal_the_uncached_forward(decoder: Decoder, rows: int) -> None:
    memory = make_memory(2)
    tokens = make_tokens([[LONGEST] * rows] * 2)
    expected = spread(decoder(memory, tokens), tokens)
    torch.testing.assert_close(stepwise(decoder, memory, tokens), expected)


MEMORY_MASK = torch.tensor([[True] * 3 + [False] * 2, [True, False, True, True, False]])


def test_masked_memory_does_not_change_logits(decoder: Decoder) -> None:
    """The logits equal those for the memory without its masked positions."""
    memory, tokens = make_memory(2), make_tokens(LENGTHS)
    found = decoder(memory, tokens, MEMORY_MASK)
    other = torch.where(MEMORY_MASK[..., None], memory, 9 * torch.randn_like(memory))
    torch.testing.assert_close(decoder(other, tokens, MEMORY_MASK), found)
    parts = [
        decoder(memory[b, MEMORY_MASK[b]][None], tokens[b : b + 1]) for b in range(len(memory))
    ]
    torch.testing.assert_close(torch.cat(parts), found)
    assert not torch.allclose(decoder(memory, tokens), found)


def test_a_full_mask_equals_no_mask(decoder: Decoder) -> None:
    memory, tokens = make_memory(2), make_tokens(LENGTHS)
    full = torch.ones_like(MEMORY_MASK)
    torch.testing.assert_close(decoder(memory, tokens, full), decoder(memory, tokens))


def test_masked_memory_gets_no_gradient(decoder: Decoder) -> None:
    tokens = make_tokens(LENGTHS)
    memory = make_memory(2).requires_grad_()
    (grad,) = torch.autograd.grad(decoder(memory, tokens, MEMORY_MASK).square().sum(), memory)
    assert (grad.abs().amax(-1) > 0).equal(MEMORY_MASK)


@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_cached_steps_with_masked_memory_equal_the_uncached_forward(
    decoder: Decoder, rows: int
) -> None:
    memory = make_memory(2)
    tokens = make_tokens([[LONGEST] * rows] * 2)
    expected = spread(decoder(memory, tokens, MEMORY_MASK), tokens)
    other = torch.where(MEMORY_MASK[..., None], memory, 9 * torch.randn_like(memory))
    for values in (memory, other):
        found = stepwise(decoder, values, tokens, MEMORY_MASK)
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(stepwise(decoder, memory, tokens), expected)


@torch.no_grad()
def test_reordered_rows_continue_their_new_prefixes(decoder: Decoder) -> None:
    """As in a search, each step selects new rows of an image, some of them repeatedly."""
    memory = make_memory(2)
    images, beams = 2, 3
    state = decoder.start(memory, images * beams, LONGEST)
    history = torch.zeros(images, beams, 0, dtype=torch.long)
    for _ in range(LONGEST):
        token = torch.randint(1, VOCAB, (images, beams))
        history = torch.cat([history, token[..., None]], -1)
        expected = spread(decoder(memory, history), history)[:, :, -1]
        torch.testing.assert_close(decoder.step(token, state), expected)
        rows = torch.randint(beams, (images, beams))
        state.reorder((rows + torch.arange(images)[:, None] * beams).flatten())
        history = history.gather(1, rows[..., None].expand_as(history))


@torch.no_grad()
def test_an_identity_reorder_changes_no_cache_entry() -> None:
    decoder, memory, tokens = make_decoder(), make_memory(1), make_tokens([[4, 4]])
    state = decoder.start(memory, 2, 4)
    for t in range(3):
        decoder.step(tokens[..., t], state)
    before = [x.clone() for x in state.own], state.visible.clone()
    state.reorder(torch.arange(2))
    for own, old in zip(state.own, before[0], strict=True):
        assert torch.equal(own.nan_to_num(), old.nan_to_num())
    assert torch.equal(state.visible, before[1])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_replacing_images_does_not_affect_others(decoder: Decoder, seed: int, beams: int) -> None:
    """Logits depend only on the image's own history, however long the cache has been in use."""
    rng, steps = random.Random(seed), 0

    def come(count: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        memory = make_memory(count)
        empty = torch.zeros(1, beams, 0, dtype=torch.long)
        return memory, [(one, empty) for one in memory.split(1)]

    memory, running = come(5)  # memory (1, P, D) and tokens (1, K, T) of each image
    state = decoder.start(memory, 5 * beams, 2 * LONGEST)
    while running and steps < 6 * LONGEST:
        tokens = torch.randint(1, VOCAB, (len(running), beams))
        found = decoder.step(tokens, state)
        running = [
            (memory, torch.cat([history, token[None, :, None]], -1))
            for (memory, history), token in zip(running, tokens, strict=True)
        ]
        for (memory, history), logits in zip(running, found, strict=True):
            expected = spread(decoder(memory, history), history)[0, :, -1]
            torch.testing.assert_close(logits, expected)
        leave = [
            place
            for place, (_, history) in enumerate(running)
            if history.shape[-1] == LONGEST or rng.random() < 0.1
        ]
        count = len(leave) if rng.random() < 0.8 else rng.randint(0, len(leave))
        taken, stay = leave[:count], [p for p in range(len(running)) if p not in leave[count:]]
        if taken:
            memory, new = come(count)
            decoder.admit(memory, state, torch.tensor(taken))
            for place, one in zip(taken, new, strict=True):
                running[place] = one
        rows = torch.randint(beams, (len(stay), beams))
        running = [
            (running[p][0], running[p][1][:, row]) for p, row in zip(stay, rows, strict=True)
        ]
        if running:
            state.reorder((torch.tensor(stay)[:, None] * beams + rows).flatten())
        steps += 1
    assert steps > 2 * LONGEST


def test_half_precision_is_close_to_float32(decoder: Decoder) -> None:
    memory, tokens = make_memory(2), make_tokens(LENGTHS)
    expected = decoder(memory, tokens)
    found = decoder.bfloat16()(memory.bfloat16(), tokens)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).std() < 0.05 * expected.std()


def test_the_head_is_tied_to_the_embedding(decoder: Decoder) -> None:
    assert not any("head" in name for name in decoder.state_dict())
    x = torch.randn(3, WIDTH, dtype=torch.float64)
    expected = decoder.layer_norm(x) @ decoder.embed_tokens.weight.T
    torch.testing.assert_close(decoder.logits(x), expected)
    (grad,) = torch.autograd.grad(decoder.logits(x).sum(), decoder.embed_tokens.weight)
    assert (grad != 0).any()


BUILDERS = {
    "transformer": partial(TransformerDecoder, heads=3, ffn=20, layers=1),
    "lstm": partial(LSTMDecoder, layers=1),
}
every_kind = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


@every_kind
def test_padding_starts_as_zero(build) -> None:
    decoder = build(VOCAB, width=12, max_length=4, pad=PAD)
    assert not decoder.embed_tokens.weight[PAD].any()
    assert decoder.embed_tokens.weight.any(1).sum() == VOCAB - 1


@every_kind
def test_an_embedding_of_another_decoder_is_no_weight_of_its_own(build) -> None:
    other = build(VOCAB, width=12, max_length=4, pad=PAD)
    before = other.embed_tokens.weight.clone()
    decoder = build(VOCAB, width=12, max_length=4, pad=PAD, embed_tokens=other.embed_tokens)
    assert decoder.embed_tokens is other.embed_tokens
    assert torch.equal(other.embed_tokens.weight, before)
    assert set(other.state_dict()) - set(decoder.state_dict()) == {"embed_tokens.weight"}


@every_kind
def test_dropout_is_active_only_in_training(build) -> None:
    torch.manual_seed(0)
    decoder = build(VOCAB, width=WIDTH, max_length=9, pad=PAD, dropout=0.5)
    tokens, memory = make_tokens(LENGTHS), make_memory(2).float()
    assert not torch.equal(decoder(memory, tokens), decoder(memory, tokens))
    decoder.eval()
    assert torch.equal(decoder(memory, tokens), decoder(memory, tokens))
