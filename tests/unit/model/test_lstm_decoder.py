"""Compare the LSTM decoder with its published equations; test its attention and exact search."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_decoder import LENGTHS, PAD, WIDTH, make_lstm, make_memory, make_tokens
from torch import Tensor, nn

from captioner.decoding import beam_search
from captioner.decoding.torch_arrays import arrays_on
from captioner.model.lstm_decoder import LSTMCell, LSTMDecoder

MASK = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])


def published(decoder: LSTMDecoder, memory: Tensor, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Return logits (T, V) and attention (T, P) for memory (P, D) by the equations of the paper.

    The cells are those of torch.
    """
    soft, layers = decoder.soft_attention, len(decoder.cells)
    state = torch.tanh(decoder.initial.weight @ memory.mean(0) + decoder.initial.bias)
    hidden, cells = (list(x.split(WIDTH)) for x in state.split(layers * WIDTH))
    references = [torch_cell(cell) for cell in decoder.cells]
    logits, attention = [], []
    for token in tokens:
        embedded = decoder.layernorm_embedding(decoder.embed_tokens.weight[token])
        query = soft.state.weight @ hidden[-1]
        energies = [
            soft.score @ torch.tanh(soft.memory.weight @ a + soft.memory.bias + query)
            for a in memory
        ]
        weights = torch.stack(energies).softmax(0)
        gate = torch.sigmoid(decoder.context_gate(hidden[-1]))
        context = gate * sum(w * a for w, a in zip(weights, memory, strict=True))
        x = torch.cat([embedded, context])
        for i, cell in enumerate(references):
            hidden[i], cells[i] = cell(x, (hidden[i], cells[i]))
            x = hidden[i]
        deep = embedded + decoder.output(torch.cat([x, context]))
        logits.append(decoder.embed_tokens.weight @ decoder.layer_norm(deep))
        attention.append(weights)
    return torch.stack(logits), torch.stack(attention)


def torch_cell(cell: LSTMCell) -> nn.LSTMCell:
    """Return torch's cell with the same weights."""
    weight, bias = cell.gates.weight.detach(), cell.gates.bias.detach()
    inputs = weight.shape[1] - WIDTH
    other = nn.LSTMCell(inputs, WIDTH, dtype=weight.dtype)
    other.weight_ih.data, other.weight_hh.data = weight[:, :inputs], weight[:, inputs:]
    other.bias_ih.data, other.bias_hh.data = bias, torch.zeros_like(bias)
    return other


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_logits_and_attention_follow_the_published_equations(layers):
    decoder, memory, tokens = make_lstm(layers=layers), make_memory(2), make_tokens(LENGTHS)
    logits, attention = decoder(memory, tokens), decoder.attention(memory, tokens)
    assert attention.std(-1)[tokens != PAD].min() > 1e-3  # otherwise uniform weights would pass
    start = 0
    for b, lengths in enumerate(LENGTHS):
        for k, n in enumerate(lengths):
            expected, weights = published(decoder, memory[b], tokens[b, k, :n].tolist())
            torch.testing.assert_close(logits[start : start + n], expected)
            torch.testing.assert_close(attention[b, k, :n], weights)
            start += n


def test_attention_weights_sum_to_1_or_are_0_at_padding():
    decoder, memory, tokens = make_lstm(), make_memory(2), make_tokens(LENGTHS)
    found = decoder.attention(memory, tokens)
    assert found.shape == (2, 3, 7, 5)
    torch.testing.assert_close(found.sum(-1), (tokens != PAD).double())


def test_attention_weights_exclude_masked_memory():
    decoder, memory, tokens = make_lstm(), make_memory(2), make_tokens(LENGTHS)
    found = decoder.attention(memory, tokens, MASK)
    assert not found[0, ..., 3:].any()
    torch.testing.assert_close(found[0, ..., :3], decoder.attention(memory[:, :3], tokens)[0])
    torch.testing.assert_close(found[1], decoder.attention(memory, tokens)[1])


def test_admitted_images_have_no_masked_positions():
    decoder, memory = make_lstm(), make_memory(2)
    tokens = make_tokens([[4], [4]])
    cache = decoder.start(memory, 2, 4, MASK)
    decoder.step(tokens[..., 0], cache)
    other = make_memory(1)
    decoder.admit(other, cache, torch.tensor([0]))
    found = decoder.step(tokens[..., 1], cache)
    torch.testing.assert_close(found[0], decoder(other, tokens[:1, :, 1:2]))
    expected = decoder(memory[1:], tokens[1:, :, :2], MASK[1:])[-1:]
    torch.testing.assert_close(found[1], expected)


def test_a_longer_limit_changes_no_weight():
    decoder, memory, tokens = make_lstm(), make_memory(2), make_tokens(LENGTHS)
    before = decoder(memory, tokens)
    decoder.extend_positions(50)
    assert decoder.max_length == 50
    assert torch.equal(decoder(memory, tokens), before)


def test_forget_gates_start_open():
    bias = LSTMDecoder(9, width=4, layers=2, max_length=5, pad=0).cells[1].gates.bias
    assert (bias.view(4, 4)[1] == 1).all()
    assert (bias.view(4, 4)[[0, 2, 3]].abs() < 0.5).all()


BOS, EOS, SMALL, LONGEST = 1, 2, 4, 4


@torch.inference_mode()
def test_a_wide_beam_is_an_exhaustive_search():
    """All sequences that end in EOS, or have the maximum length, are found in order of score."""
    torch.manual_seed(3)
    decoder = LSTMDecoder(SMALL, width=8, layers=2, max_length=LONGEST, pad=0).double().eval()
    nn.init.normal_(decoder.embed_tokens.weight)
    memory = torch.randn(3, 5, 8, dtype=torch.float64)
    others = [token for token in range(SMALL) if token != EOS]
    texts = [[*x, EOS] for n in range(LONGEST) for x in itertools.product(others, repeat=n)]
    texts += [list(x) for x in itertools.product(others, repeat=LONGEST)]
    cache = decoder.start(memory, len(memory) * len(texts), LONGEST)
    found = beam_search(
        lambda tokens: decoder.step(tokens, cache),
        cache.reorder,
        images=len(memory),
        beams=len(texts),
        bos=BOS,
        eos=EOS,
        max_length=LONGEST,
        stop="exact",
        length_penalty=0.0,
        arrays=arrays_on("cpu"),
    )
    for image, hypotheses in zip(memory, found, strict=True):
        scores = {}
        for text in texts:
            cache = decoder.start(image[None], 1, LONGEST)
            read = [torch.tensor([[token]]) for token in [BOS, *text[:-1]]]
            steps = [decoder.step(token, cache)[0, 0].log_softmax(-1) for token in read]
            scores[tuple(text)] = sum(x[t].item() for x, t in zip(steps, text, strict=True))
        assert len(hypotheses) == len(texts)
        assert {tuple(h.tokens) for h in hypotheses} == scores.keys()
        for hypothesis in hypotheses:
            expected = scores[tuple(hypothesis.tokens)]
            assert hypothesis.score == pytest.approx(expected, abs=1e-5)
        ranked = sorted(scores.values(), reverse=True)
        assert [h.score for h in hypotheses] == pytest.approx(ranked, abs=1e-5)
