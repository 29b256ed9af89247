"""Answers by the Python API: places, probabilities, closed sets, and one encoding an image."""

from __future__ import annotations

import io
import math
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import COLOURS, THINGS, make_checkpoint, picture
from tiny_vqa import LONGEST, QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.backends import torch_backend
from captioner.decoding import Hypothesis
from captioner.errors import CaptionerError, ImageError, QuestionError
from captioner.generation.answers import search_answers
from captioner.predict import Answers, Captioner, questions
from captioner.predict import captioner as module
from captioner.text import normalize_question
from captioner.tokenizer import BOS, EOS, PAD, UNK

FUSIONS = ("concat", "cross_attention", "add", "multiply", "linear")
CLOSED = ("red", "red dog", "red dog by", "green", "Blue", "a boat", "a beach", "yes", "no", "2")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vqa_checkpoint(tmp_path_factory.mktemp("answers") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


@pytest.fixture
def encoded(model, monkeypatch) -> list[int]:
    """Images of each call of the encoder."""
    found, encode = [], model.model.encode

    def counting(images):
        found.append(len(images))
        return encode(images)

    monkeypatch.setattr(model.model, "encode", counting)
    return found


@pytest.fixture
def opened(monkeypatch) -> Counter:
    """How often each file was read."""
    found, load_image = Counter(), torch_backend.load_image

    def counting(source, **options):
        found[os.path.basename(source) if isinstance(source, (str, Path)) else "data"] += 1
        return load_image(source, **options)

    monkeypatch.setattr(torch_backend, "load_image", counting)
    return found


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    return paths


def assert_same(found: list[Answers], expected: list[Answers]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert [x.text for x in a.answers] == [x.text for x in b.answers]
        np.testing.assert_allclose(
            [x.confidence for x in a.answers], [x.confidence for x in b.answers], rtol=1e-3
        )


def ids_of(model: Captioner, question: str) -> list[int]:
    return model.tokenizer.encode(normalize_question(question))


def logprobs_of(model: Captioner, image, question: str, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities (T, V) at each token of an answer, decoded at once."""
    with torch.no_grad():
        memory = model.model.encode(model.backend.stack([model.backend.read(image)])[0])
        ids = torch.tensor([ids_of(model, question)])
        memory, mask = model.model.fuse_questions(memory, ids, torch.tensor([0]))
        logits = model.model.decode(
            memory, torch.tensor([[[BOS, *tokens[:-1]]]]), mask, answers=True
        )
    logits[:, [PAD, UNK, BOS]] = -math.inf
    return logits / model.config.answers.temperature


# one question


def test_image_and_question_both_decide(model):
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


def test_answers_come_likeliest_first_and_widen_the_beam(model):
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


def test_a_wider_beam_is_no_less_likely(model):
    for image in (picture(i) for i in range(3)):
        narrow, wide = (model.ask(image, QUESTIONS[1], beam_size=n).confidence for n in (1, 20))
        assert wide >= narrow * (1 - 1e-4)


def test_one_text_found_in_two_ways_is_one_answer(model):
    tokenizer = model.tokenizer
    pieces = tokenizer.encode("red")
    spelt = [EOS + 1 + byte for byte in b"red"] + [EOS]  # byte pieces
    assert tokenizer.decode(spelt) == tokenizer.decode(pieces) == "red"
    assert spelt != pieces
    hypotheses = [
        Hypothesis(tokens, math.log(p), 0.0)
        for tokens, p in ((tokenizer.encode("dog"), 0.4), (pieces, 0.3), (spelt, 0.25))
    ]
    options = questions.AnswerOptions.resolve(model.config.answers, num_answers=2)
    found = options.build_answers(hypotheses, tokenizer, low_confidence=False)
    assert [(a.text, round(a.confidence, 6)) for a in found.answers] == [
        ("red", 0.55),
        ("dog", 0.4),
    ]
    assert options.build_answers(hypotheses[:2], tokenizer, low_confidence=False).text == "dog"


def test_abstention_keeps_the_alternatives(model):
    sure = model.ask(picture(0), QUESTIONS[0], num_answers=3)
    assert not sure.unsure
    below, above = sure.confidence * 0.99, sure.confidence * 1.01
    kept = model.ask(picture(0), QUESTIONS[0], num_answers=3, min_confidence=below)
    assert (kept.text, kept.unsure) == (sure.text, False)
    unsure = model.ask(picture(0), QUESTIONS[0], num_answers=3, min_confidence=above)
    assert (unsure.text, unsure.unsure) == ("unsure", True)
    assert (unsure.answers, unsure.best) == (sure.answers, sure.best)


def test_an_image_is_encoded_once_for_all_its_questions(model, encoded, photos):
    image = model.encode(photos[0])
    found = [model.ask(image, question) for question in QUESTIONS]
    assert encoded == [1]
    assert_same(found, [model.ask(photos[0], question) for question in QUESTIONS])
    assert len(encoded) == 1 + len(QUESTIONS)


def test_an_image_that_another_model_encoded_is_refused(model, folder):
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
def test_half_precision_answers(folder, model, dtype):
    half = captioner.load(folder, dtype=dtype)
    options = {"answers": CLOSED, "num_answers": len(CLOSED)}
    a, b = (m.ask(picture(0), QUESTIONS[0], **options) for m in (half, model))
    whole = {x.text: x.confidence for x in b.answers}
    assert sum(x.confidence for x in a.answers) == pytest.approx(1, abs=1e-3)
    assert all(abs(x.confidence - whole[x.text]) < 0.2 for x in a.answers)


# what a question is


@pytest.mark.parametrize(
    "same",
    [
        "What is by the DOG?",
        "  what is\tby the dog ??\n",
        "what is by the dog .",
        "what is by the dog",
    ],
)
def test_a_question_is_read_as_in_training(model, same):
    assert model.ask(picture(0), same) == model.ask(picture(0), "what is by the dog?")


@pytest.mark.parametrize(
    ("question", "told"),
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
def test_what_is_no_question(model, encoded, question, told):
    with pytest.raises(QuestionError, match=told) as caught:
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
def test_any_words_may_be_asked(model, question):
    assert 0 < model.ask(picture(0), question).confidence <= 1


def test_the_limit_counts_tokens(model):
    """The longest question that fits is asked whole, the next one refused with its number."""
    words = "dog"
    while len(ids_of(model, f"{words} dog")) <= LONGEST:
        words += " dog"
    tokens = len(ids_of(model, f"{words} dog"))
    model.ask(picture(0), words)
    with pytest.raises(QuestionError, match=rf"has {tokens} tokens.*at most {LONGEST}"):
        model.ask(picture(0), f"{words} dog")


# many questions


@pytest.fixture
def rows(photos) -> list[tuple[Path, str]]:
    found = [(path, question) for path in photos for question in QUESTIONS[:5]] * 2
    random.Random(3).shuffle(found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
@pytest.mark.parametrize("options", [{}, {"answers": CLOSED, "num_answers": 4}])
def test_batch_and_order_change_nothing(model, rows, encoded, opened, batch_size, options):
    alone = [model.ask(*row, **options) for row in rows]
    encoded.clear(), opened.clear()
    assert_same(model.answer(rows, batch_size=batch_size, **options), alone)
    assert sum(encoded) == 4
    assert opened == {f"{i}.png": 1 for i in range(4)}
    assert len({(a.text, round(a.confidence, 4)) for a in alone}) > 10


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_answers_a_batch_as_one_by_one(tmp_path, rows, fusion):
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best", fusion=fusion))
    # Questions of several lengths, so that there is padding.
    rows = [(image, f"{q[:-1]} {'by the dog' * (i % 2)}") for i, (image, q) in enumerate(rows)]
    rows, options = rows[:9], {"answers": CLOSED, "num_answers": 10}
    assert_same(model.answer(rows, **options), [model.ask(*row, **options) for row in rows])


def test_images_are_told_apart_by_path_and_by_object(model, photos, encoded, monkeypatch):
    monkeypatch.chdir(photos[0].parent)
    question, pil, data = QUESTIONS[0], picture(1), photos[2].read_bytes()
    images = ["0.png", pil, photos[0], data, "./0.png", pil, str(photos[0]), data, picture(1)]
    found = model.answer((image, question) for image in images)
    assert sum(encoded) == 4  # 0.png, pil, data, and another picture of the same content
    assert_same(found, [model.ask(image, question) for image in images])


def test_no_more_is_held_than_a_batch_and_no_more_is_done_than_is_asked_for(
    model, photos, encoded, monkeypatch
):
    held, answer_batch = [], module.answer_batch

    def watching(backend, config, rows, images, options):
        found = answer_batch(backend, config, rows, images, options)
        held.append(len(images))
        return found

    monkeypatch.setattr(module, "answer_batch", watching)
    rows = [(path, question) for question in QUESTIONS[:4] for path in photos]
    stream = model.answer_stream(rows, batch_size=2)
    assert encoded == []
    next(stream)
    assert encoded == [1]
    next(stream)
    assert sum(encoded) == 2
    assert len(list(stream)) == len(rows) - 2
    assert sum(encoded) == 4
    assert max(held) == 1
    # One image's questions fill three batches: it stays for them.
    encoded.clear()
    model.answer([(photos[0], question) for question in QUESTIONS[:6]], batch_size=2)
    assert encoded == [1]


def test_errors_stand_in_their_places(model, tmp_path, photos, opened):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.png"
    bad.write_bytes(b"no picture")
    good = [(photos[0], QUESTIONS[0]), (photos[1], QUESTIONS[1]), (photos[0], QUESTIONS[2])]
    rows = [
        (bad, QUESTIONS[0]), good[0], (missing, QUESTIONS[0]), (photos[0], ""), good[1],
        (bad, QUESTIONS[1]), good[2], (bad, ""), (b"", QUESTIONS[0]),
    ]  # fmt: skip
    expected = model.answer(good)
    for batch_size in (1, 2, 3, 16):
        opened.clear()
        found = model.answer(rows, batch_size=batch_size)
        kinds = [type(a.error).__name__ for a in found]
        image, question, none = "ImageFormatError", "QuestionError", "NoneType"
        assert kinds == [image, none, "ImageError", question, none, image, none, question, image]
        assert_same([found[i] for i in (1, 4, 6)], expected)
        assert opened["bad.jpg"] == 1
        assert all(a.answers == () for a in found if a.error)
        assert "bad.jpg" in str(found[5].error)
        with pytest.raises(ImageError, match="missing"):
            _ = found[2].unsure
    with pytest.raises(ImageError, match="missing"):
        model.ask(missing, QUESTIONS[0])
    with pytest.raises(ImageError, match="bad"):
        model.encode(bad)


def test_an_image_without_a_good_question_is_not_read(model, photos, opened):
    model.answer([(photos[0], ""), (photos[1], QUESTIONS[0])])
    assert opened == {"1.png": 1}


def test_nothing_asked_is_nothing_answered(model):
    assert model.answer([]) == []


@pytest.mark.parametrize("rows", [["a.png"], [("a.png", "what?", 1)], ["ab"], [None]])
def test_rows_are_pairs(model, rows):
    with pytest.raises(CaptionerError, match="row 0"):
        model.answer(rows)


# closed sets


def exhaustive(model: Captioner, image, question: str, texts: list[str]) -> dict[str, float]:
    """Each text's probability, renormalised token by token over what some text continues with."""
    members = {text: model.tokenizer.encode(text.lower()) for text in texts}
    found = {}
    for text, tokens in members.items():
        logits = logprobs_of(model, image, question, tokens)
        total = 0.0
        for i, token in enumerate(tokens):
            allowed = {m[i] for m in members.values() if m[:i] == tokens[:i] and len(m) > i}
            row = {t: logits[i, t].item() for t in allowed}
            total += row[token] - torch.tensor(list(row.values())).logsumexp(0).item()
        found[text] = math.exp(total)
    return found


@pytest.mark.parametrize("size", [1, 2, 5, len(CLOSED)])
def test_a_closed_set_is_searched_in_full(model, size):
    closed = list(CLOSED[:size])
    for image, question in ((picture(0), QUESTIONS[0]), (picture(3), QUESTIONS[4])):
        found = model.ask(image, question, answers=closed, num_answers=size)
        confidences = {a.text: a.confidence for a in found.answers}
        assert confidences == pytest.approx(exhaustive(model, image, question, closed), rel=1e-3)
        assert sum(confidences.values()) == pytest.approx(1)
        assert all(0 < c <= 1 for c in confidences.values())
        # Fewer answers are the likeliest of them; a narrow beam is no narrower than the set.
        best = max(confidences, key=confidences.get)
        assert model.ask(image, question, answers=closed, beam_size=1).text == best
        assert len(model.ask(image, question, answers=closed, num_answers=99).answers) == size


def test_the_likeliest_member_is_found_where_a_narrow_search_misses_it(model, monkeypatch):
    closed = [f"{colour} {thing}" for colour in COLOURS[:3] for thing in THINGS]
    rows = [(picture(i), question) for i in range(4) for question in QUESTIONS]
    every = model.answer(rows, answers=closed, num_answers=len(closed))
    assert all(len(found.answers) == len(closed) for found in every)
    best = [found.text for found in every]
    assert [a.text for a in model.answer(rows, answers=closed, beam_size=1)] == best
    monkeypatch.setattr(questions, "CLOSED_BEAMS", 1)
    narrow = [a.text for a in model.answer(rows, answers=closed, beam_size=1)]
    assert narrow != best


def test_members_longer_than_a_free_answer_come_whole(model):
    long = "a red dog by"
    assert len(model.tokenizer.encode(long)) > model.config.answers.max_length
    found = model.ask(picture(0), QUESTIONS[0], answers=[long, "no"], num_answers=2)
    assert {a.text for a in found.answers} == {long, "no"}
    with pytest.raises(CaptionerError, match=r"boat.* tokens.*at most 12"):
        model.ask(picture(0), QUESTIONS[0], answers=["no", "boat " * 12])


def test_a_large_set_is_searched_with_a_limited_beam(model):
    closed = [f"{c} {t} {n}" for c in COLOURS for t in THINGS[:4] for n in range(3)]
    assert len(closed) > questions.CLOSED_BEAMS
    found = model.ask(picture(0), QUESTIONS[0], answers=closed, num_answers=10)
    assert len(found.answers) == 10
    assert {a.text for a in found.answers} <= set(closed)
    assert sum(a.confidence for a in found.answers) <= 1 + 1e-6
    everything = exhaustive(model, picture(0), QUESTIONS[0], closed)
    assert found.confidence == pytest.approx(max(everything.values()), rel=1e-3)


def test_answers_are_normalised_and_come_back_as_given(model):
    given = ["Yes.", "  NO ", '"Red dog"']
    found = model.ask(picture(0), QUESTIONS[0], answers=given, num_answers=3)
    plain = model.ask(picture(0), QUESTIONS[0], answers=["yes", "no", "red dog"], num_answers=3)
    assert {a.text for a in found.answers} == set(given)
    assert [a.confidence for a in found.answers] == [a.confidence for a in plain.answers]


def test_members_of_one_meaning_are_one(model):
    found = model.ask(
        picture(0), QUESTIONS[0], answers=["Yes", "yes", "no", "YES ."], num_answers=9
    )
    assert sorted(a.text for a in found.answers) == ["Yes", "no"]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], "empty list"),
        ((), "empty list"),
        (["yes", ""], "has no words"),
        (["yes", " . "], "has no words"),
        (["yes", None], "NoneType"),
        (["yes", "n\x00"], "control character"),
        (["yes", "caf\udce9"], "not UTF-8"),
        ("yes,no", "expected a list"),
    ],
)
def test_what_is_no_closed_set(model, answers, told):
    with pytest.raises(CaptionerError, match=told):
        model.ask(picture(0), QUESTIONS[0], answers=answers)
    with pytest.raises(CaptionerError, match=told):
        model.answer([(picture(0), QUESTIONS[0])], answers=answers)


