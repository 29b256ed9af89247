"""Samples: texts, random draws, mirroring, sources and cached features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_images import Table
from PIL import Image
from sample_tables import (
    FLIPPING,
    SPEC,
    decode_questions,
    decode_texts,
    draw_pictures,
    image_table,
    make_dataset,
    question_row,
    table_row,
    train_tokenizer,
)

from captioner.data.dataset import Augmentation, Key, Sample, UnreadableImage
from captioner.images.transforms import to_pixels
from captioner.tokenizer import EOS, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def test_sample_has_plain_image_and_normalized_captions(pictures, tokenizer):
    data = make_dataset(image_table(pictures, [["A red CIRCLE  .", "the right one"]]), tokenizer)
    sample = data[Key(0, 0)]
    pixels = to_pixels(Image.open(pictures[0]).convert("RGB"), SPEC)
    assert torch.equal(sample.image, torch.from_numpy(pixels))
    assert decode_texts(sample, tokenizer) == ["a red circle", "the right one"]
    assert len(data) == 1
    cased = make_dataset(data.rows, tokenizer, lowercase=False)
    assert decode_texts(cased[Key(0, 0)], tokenizer)[0] == "A red CIRCLE"


def test_long_captions_are_truncated_and_end_in_eos(pictures, tokenizer):
    sample = make_dataset(image_table(pictures), tokenizer, max_length=4)[Key(0, 0)]
    assert [len(ids) for ids in sample.texts] == [4]
    assert sample.texts[0][-1] == EOS


def test_captions_are_drawn_in_each_epoch(pictures, tokenizer):
    texts = [f"caption {i}" for i in range(8)]
    data = make_dataset(image_table(pictures, [texts] * 2), tokenizer, captions_per_image=3)
    drawn = [decode_texts(data[Key(epoch, 0)], tokenizer) for epoch in range(30)]
    assert all(len(set(three)) == 3 for three in drawn)
    assert {text for three in drawn for text in three} == set(texts)
    assert drawn == [decode_texts(data[Key(epoch, 0)], tokenizer) for epoch in range(30)]
    assert drawn != [decode_texts(data[Key(epoch, 1)], tokenizer) for epoch in range(30)]
    other = make_dataset(data.rows, tokenizer, captions_per_image=3, seed=1)
    assert drawn != [decode_texts(other[Key(epoch, 0)], tokenizer) for epoch in range(30)]


def test_few_captions_are_all_used_in_order(pictures, tokenizer):
    data = make_dataset(image_table(pictures, [["b", "a", "c"]]), tokenizer, captions_per_image=3)
    assert all(decode_texts(data[Key(e, 0)], tokenizer) == ["b", "a", "c"] for e in range(5))


def find_side(image: torch.Tensor) -> str:
    """Return the side of the red circle: the one with more red than blue."""
    red = (image[0] - image[2]).clamp_min(0)
    half = red.shape[-1] // 2
    return "left" if red[:, :half].sum() > red[:, half:].sum() else "right"


def test_mirrored_image_has_flipped_captions(pictures, tokenizer):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    data = make_dataset(image_table(pictures), tokenizer, augmentation=gentle)
    found = set()
    for epoch in range(20):
        sample = data[Key(epoch, 0)]
        side = find_side(sample.image)
        assert decode_texts(sample, tokenizer) == [f"a red circle on the {side}"]
        found.add(side)
    assert found == {"left", "right"}


@pytest.mark.parametrize("other", ["all right then", "a man right in front of a wall"])
def test_image_is_not_mirrored_if_a_caption_cannot_be_flipped(pictures, tokenizer, other):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    texts = ["a red circle on the left", other]
    # Even if only the first caption is drawn, the other one prevents the flip.
    for count in (1, 2):
        data = make_dataset(
            image_table(pictures, [texts]), tokenizer, augmentation=gentle, captions_per_image=count
        )
        for epoch in range(20):
            assert find_side(data[Key(epoch, 0)].image) == "left"
            assert set(decode_texts(data[Key(epoch, 0)], tokenizer)) <= set(texts)


@pytest.mark.parametrize("augmentation", [None, Augmentation(1.0, False, 0.0)])
def test_no_image_is_mirrored_without_flip(pictures, tokenizer, augmentation):
    data = make_dataset(image_table(pictures), tokenizer, augmentation=augmentation)
    for epoch in range(20):
        assert find_side(data[Key(epoch, 0)].image) == "left"
        assert decode_texts(data[Key(epoch, 0)], tokenizer) == ["a red circle on the left"]


def test_pixels_depend_only_on_seed_epoch_and_index(pictures, tokenizer, tmp_path):
    copy = shutil.copy(pictures[0], tmp_path / "copy.png")
    same = image_table([pictures[0], str(copy)], [["a circle"]] * 2)
    data = make_dataset(same, tokenizer, augmentation=FLIPPING)
    first = data[Key(0, 0)].image
    data[Key(5, 1)], torch.seed(), np.random.seed(3)  # noqa: NPY002
    assert torch.equal(data[Key(0, 0)].image, first)
    assert not torch.equal(data[Key(1, 0)].image, first)
    assert not torch.equal(data[Key(0, 1)].image, first)
    assert not torch.equal(
        make_dataset(same, tokenizer, augmentation=FLIPPING, seed=1)[Key(0, 0)].image, first
    )


def test_question_has_one_answer_and_its_row(pictures, tokenizer):
    table = Table(
        [
            question_row(pictures[0], "Is it RED ?", "Yes."),
            table_row(pictures[1], "a green square"),
            question_row(pictures[0], "how many", "2"),
        ]
    )
    data = make_dataset(table, tokenizer)
    assert len(data) == 2
    sample = data[Key(0, 0)]
    assert decode_questions(sample, tokenizer) == ["is it red", "how many"]
    assert decode_texts(sample, tokenizer) == ["yes", "2"]
    assert sample.rows == [0, 2]
    caption = data[Key(0, 1)]
    assert caption.questions == []
    assert caption.rows == [1]
    assert all(ids[-1] == EOS for ids in (*sample.questions, *sample.texts))


def test_answers_are_drawn_in_proportion_to_annotators(pictures, tokenizer):
    answers = ["red"] * 6 + ["blue"] * 3 + ["grey"]
    data = make_dataset(Table([question_row(pictures[0], "what colour", *answers)]), tokenizer)
    found = [decode_texts(data[Key(epoch, 0)], tokenizer) for epoch in range(500)]
    assert all(len(texts) == 1 for texts in found)
    for answer in set(answers):
        share = sum(texts == [answer] for texts in found) / 500
        assert share == pytest.approx(answers.count(answer) / 10, abs=0.07)
    assert found == [decode_texts(data[Key(epoch, 0)], tokenizer) for epoch in range(500)]


def test_targets_of_a_classifier_are_shares_of_annotators(pictures, tokenizer):
    rows = Table(
        [
            question_row(pictures[0], "where?", "On the left", "on the left", "on the right", "up"),
            question_row(pictures[0], "what?", "red"),
        ]
    )
    answers = [tuple(tokenizer.encode(text)) for text in ("on the right", "on the left", "red")]
    data = make_dataset(rows, tokenizer, augmentation=FLIPPING, answers=answers)
    flipped = [data.list_flips(epoch)[0] for epoch in range(12)]
    assert len(set(flipped)) == 2
    for epoch, flip in enumerate(flipped):
        sample = data[Key(epoch, 0)]
        shares = [[0.5, 0.25, 0], [0, 0, 1]] if flip else [[0.25, 0.5, 0], [0, 0, 1]]
        assert sample.targets.tolist() == shares
    assert make_dataset(rows, tokenizer)[Key(0, 0)].targets is None


def test_questions_are_drawn_in_each_epoch_with_their_answers(pictures, tokenizer):
    table = Table(question_row(pictures[0], f"question {i}", f"answer {i}") for i in range(8))
    data = make_dataset(table, tokenizer, questions_per_image=3, captions_per_image=1)
    seen = set()
    for epoch in range(30):
        sample = data[Key(epoch, 0)]
        assert len(set(sample.rows)) == 3
        assert decode_questions(sample, tokenizer) == [f"question {i}" for i in sample.rows]
        assert decode_texts(sample, tokenizer) == [f"answer {i}" for i in sample.rows]
        seen |= set(sample.rows)
    assert seen == set(range(8))
    whole = make_dataset(table, tokenizer, questions_per_image=None)[Key(0, 0)]
    assert whole.rows == list(range(8))


def test_questions_are_truncated_to_question_length(pictures, tokenizer):
    table = Table(
        [question_row(pictures[0], "is the red circle on the left side", "the right one")]
    )
    sample = make_dataset(table, tokenizer, max_length=3, question_length=5)[Key(0, 0)]
    assert [len(ids) for ids in sample.questions] == [5]
    assert [len(ids) for ids in sample.texts] == [3]
    assert sample.questions[0][-1] == sample.texts[0][-1] == EOS


def test_mirrored_image_has_flipped_questions_and_answers(pictures, tokenizer):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    table = Table(
        [
            question_row(pictures[0], "is it on the left", "yes"),
            question_row(pictures[0], "where is it", "on the left"),
            table_row(pictures[0], "a circle on the left", source=1),
        ]
    )
    data = make_dataset(table, tokenizer, augmentation=gentle)
    found = set()
    for epoch in range(20):
        sample = data[Key(epoch, 0)]
        side = find_side(sample.image)
        assert decode_questions(sample, tokenizer) == [f"is it on the {side}", "where is it"]
        assert decode_texts(sample, tokenizer) == ["yes", f"on the {side}"]
        # All sources have the same view of an image in an epoch.
        other = data[Key(epoch, 0, 1)]
        assert torch.equal(other.image, sample.image)
        assert decode_texts(other, tokenizer) == [f"a circle on the {side}"]
        found.add(side)
    assert found == {"left", "right"}


@pytest.mark.parametrize(
    "forbidding",
    [
        {"question": "is it all right", "answers": ["yes"]},
        {"question": "how is it", "answers": ["fine"] * 9 + ["all right"]},
        {"question": "", "answers": ["a man right in front of a wall"]},
    ],
    ids=["question", "answer", "caption"],
)
def test_text_of_any_source_prevents_mirroring(pictures, tokenizer, forbidding):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    table = Table(
        [
            table_row(pictures[0], "a red circle on the left"),
            question_row(pictures[0], forbidding["question"], *forbidding["answers"], source=1),
        ]
    )
    data = make_dataset(table, tokenizer, augmentation=gentle)
    for epoch in range(20):
        assert find_side(data[Key(epoch, 0)].image) == "left"
        assert decode_texts(data[Key(epoch, 0)], tokenizer) == ["a red circle on the left"]
    free = make_dataset(Table(table[:1]), tokenizer, augmentation=gentle)
    assert {find_side(free[Key(epoch, 0)].image) for epoch in range(20)} == {"left", "right"}


def test_images_of_unaugmented_sources_never_change(pictures, tokenizer):
    table = Table(
        [
            table_row(pictures[0], "a circle"),
            question_row(pictures[1], "what colour", "green", source=1),
            table_row(pictures[2], "a triangle"),
            question_row(pictures[2], "what colour", "blue", source=1),
        ]
    )
    data = make_dataset(table, tokenizer, augmentation=FLIPPING, unaugmented=[1])
    plain = make_dataset(table, tokenizer)
    assert data.unaugmented == [False, True, True]
    for epoch in range(10):
        for index, source in ((1, 1), (2, 0), (2, 1)):
            found = data[Key(epoch, index, source)].image
            assert torch.equal(found, plain[Key(0, index, source)].image)
    assert any(not torch.equal(data[Key(e, 0)].image, plain[Key(0, 0)].image) for e in range(10))
    assert not any(flips[1] or flips[2] for flips in map(data.list_flips, range(20)))
    assert any(data.list_flips(view)[0] for view in range(20))


def test_sources_have_their_own_images_and_rows(pictures, tokenizer):
    table = Table(
        [
            table_row(pictures[0], "a circle", "one"),
            table_row(pictures[1], "a square"),
            question_row(pictures[2], "what", "blue", source=1),
            question_row(pictures[0], "what", "red", source=1),
            question_row(pictures[2], "where", "left", source=1),
            table_row(pictures[0], "seen again", source=2),
        ]
    )
    data = make_dataset(table, tokenizer)
    assert data.images == [pictures[0], pictures[1], pictures[2]]
    assert [data.select_images(s) for s in range(4)] == [[0, 1], [0, 2], [0], []]
    assert data.texts.select_rows(2, 1) == [2, 4]
    assert data.texts.select_rows(1, 1) == []
    assert decode_texts(data[Key(0, 0, 1)], tokenizer) == ["red"]
    assert [data[Key(0, 0, s)].source for s in range(3)] == [0, 1, 2]
    for source in range(3):
        for index in data.select_images(source):
            sample = data[Key(0, index, source)]
            assert {table[n]["source"] for n in sample.rows} == {source}
            assert {table[n]["image"] for n in sample.rows} == {data.images[index]}


def test_cached_views_alternate_with_matching_captions(pictures, tokenizer):
    data = make_dataset(image_table(pictures), tokenizer, augmentation=FLIPPING)
    texts = {(v, i): decode_texts(data[Key(v, i)], tokenizer) for v in range(2) for i in range(6)}
    features = np.zeros((2, 6, 4, 3), np.float16)
    for v in range(2):
        for i in range(6):
            features[v, i] = 10 * v + i
    data.features = features
    for epoch in range(4):
        for i in range(6):
            sample = data[Key(epoch, i)]
            view, index = divmod(int(sample.image[0, 0]), 10)
            assert index == i
            assert decode_texts(sample, tokenizer) == texts[view, i]
    for i in range(6):  # in as many epochs as there are views, each view occurs once
        assert {int(data[Key(e, i)].image[0, 0]) // 10 for e in range(2)} == {0, 1}
    # An epoch contains both views.
    assert {int(data[Key(0, i)].image[0, 0]) // 10 for i in range(6)} == {0, 1}


def test_nan_features_are_an_unreadable_image(pictures, tokenizer):
    data = make_dataset(image_table(pictures), tokenizer)
    data.features = np.zeros((1, 6, 4, 3), np.float16)
    data.features[0, 2] = np.nan
    found = data[Key(0, 2)]
    assert isinstance(found, UnreadableImage)
    assert pictures[2] in found.reason
    assert isinstance(data[Key(0, 1)], Sample)


def test_arrow_table_gives_same_samples(pictures, tokenizer):
    datasets = pytest.importorskip("datasets")
    plain = image_table(pictures)
    table = datasets.Dataset.from_list(plain)
    assert Path(table[0]["image"]).exists()
    one, other = make_dataset(plain, tokenizer), make_dataset(table, tokenizer)
    for i in range(len(plain)):
        assert torch.equal(one[Key(0, i)].image, other[Key(0, i)].image)
        assert one[Key(0, i)].texts == other[Key(0, i)].texts
