"""Compare the recurrent question encoder with the bidirectional modules of torch."""

from __future__ import annotations

import pytest
import torch
from tiny_questions import Grid, make_tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from captioner.build import build_model
from captioner.config import ModelConfig, QuestionConfig
from captioner.errors import ConfigError
from captioner.model.recurrent_encoder import RecurrentEncoder

WIDTH, VOCAB, LENGTHS = 12, 20, (6, 1, 4)


def make_encoder(cell: str, *, layers: int = 1) -> tuple[RecurrentEncoder, nn.Embedding]:
    torch.manual_seed(0)
    encoder = RecurrentEncoder(cell, width=WIDTH, layers=layers).double().eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.4)
    return encoder, nn.Embedding(VOCAB, WIDTH, dtype=torch.float64)


def make_questions() -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(1, VOCAB, mask.shape).masked_fill(~mask, 0), mask


def reference(encoder: RecurrentEncoder, cell: str, x: Tensor) -> Tensor:
    """Return the states of torch's own module on packed sequences."""
    layers = len(encoder.forwards)
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    rnn = kind(WIDTH, WIDTH // 2, layers, batch_first=True, bidirectional=True).double()
    for suffix, directions in (("", encoder.forwards), ("_reverse", encoder.backwards)):
        for i, direction in enumerate(directions):
            for name, value in direction.named_parameters():
                getattr(rnn, f"{name}_l{i}{suffix}").data.copy_(value)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True)[0]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_states_and_gradients_equal_those_of_torch(cell, layers):
    encoder, embedding = make_encoder(cell, layers=layers)
    ids, mask = make_questions()
    x = encoder.layernorm_embedding(embedding(ids))
    expected = encoder.norm(reference(encoder, cell, x))[mask]
    found = encoder(ids, mask, embedding)[mask]
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    grads = [torch.autograd.grad((y * weight).sum(), embedding.weight) for y in (found, expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_state_depends_on_words_before_and_after_it(cell):
    encoder, embedding = make_encoder(cell)
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool)
    before = encoder(ids, mask, embedding)
    for changed in (0, 2):
        other = ids.clone()
        other[0, changed] = 9
        assert not torch.allclose(encoder(other, mask, embedding)[0, 1], before[0, 1])


def test_the_longest_question_has_no_limit():
    encoder, embedding = make_encoder("lstm")
    before = {name: x.clone() for name, x in encoder.state_dict().items()}
    encoder.extend_positions(100)
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)
    ids = torch.ones(1, 100, dtype=torch.long)
    assert encoder(ids, ids > 0, embedding).shape == (1, 100, WIDTH)


def test_an_odd_width_is_a_one_line_error():
    question = QuestionConfig(encoder="gru", fusion="add")
    config = ModelConfig(width=9, heads=3, ffn=8, decoder_layers=1, question=question)
    with pytest.raises(ConfigError, match=r"model\.question\.encoder=gru: width 9 is odd"):
        build_model(config, Grid(), tokenizer=make_tokenizer(), channels=6, positions=4)


def test_recurrent_encoders_need_a_layer_and_take_no_adapters():
    with pytest.raises(ConfigError, match="encoder_layers=0"):
        QuestionConfig(encoder="lstm", encoder_layers=0)
    with pytest.raises(ConfigError, match="adapters need a pretrained encoder"):
        QuestionConfig(encoder="gru", lora_rank=2)
