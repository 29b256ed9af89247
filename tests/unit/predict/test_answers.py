"""Answers to one question: confidences, inputs, checks of questions and options."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from answering import CLOSED, assert_same, count_encoded, ids_of, logprobs_of, save_pictures
from tiny import COLOURS, make_checkpoint, picture
from tiny_vqa import LONGEST, QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.decoding import Hypothesis
from captioner.errors import CaptionerError, QuestionError
from captioner.generation.answers import search_answers
from captioner.predict import Captioner, questions
from captioner.predict.results import ImageTraits
from captioner.tokenizer import EOS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("answers") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


@pytest.fixture
def encoded(model, monkeypatch) -> list[int]:
    """The number of images of each call of the encoder."""
    return count_encoded(model, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    return save_pictures(tmp_path)


def test_answers_depend_on_image_and_question(model):
    images, options = [picture(i) for i in range(4)], {"answers": COLOURS}
    by_image = {model.ask(image, QUESTIONS[0], **options).confidence for image in images}
    by_question = {model.ask(images[0], q, **options).confidence for q in QUESTIONS}
    assert (len(by_image), len(by_question)) == (4, len(QUESTIONS))
    answers = [model.ask(image, q).text for image in images for q in QUESTIONS]
    assert len(set(answers)) > 4


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_confidence_is_the_probability_of_the_whole_answer(tmp_path, temperature):
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best", temperature=temperature))
    image, question = picture(1), QUESTIONS[2]
    found = model.ask(image, question, num_answers=3)
    memories = model.backend.encode_questions(
        [model.encode(image).memory], [ids_of(model, question)], [0]
    )
    [hypotheses] = search_answers(model.backend, memories, model.config.answers)
    total: dict[str, float] = {}
    for h in hypotheses:
        logprobs = logprobs_of(model, image, question, h.tokens).log_softmax(-1)
        p = logprobs[torch.arange(len(h.tokens)), h.tokens].sum().exp().item()
        text = model.tokenizer.decode(h.tokens).strip()
        total[text] = total.get(text, 0) + p
    assert {a.text: pytest.approx(a.confidence, rel=1e-3) for a in found.answers} == total


def test_answers_are_sorted_and_num_answers_widens_the_beam(model):
    for number in (1, 3, 7):
        found = model.ask(picture(0), QUESTIONS[0], num_answers=number)
        confidences = [a.confidence for a in found.answers]
        assert 1 <= len(found.answers) <= number
        assert confidences == sorted(confidences, reverse=True)
        assert all(0 < c <= 1 for c in confidences)
        assert sum(confidences) <= 1 + 1e-6
        assert len({a.text for a in found.answers}) == len(found.answers)
        assert found.best == found.answers[0]
        assert (found.text, found.confidence) == (found.best.text, found.best.confidence)
    assert len(found.answers) > 3  # more than the checkpoint's beams


def test_a_wider_beam_finds_an_answer_at_least_as_likely(model):
    for image in (picture(i) for i in range(3)):
        narrow, wide = (model.ask(image, QUESTIONS[1], beam_size=n).confidence for n in (1, 20))
        assert wide >= narrow * (1 - 1e-4)


def test_probabilities_of_equal_texts_are_added(model):
    tokenizer = model.tokenizer
    pieces = tokenizer.encode("red")
    spelt = [EOS + 1 + byte for byte in b"red"] + [EOS]  # byte pieces
    assert tokenizer.decode(spelt) == tokenizer.decode(pieces) == "red"
    assert spelt != pieces
    hypotheses = [
        Hypothesis(tokens, math.log(p), 0.0)
        for tokens, p in ((tokenizer.encode("dog"), 0.4), (pieces, 0.3), (spelt, 0.25))
    ]
    options = questions.AnswerOptions.resolve(model.config, num_answers=2)
    found = options.build_answers(hypotheses, tokenizer, ImageTraits())
    assert [(a.text, round(a.confidence, 6)) for a in found.answers] == [
        ("red", 0.55),
        ("dog", 0.4),
    ]
    assert options.build_answers(hypotheses[:2], tokenizer, ImageTraits()).text == "dog"


def test_an_unsure_result_keeps_its_answers(model):
    sure = model.ask(picture(0), QUESTIONS[0], num_answers=3)
    assert not sure.unsure
    below, above = sure.confidence * 0.99, sure.confidence * 1.01
    kept = model.ask(picture(0), QUESTIONS[0], num_answers=3, min_confidence=below)
    assert (kept.text, kept.unsure) == (sure.text, False)
    unsure = model.ask(picture(0), QUESTIONS[0], num_answers=3, min_confidence=above)
    assert (unsure.text, unsure.unsure) == ("unsure", True)
    assert (unsure.answers, unsure.best) == (sure.answers, sure.best)


def test_an_encoded_image_serves_many_questions(model, encoded, photos):
    image = model.encode(photos[0])
    found = [model.ask(image, question) for question in QUESTIONS]
    assert encoded == [1]
    assert_same(found, [model.ask(photos[0], question) for question in QUESTIONS])
    assert len(encoded) == 1 + len(QUESTIONS)


def test_an_image_encoded_by_another_model_is_rejected(model, folder):
    other = captioner.load(folder)
    with pytest.raises(CaptionerError, match="another model"):
        other.ask(model.encode(picture(0)), QUESTIONS[0])


def test_images_in_any_form(model, photos):
    data = photos[2].read_bytes()
    forms = [photos[2], str(photos[2]), data, picture(2), np.asarray(picture(2)), io.BytesIO(data)]
    alone = [model.ask(form, QUESTIONS[0]) for form in forms]
    assert_same(alone, alone[:1] * len(forms))
    assert_same(model.answer([(form, QUESTIONS[0]) for form in forms]), alone)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_confidences_are_close(folder, model, dtype):
    half = captioner.load(folder, dtype=dtype)
    options = {"answers": CLOSED, "num_answers": len(CLOSED)}
    a, b = (m.ask(picture(0), QUESTIONS[0], **options) for m in (half, model))
    whole = {x.text: x.confidence for x in b.answers}
    assert sum(x.confidence for x in a.answers) == pytest.approx(1, abs=1e-3)
    assert all(abs(x.confidence - whole[x.text]) < 0.2 for x in a.answers)


@pytest.mark.parametrize(
    "same",
    [
        "What is by the DOG?",
        "  what is\tby the dog ??\n",
        "what is by the dog .",
        "what is by the dog",
    ],
)
def test_questions_are_normalized_as_in_training(model, same):
    assert model.ask(picture(0), same) == model.ask(picture(0), "what is by the dog?")


@pytest.mark.parametrize(
    ("question", "expected_message"),
    [
        ("", "is empty"),
        (" \t\n", "is empty"),
        ("?", "is empty"),
        ("!!! ...", "no letter and no digit"),
        ("🏖️🐕", "no letter and no digit"),
        (None, "NoneType"),
        (b"what is it?", "bytes"),
        (["what is it?"], "list"),
        (7, "int"),
        ("what is \x00 it?", r"\\x00"),
        ("\x1b[31mwhat is it?", r"\\x1b"),
        ("what is a caf\udce9?", "not UTF-8"),
        ("dog " * LONGEST, str(LONGEST)),
        ("x" * 100_000, str(LONGEST)),
    ],
)
def test_unusable_questions_are_rejected(model, encoded, question, expected_message):
    with pytest.raises(QuestionError, match=expected_message) as caught:
        model.ask(picture(0), question)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 250
    assert encoded == []
    (found,) = model.answer([(picture(0), question)])
    assert str(found.error) == message
    with pytest.raises(QuestionError):
        _ = found.text


@pytest.mark.parametrize("question", ["où est le café ?", "颜色", "2 + 2 = ?", "a 🐕 dog?"])
def test_questions_in_any_script_are_answered(model, question):
    assert 0 < model.ask(picture(0), question).confidence <= 1


def test_the_question_limit_counts_tokens(model):
    """The longest question that fits is not truncated; a longer one is an error with its length."""
    words = "dog"
    while len(ids_of(model, f"{words} dog")) <= LONGEST:
        words += " dog"
    tokens = len(ids_of(model, f"{words} dog"))
    model.ask(picture(0), words)
    with pytest.raises(QuestionError, match=rf"has {tokens} tokens.*at most {LONGEST}"):
        model.ask(picture(0), f"{words} dog")


@pytest.mark.parametrize(
    ("options", "expected_message"),
    [
        ({"num_answers": 0}, "num_answers"),
        ({"beam_size": 0}, "beam_size"),
        ({"min_confidence": -0.1}, "min_confidence"),
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"min_confidence": math.nan}, "min_confidence"),
    ],
)
def test_options_are_checked(model, options, expected_message):
    with pytest.raises(CaptionerError, match=expected_message):
        model.ask(picture(0), QUESTIONS[0], **options)
    with pytest.raises(CaptionerError, match=expected_message):
        model.answer([(picture(0), QUESTIONS[0])], **options)
    with pytest.raises(CaptionerError, match="batch_size"):
        model.answer([(picture(0), QUESTIONS[0])], batch_size=0)


def test_questions_to_a_captioning_checkpoint_are_an_error(tmp_path):
    model = captioner.load(make_checkpoint(tmp_path / "best"))
    for call in (
        lambda: model.ask(picture(0), QUESTIONS[0]),
        lambda: model.answer([(picture(0), QUESTIONS[0])]),
        lambda: model.stream(picture(0), question=QUESTIONS[0]),
    ):
        with pytest.raises(CaptionerError, match=r"captions only.*model\.question"):
            call()
    assert model.caption(picture(0))[0].text
