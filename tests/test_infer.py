"""The decoder's step and the search together, on a tiny random model."""

from __future__ import annotations

import pytest
import torch
from tiny import make_checkpoint

from captioner.build import load_checkpoint
from captioner.config import DecodingConfig
from captioner.infer import search
from captioner.tokenizer import BOS, EOS, PAD, UNK


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found, _, config = load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("tiny")))
    return found, config.image.size


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_scores_are_those_of_the_whole_caption_decoded_at_once(model, beams, penalty):
    model, size = model
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    config = DecodingConfig(beam_size=beams, max_length=9, length_penalty=penalty)
    for i, hypotheses in enumerate(search(model, pixels, config)):
        assert 1 <= len(hypotheses) <= beams
        for h in hypotheses:
            tokens = torch.tensor([[[BOS, *h.tokens[:-1]]]])
            with torch.no_grad():
                logits = model(pixels[i : i + 1], tokens)
            logits[:, [PAD, UNK, BOS]] = float("-inf")
            logprobs = logits.log_softmax(-1)[torch.arange(len(h.tokens)), h.tokens]
            assert h.logprob == pytest.approx(logprobs.sum().item(), abs=1e-4)
            assert h.score == pytest.approx(h.logprob / len(h.tokens) ** penalty)


def test_neither_padding_nor_a_start_stands_in_a_caption(model):
    model, size = model
    config = DecodingConfig(beam_size=6, max_length=12)
    found = search(model, torch.randn(4, 3, size, size), config)
    tokens = {t for hypotheses in found for h in hypotheses for t in h.tokens[:-1]}
    assert not tokens & {PAD, UNK, BOS, EOS}


def test_kept_features_give_what_pixels_give(model):
    model, size = model
    pixels = torch.randn(2, 3, size, size)
    config = DecodingConfig(beam_size=3, max_length=8)
    with torch.no_grad():
        features = model.backbone(pixels)
    assert search(model, pixels, config) == search(model, features, config)
