"""Searches on the torch backend, with a tiny random model."""

from __future__ import annotations

import pytest
import torch
from tiny import make_checkpoint

from captioner.backends.encoder_outputs import EncoderOutputs
from captioner.backends.torch_backend import TorchBackend
from captioner.build import load_checkpoint
from captioner.config import AnswerConfig, DecodingConfig, QuestionConfig
from captioner.data.collate import pad
from captioner.decoding import Hypothesis
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_caption_stream, search_captions, stream_tokens
from captioner.tokenizer import BOS, EOS, PAD, UNK


def backend_of(model) -> TorchBackend:
    return TorchBackend.of_model(model, device=torch.device("cpu"))


@torch.inference_mode()
def search(model, images, config) -> list[list[Hypothesis]]:
    backend = backend_of(model)
    return search_captions(backend, backend.encode_tensors([images]), config)


@torch.inference_mode()
def answer(model, memory, questions, owners, config) -> list[list[Hypothesis]]:
    backend = backend_of(model)
    memories = backend.fuse_questions([EncoderOutputs((memory,))], questions, owners)
    return search_answers(backend, memories, config)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found, _, config = load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("tiny")))
    return found, config.image.size


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_scores_equal_one_parallel_pass_over_the_caption(model, beams, penalty):
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


def test_captions_contain_no_special_tokens(model):
    model, size = model
    config = DecodingConfig(beam_size=6, max_length=12)
    found = search(model, torch.randn(4, 3, size, size), config)
    tokens = {t for hypotheses in found for h in hypotheses for t in h.tokens[:-1]}
    assert not tokens & {PAD, UNK, BOS, EOS}


def test_features_give_the_same_captions_as_pixels(model):
    model, size = model
    pixels = torch.randn(2, 3, size, size)
    config = DecodingConfig(beam_size=3, max_length=8)
    with torch.no_grad():
        features = model.backbone(pixels)
    found, expected = (search(model, images, config) for images in (features, pixels))
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        # Another memory layout may select another kernel.
        assert [h.logprob for h in ours] == pytest.approx([h.logprob for h in theirs], abs=1e-4)


def test_inference_mode_does_not_extend_to_the_caller(model):
    """Between two results of a generator, the caller may compute gradients."""
    model, size = model
    backend = backend_of(model)
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    inside = []

    def batches():
        inside.append(torch.is_inference_mode_enabled())
        yield backend.encode_tensors([pixels])

    for config in (DecodingConfig(beam_size=2), DecodingConfig(method="sample")):
        stream = search_caption_stream(backend, batches(), config)
        assert [torch.is_inference_mode_enabled() for _ in stream] == [False] * 3
    assert inside == [True, True]
    with torch.inference_mode():
        [memory] = backend.encode_tensors([pixels[:1]])
    tokens = stream_tokens(backend, memory, DecodingConfig(beam_size=1, max_length=4))
    assert not any(torch.is_inference_mode_enabled() for _ in tokens)


# Answers

QUESTIONS = ("a red dog by the boat", "a boat", "a pink street by the dog", "a window")
OWNERS = (2, 0, 2, 0)  # no question is about image 1
TEMPERATURE = 0.8


FUSIONS = [QuestionConfig(fusion=f) for f in ("concat", "cross_attention", "multiply", "linear")]
OWN_DECODER = QuestionConfig(decoder_layers=2, decoder_ffn=24)


@pytest.fixture(
    scope="module", params=[*FUSIONS, OWN_DECODER], ids=lambda q: f"{q.fusion} {q.decoder_layers}"
)
def vqa_inputs(request, tmp_path_factory):
    """A model that answers, the memory of three images, question ids and owners."""
    folder = tmp_path_factory.mktemp("vqa")
    question = request.param
    found, tokenizer, _ = load_checkpoint(make_checkpoint(folder, question=question))
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        memory = found.encode(torch.randn(3, 3, 64, 64, generator=generator))
    ids = [tokenizer.encode(text) for text in QUESTIONS]
    return found, memory, ids, torch.tensor(OWNERS)


@pytest.mark.parametrize("beams", [1, 4])
def test_an_answer_probability_covers_all_its_tokens(vqa_inputs, beams):
    model, memory, ids, owners = vqa_inputs
    config = AnswerConfig(beam_size=beams, max_length=6, temperature=TEMPERATURE)
    found = answer(model, memory, pad(ids, PAD), owners, config)
    assert len(found) == len(QUESTIONS)
    for i, hypotheses in enumerate(found):
        assert 1 <= len(hypotheses) <= beams
        assert [h.logprob for h in hypotheses] == sorted(h.logprob for h in hypotheses)[::-1]
        for h in hypotheses:
            with torch.inference_mode():
                fused, mask = model.fuse_questions(
                    memory, torch.tensor(ids[i : i + 1]), owners[i : i + 1]
                )
                tokens = torch.tensor([[[BOS, *h.tokens[:-1]]]])
                logits = model.decode(fused, tokens, mask, answers=True) / TEMPERATURE
                logits[:, [PAD, UNK, BOS]] = float("-inf")
            logprobs = logits.log_softmax(-1)[torch.arange(len(h.tokens)), h.tokens]
            assert h.logprob == pytest.approx(logprobs.sum().item(), abs=1e-4)
            assert h.score == pytest.approx(h.logprob)  # no reward for length


def test_answers_do_not_depend_on_other_questions(vqa_inputs):
    model, memory, ids, owners = vqa_inputs
    config = AnswerConfig(beam_size=3, max_length=6)
    together = answer(model, memory, pad(ids, PAD), owners, config)
    order = [3, 0, 2, 1]
    shuffled = answer(model, memory, pad([ids[i] for i in order], PAD), owners[order], config)
    alone = [
        answer(model, memory[o][None], torch.tensor([q]), torch.zeros(1, dtype=torch.long), config)
        for q, o in zip(ids, OWNERS, strict=True)
    ]
    for i, expected in enumerate(together):
        for other in (alone[i][0], shuffled[order.index(i)]):
            assert [h.tokens for h in other] == [h.tokens for h in expected]
            found = [h.logprob for h in other]
            assert found == pytest.approx([h.logprob for h in expected], abs=1e-4)


def test_a_higher_temperature_lowers_confidence_only(vqa_inputs):
    model, memory, ids, owners = vqa_inputs
    best = []
    for temperature in (0.5, 1.0, 2.0):
        config = AnswerConfig(beam_size=1, max_length=1, temperature=temperature)
        best.append([h[0] for h in answer(model, memory, pad(ids, PAD), owners, config)])
    cold, as_is, hot = best
    for a, b, c in zip(cold, as_is, hot, strict=True):
        assert a.tokens == b.tokens == c.tokens
        assert a.logprob > b.logprob > c.logprob
