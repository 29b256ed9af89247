"""Removing attention heads and inner units of feed-forward layers."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import small_model, train_small_tokenizer
from torch import Tensor

from captioner.config import ModelConfig, QuestionConfig
from captioner.errors import ConfigError
from captioner.model.layer_units import list_units, resize_units
from captioner.model.layers import Layer
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS

SIZES = {
    "memory_encoder.layers.0.ffn": 3,
    "decoder.layers.0.self_attn": 1,
    "decoder.layers.1.encoder_attn": 1,
    "decoder.layers.1.ffn": 5,
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_small_tokenizer()


@pytest.fixture
def model(tokenizer) -> Seq2Seq:
    question = QuestionConfig(encoder_layers=1, fusion_layers=2, decoder_layers=1, decoder_ffn=12)
    return small_model(tokenizer, decoder_layers=2, question=question).eval()


@torch.no_grad()
def logits_of(model: Seq2Seq) -> tuple[Tensor, Tensor]:
    """Return logits of captions and of answers."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    tokens = torch.randint(4, 260, (2, 2, 4), generator=generator)
    questions = torch.randint(4, 260, (3, 5), generator=generator)
    answers = torch.randint(4, 260, (3, 1, 3), generator=generator)
    return model(images, tokens), model(images, answers, questions, torch.tensor([0, 1, 1]))


def test_units_are_the_heads_and_inner_units_of_all_layers(model):
    counts = {name: units.count for name, units in list_units(model).items()}
    assert counts["decoder.layers.1.encoder_attn"] == counts["fusion.image.attn"] == 2
    assert counts["question_encoder.layers.0.ffn"] == 16
    assert counts["answerer.layers.0.ffn"] == 12
    # 2 per layer of encoders, 3 per layer of decoders and the fusion, 1 of the image's block.
    assert len(counts) == 2 * 2 + 3 * (2 + 1 + 2) + 1


def test_keeping_all_units_changes_nothing(model):
    expected = logits_of(model)
    for units in list_units(model).values():
        units.keep(range(units.count))
    for found, logits in zip(logits_of(model), expected, strict=True):
        assert torch.equal(found, logits)


@pytest.mark.parametrize("name", ["decoder.layers.0.self_attn", "fusion.layers.1.ffn"])
@torch.no_grad()
def test_removing_a_unit_removes_its_output(model, name):
    """It has the effect of zeros in the columns that read the unit."""
    units, other = list_units(model)[name], copy.deepcopy(model)
    removed = 1
    output = getattr(list_units(other)[name].owner, units.output)
    output.weight[:, removed * units.depth : (removed + 1) * units.depth] = 0
    before, count = sum(p.numel() for p in model.parameters()), units.count
    weights = units.weights
    units.keep([i for i in range(count) if i != removed])
    assert units.count == count - 1
    assert before - sum(p.numel() for p in model.parameters()) == weights
    for found, logits in zip(logits_of(model), logits_of(other), strict=True):
        torch.testing.assert_close(found, logits)


def test_sizes_of_a_configuration_are_those_of_the_model(tokenizer):
    model = small_model(tokenizer, decoder_layers=2, sizes=SIZES)
    counts = {name: units.count for name, units in list_units(model).items()}
    assert {name: counts[name] for name in SIZES} == SIZES
    assert counts["decoder.layers.0.encoder_attn"] == 2
    assert model.decoder.layers[0].self_attn.q_proj.weight.shape == (4, 8)


@torch.no_grad()
def test_steps_with_a_cache_equal_whole_texts_if_layers_have_other_heads(model):
    resize_units(model, SIZES)
    decoder, generator = model.decoder, torch.Generator().manual_seed(1)
    memory = torch.randn(3, 4, 8, generator=generator)
    tokens = torch.randint(4, 260, (3, 2, 5), generator=generator)
    tokens[..., 0] = BOS
    cache = decoder.start(memory, rows=6, length=5)
    steps = [decoder.step(tokens[..., t], cache) for t in range(3)]
    expected = decoder(memory, tokens).view(3, 2, 5, -1)
    torch.testing.assert_close(torch.stack(steps, 2), expected[:, :, :3])
    # Without the second image; the others exchange their rows.
    cache.reorder(torch.tensor([1, 0, 5, 4]))
    moved = tokens[[0, 2]].flip(1)
    found = decoder.step(moved[..., 3], cache)
    torch.testing.assert_close(found, decoder(memory[[0, 2]], moved).view(2, 2, 5, -1)[:, :, 3])


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"decoder.layers.7.ffn": 3}, "no attention or feed-forward layer decoder.layers.7.ffn"),
        ({"decoder.layers.0": 3}, "no attention or feed-forward layer decoder.layers.0"),
        ({"decoder.layers.0.self_attn": 3}, "decoder.layers.0.self_attn: 3: expected at most 2"),
    ],
)
def test_sizes_that_do_not_fit_are_an_error(tokenizer, sizes, problem):
    with pytest.raises(ConfigError, match=f"model.sizes: .*{problem}"):
        small_model(tokenizer, sizes=sizes)


@pytest.mark.parametrize("size", [0, 1.5, True, "3"])
def test_sizes_are_whole_numbers_above_0(size):
    with pytest.raises(ConfigError, match=r"model.sizes: decoder.layers.0.ffn: .*above 0"):
        ModelConfig(sizes={"decoder.layers.0.ffn": size})


def test_the_number_of_weights_of_a_unit():
    (units,) = [x for x in list_units(Layer(8, 2, 16, 0.0)).values() if x.output == "out_proj"]
    assert units.weights == 3 * (8 + 1) * 4 + 8 * 4
