"""Answers to many questions: order, errors, and one encoding per image."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from answering import CLOSED, assert_same, count_encoded, save_pictures
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.backends import input_reader
from captioner.errors import CaptionerError, ImageError
from captioner.predict import Captioner
from captioner.predict import captioner as module

FUSIONS = ("concat", "cross_attention", "add", "multiply", "linear")


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


@pytest.fixture
def opened(monkeypatch) -> Counter:
    """How often each file was read."""
    found, load_image = Counter(), input_reader.load_image

    def counting(source, **options):
        found[os.path.basename(source) if isinstance(source, (str, Path)) else "data"] += 1
        return load_image(source, **options)

    monkeypatch.setattr(input_reader, "load_image", counting)
    return found


@pytest.fixture
def rows(photos) -> list[tuple[Path, str]]:
    found = [(path, question) for path in photos for question in QUESTIONS[:5]] * 2
    random.Random(3).shuffle(found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
@pytest.mark.parametrize("options", [{}, {"answers": CLOSED, "num_answers": 4}])
def test_answers_do_not_depend_on_batch_size_or_order(
    model, rows, encoded, opened, batch_size, options
):
    alone = [model.ask(*row, **options) for row in rows]
    encoded.clear(), opened.clear()
    assert_same(model.answer(rows, batch_size=batch_size, **options), alone)
    assert sum(encoded) == 4
    assert opened == {f"{i}.png": 1 for i in range(4)}
    assert len({(a.text, round(a.confidence, 4)) for a in alone}) > 10


@pytest.mark.parametrize("fusion", FUSIONS)
def test_answers_of_a_batch_equal_single_answers_for_every_fusion(tmp_path, rows, fusion):
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best", fusion=fusion))
    # Questions of several lengths, so that there is padding.
    rows = [(image, f"{q[:-1]} {'by the dog' * (i % 2)}") for i, (image, q) in enumerate(rows)]
    rows, options = rows[:9], {"answers": CLOSED, "num_answers": 10}
    assert_same(model.answer(rows, **options), [model.ask(*row, **options) for row in rows])


def test_images_are_identified_by_path_or_object(model, photos, encoded, monkeypatch):
    monkeypatch.chdir(photos[0].parent)
    question, pil, data = QUESTIONS[0], picture(1), photos[2].read_bytes()
    images = ["0.png", pil, photos[0], data, "./0.png", pil, str(photos[0]), data, picture(1)]
    found = model.answer((image, question) for image in images)
    assert sum(encoded) == 4  # 0.png, pil, data, and another picture of the same content
    assert_same(found, [model.ask(image, question) for image in images])


def test_answer_stream_is_lazy_and_keeps_one_batch_of_images(model, photos, encoded, monkeypatch):
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
    # The questions about one image fill three batches, during which it stays encoded.
    encoded.clear()
    model.answer([(photos[0], question) for question in QUESTIONS[:6]], batch_size=2)
    assert encoded == [1]


def test_errors_keep_the_positions_of_their_inputs(model, tmp_path, photos, opened):
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


def test_an_image_without_a_usable_question_is_not_read(model, photos, opened):
    model.answer([(photos[0], ""), (photos[1], QUESTIONS[0])])
    assert opened == {"1.png": 1}


def test_no_rows_give_no_answers(model):
    assert model.answer([]) == []


@pytest.mark.parametrize("rows", [["a.png"], [("a.png", "what?", 1)], ["ab"], [None]])
def test_rows_must_be_pairs(model, rows):
    with pytest.raises(CaptionerError, match="row 0"):
        model.answer(rows)