def test_a_closed_set_is_built_once(model, monkeypatch):
    built = []

    class Counting(questions.Trie):
        def __init__(self, *args, **options):
            built.append(1)
            super().__init__(*args, **options)

    monkeypatch.setattr(questions, "Trie", Counting)
    rows = [(picture(i), QUESTIONS[0]) for i in range(3)]
    model.answer(rows, answers=["one way", "another"], batch_size=1)
    model.ask(*rows[0], answers=("one way", "another"))
    assert len(built) == 1
    model.ask(*rows[0], answers=["another", "one"])
    assert len(built) == 2


# options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_answers": 0}, "num_answers"),
        ({"beam_size": 0}, "beam_size"),
        ({"min_confidence": -0.1}, "min_confidence"),
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"min_confidence": math.nan}, "min_confidence"),
    ],
)
def test_options_are_checked(model, options, told):
    with pytest.raises(CaptionerError, match=told):
        model.ask(picture(0), QUESTIONS[0], **options)
    with pytest.raises(CaptionerError, match=told):
        model.answer([(picture(0), QUESTIONS[0])], **options)
    with pytest.raises(CaptionerError, match="batch_size"):
        model.answer([(picture(0), QUESTIONS[0])], batch_size=0)


def test_a_checkpoint_that_captions_only_says_so(tmp_path):
    model = captioner.load(make_checkpoint(tmp_path / "best"))
    for call in (
        lambda: model.ask(picture(0), QUESTIONS[0]),
        lambda: model.answer([(picture(0), QUESTIONS[0])]),
        lambda: model.stream(picture(0), question=QUESTIONS[0]),
    ):
        with pytest.raises(CaptionerError, match=r"captions only.*model\.question"):
            call()
    assert model.caption(picture(0))[0].text
