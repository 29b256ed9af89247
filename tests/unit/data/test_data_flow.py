"""Rows to samples to batches: labels, padding, flips, unreadable images, and chance."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHAPES, Table, draw
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from captioner.data.collate import collate
from captioner.data.dataset import Augmentation, ImageDataset, Key, Sample, UnreadableImage
from captioner.data.sampler import EpochBatches
from captioner.images.transforms import PixelSpec, to_pixels
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer

SPEC = PixelSpec((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
FLIPPING = Augmentation(min_scale=0.5, flip=True, jitter=0.2)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle on the left side", "the right one"] * 20, vocab_size=330)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    for i, shape in enumerate(SHAPES):
        draw(*shape).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(len(SHAPES))]


def rows(pictures: list[str], captions: list[list[str]] | None = None) -> Table:
    captions = captions or [[f"a {c} {s} on the {side}"] for c, s, side in SHAPES]
    return Table(row(p, *texts) for p, texts in zip(pictures, captions, strict=False))


def row(picture: str, *texts: str, question: str = "", source: int = 0) -> dict:
    """A captioned image, or a question about it with its answers."""
    return {"image": picture, "references": list(texts), "question": question, "source": source}


def dataset(some_rows: Table, tokenizer: Tokenizer, **kwargs) -> ImageDataset:
    kwargs = {"spec": SPEC, "max_length": 40, **kwargs}
    return ImageDataset(some_rows, tokenizer=tokenizer, **kwargs)


def read(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in sample.texts]


# Samples


def test_a_sample_holds_the_image_as_it_is_and_its_tidy_captions(pictures, tokenizer):
    data = dataset(rows(pictures, [["A red CIRCLE  .", "the right one"]]), tokenizer)
    sample = data[Key(0, 0)]
    assert torch.equal(sample.image, to_pixels(Image.open(pictures[0]).convert("RGB"), SPEC))
    assert read(sample, tokenizer) == ["a red circle", "the right one"]
    assert len(data) == 1
    cased = dataset(data.rows, tokenizer, lowercase=False)
    assert read(cased[Key(0, 0)], tokenizer)[0] == "A red CIRCLE"


def test_captions_are_cut_and_keep_eos(pictures, tokenizer):
    sample = dataset(rows(pictures), tokenizer, max_length=4)[Key(0, 0)]
    assert [len(ids) for ids in sample.texts] == [4]
    assert sample.texts[0][-1] == EOS


def test_many_captions_are_drawn_afresh_each_epoch(pictures, tokenizer):
    texts = [f"caption {i}" for i in range(8)]
    data = dataset(rows(pictures, [texts] * 2), tokenizer, captions_per_image=3)
    drawn = [read(data[Key(epoch, 0)], tokenizer) for epoch in range(30)]
    assert all(len(set(three)) == 3 for three in drawn)
    assert {text for three in drawn for text in three} == set(texts)
    assert drawn == [read(data[Key(epoch, 0)], tokenizer) for epoch in range(30)]
    assert drawn != [read(data[Key(epoch, 1)], tokenizer) for epoch in range(30)]
    other = dataset(data.rows, tokenizer, captions_per_image=3, seed=1)
    assert drawn != [read(other[Key(epoch, 0)], tokenizer) for epoch in range(30)]


def test_few_captions_are_all_kept_in_order(pictures, tokenizer):
    data = dataset(rows(pictures, [["b", "a", "c"]]), tokenizer, captions_per_image=3)
    assert all(read(data[Key(e, 0)], tokenizer) == ["b", "a", "c"] for e in range(5))


def side_of(image: torch.Tensor) -> str:
    """Where the red circle is: the side with more red over blue."""
    red = (image[0] - image[2]).clamp_min(0)
    half = red.shape[-1] // 2
    return "left" if red[:, :half].sum() > red[:, half:].sum() else "right"


def test_a_mirrored_image_has_mirrored_captions(pictures, tokenizer):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    data = dataset(rows(pictures), tokenizer, augmentation=gentle)
    found = set()
    for epoch in range(20):
        sample = data[Key(epoch, 0)]
        side = side_of(sample.image)
        assert read(sample, tokenizer) == [f"a red circle on the {side}"]
        found.add(side)
    assert found == {"left", "right"}


@pytest.mark.parametrize("other", ["all right then", "a man right in front of a wall"])
def test_an_image_stays_unmirrored_where_one_caption_cannot_be(pictures, tokenizer, other):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    texts = ["a red circle on the left", other]
    # Only the first caption may be drawn, yet the other one still forbids the flip.
    for count in (1, 2):
        data = dataset(
            rows(pictures, [texts]), tokenizer, augmentation=gentle, captions_per_image=count
        )
        for epoch in range(20):
            assert side_of(data[Key(epoch, 0)].image) == "left"
            assert set(read(data[Key(epoch, 0)], tokenizer)) <= set(texts)


@pytest.mark.parametrize("augmentation", [None, Augmentation(1.0, False, 0.0)])
def test_nothing_is_mirrored_unasked(pictures, tokenizer, augmentation):
    data = dataset(rows(pictures), tokenizer, augmentation=augmentation)
    for epoch in range(20):
        assert side_of(data[Key(epoch, 0)].image) == "left"
        assert read(data[Key(epoch, 0)], tokenizer) == ["a red circle on the left"]


def test_pixels_depend_on_seed_epoch_and_index_alone(pictures, tokenizer, tmp_path):
    copy = shutil.copy(pictures[0], tmp_path / "copy.png")
    same = rows([pictures[0], str(copy)], [["a circle"]] * 2)
    data = dataset(same, tokenizer, augmentation=FLIPPING)
    first = data[Key(0, 0)].image
    data[Key(5, 1)], torch.seed(), np.random.seed(3)  # noqa: NPY002
    assert torch.equal(data[Key(0, 0)].image, first)
    assert not torch.equal(data[Key(1, 0)].image, first)
    assert not torch.equal(data[Key(0, 1)].image, first)
    assert not torch.equal(
        dataset(same, tokenizer, augmentation=FLIPPING, seed=1)[Key(0, 0)].image, first
    )


def test_workers_change_nothing(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer, augmentation=FLIPPING)

    def epoch_of(workers: int) -> list:
        batches = EpochBatches([range(len(data))], 2, seed=4)
        batches.epoch = 3
        return list(
            DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=workers)
        )

    alone, together = epoch_of(0), epoch_of(2)
    assert len(alone) == len(together) == 3
    for one, other in zip(alone, together, strict=True):
        assert one.indices == other.indices
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_an_unreadable_image_is_named_and_the_batch_goes_on(pictures, tokenizer, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    data = dataset(rows([pictures[0], str(bad), pictures[2]]), tokenizer)
    batch = collate([data[Key(0, i)] for i in range(3)])
    assert batch.indices == [0, 2]
    assert len(batch.images) == len(batch.labels) == 2
    assert [item.index for item in batch.unreadable] == [1]
    assert "bad.png" in batch.unreadable[0].reason
    assert torch.equal(batch.images, collate([data[Key(0, 0)], data[Key(0, 2)]]).images)


# Questions


def ask(picture: str, question: str, *answers: str, source: int = 0) -> dict:
    return row(picture, *answers, question=question, source=source)


def read_questions(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in sample.questions]


def test_a_question_comes_with_one_of_its_answers_and_its_row(pictures, tokenizer):
    table = Table(
        [
            ask(pictures[0], "Is it RED ?", "Yes."),
            row(pictures[1], "a green square"),
            ask(pictures[0], "how many", "2"),
        ]
    )
    data = dataset(table, tokenizer)
    assert len(data) == 2
    sample = data[Key(0, 0)]
    assert read_questions(sample, tokenizer) == ["is it red", "how many"]
    assert read(sample, tokenizer) == ["yes", "2"]
    assert sample.rows == [0, 2]
    caption = data[Key(0, 1)]
    assert caption.questions == []
    assert caption.rows == [1]
    assert all(ids[-1] == EOS for ids in (*sample.questions, *sample.texts))


def test_each_answer_is_drawn_as_often_as_it_was_given(pictures, tokenizer):
    answers = ["red"] * 6 + ["blue"] * 3 + ["grey"]
    data = dataset(Table([ask(pictures[0], "what colour", *answers)]), tokenizer)
    found = [read(data[Key(epoch, 0)], tokenizer) for epoch in range(500)]
    assert all(len(texts) == 1 for texts in found)
    for answer in set(answers):
        share = sum(texts == [answer] for texts in found) / 500
        assert share == pytest.approx(answers.count(answer) / 10, abs=0.07)
    assert found == [read(data[Key(epoch, 0)], tokenizer) for epoch in range(500)]


def test_questions_are_drawn_afresh_each_epoch_and_keep_their_answers(pictures, tokenizer):
    table = Table(ask(pictures[0], f"question {i}", f"answer {i}") for i in range(8))
    data = dataset(table, tokenizer, questions_per_image=3, captions_per_image=1)
    seen = set()
    for epoch in range(30):
        sample = data[Key(epoch, 0)]
        assert len(set(sample.rows)) == 3
        assert read_questions(sample, tokenizer) == [f"question {i}" for i in sample.rows]
        assert read(sample, tokenizer) == [f"answer {i}" for i in sample.rows]
        seen |= set(sample.rows)
    assert seen == set(range(8))
    whole = dataset(table, tokenizer, questions_per_image=None)[Key(0, 0)]
    assert whole.rows == list(range(8))


def test_questions_are_cut_to_their_own_length(pictures, tokenizer):
    table = Table([ask(pictures[0], "is the red circle on the left side", "the right one")])
    sample = dataset(table, tokenizer, max_length=3, question_length=5)[Key(0, 0)]
    assert [len(ids) for ids in sample.questions] == [5]
    assert [len(ids) for ids in sample.texts] == [3]
    assert sample.questions[0][-1] == sample.texts[0][-1] == EOS


def test_a_mirrored_image_has_mirrored_questions_and_answers(pictures, tokenizer):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    table = Table(
        [
            ask(pictures[0], "is it on the left", "yes"),
            ask(pictures[0], "where is it", "on the left"),
            row(pictures[0], "a circle on the left", source=1),
        ]
    )
    data = dataset(table, tokenizer, augmentation=gentle)
    found = set()
    for epoch in range(20):
        sample = data[Key(epoch, 0)]
        side = side_of(sample.image)
        assert read_questions(sample, tokenizer) == [f"is it on the {side}", "where is it"]
        assert read(sample, tokenizer) == ["yes", f"on the {side}"]
        # Whoever speaks of the image in an epoch, it is the same view of it.
        other = data[Key(epoch, 0, 1)]
        assert torch.equal(other.image, sample.image)
        assert read(other, tokenizer) == [f"a circle on the {side}"]
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
def test_one_text_of_any_source_forbids_the_mirror(pictures, tokenizer, forbidding):
    gentle = Augmentation(min_scale=1.0, flip=True, jitter=0.0)
    table = Table(
        [
            row(pictures[0], "a red circle on the left"),
            ask(pictures[0], forbidding["question"], *forbidding["answers"], source=1),
        ]
    )
    data = dataset(table, tokenizer, augmentation=gentle)
    for epoch in range(20):
        assert side_of(data[Key(epoch, 0)].image) == "left"
        assert read(data[Key(epoch, 0)], tokenizer) == ["a red circle on the left"]
    free = dataset(Table(table[:1]), tokenizer, augmentation=gentle)
    assert {side_of(free[Key(epoch, 0)].image) for epoch in range(20)} == {"left", "right"}


def test_images_of_some_sources_are_never_augmented(pictures, tokenizer):
    table = Table(
        [
            row(pictures[0], "a circle"),
            ask(pictures[1], "what colour", "green", source=1),
            row(pictures[2], "a triangle"),
            ask(pictures[2], "what colour", "blue", source=1),
        ]
    )
    data = dataset(table, tokenizer, augmentation=FLIPPING, unaugmented=[1])
    plain = dataset(table, tokenizer)
    assert data.unaugmented == [False, True, True]
    for epoch in range(10):
        for index, source in ((1, 1), (2, 0), (2, 1)):
            found = data[Key(epoch, index, source)].image
            assert torch.equal(found, plain[Key(0, index, source)].image)
    assert any(not torch.equal(data[Key(e, 0)].image, plain[Key(0, 0)].image) for e in range(10))
    assert not any(flips[1] or flips[2] for flips in map(data.list_flips, range(20)))
    assert any(data.list_flips(view)[0] for view in range(20))


def test_each_source_has_its_own_images_and_rows(pictures, tokenizer):
    table = Table(
        [
            row(pictures[0], "a circle", "one"),
            row(pictures[1], "a square"),
            ask(pictures[2], "what", "blue", source=1),
            ask(pictures[0], "what", "red", source=1),
            ask(pictures[2], "where", "left", source=1),
            row(pictures[0], "seen again", source=2),
        ]
    )
    data = dataset(table, tokenizer)
    assert data.images == [pictures[0], pictures[1], pictures[2]]
    assert [data.select_images(s) for s in range(4)] == [[0, 1], [0, 2], [0], []]
    assert data.select_rows(2, 1) == [2, 4]
    assert data.select_rows(1, 1) == []
    assert data.group_captions() == {0: ["a circle", "one", "seen again"], 1: ["a square"]}
    assert read(data[Key(0, 0, 1)], tokenizer) == ["red"]
    assert [data[Key(0, 0, s)].source for s in range(3)] == [0, 1, 2]
    for source in range(3):
        for index in data.select_images(source):
            sample = data[Key(0, index, source)]
            assert {table[n]["source"] for n in sample.rows} == {source}
            assert {table[n]["image"] for n in sample.rows} == {data.images[index]}


# Kept features


def test_kept_features_take_turns_and_flip_with_their_captions(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer, augmentation=FLIPPING)
    texts = {(v, i): read(data[Key(v, i)], tokenizer) for v in range(2) for i in range(6)}
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
            assert read(sample, tokenizer) == texts[view, i]
    for i in range(6):  # each view comes once in as many epochs as there are views
        assert {int(data[Key(e, i)].image[0, 0]) // 10 for e in range(2)} == {0, 1}
    # Within one epoch the views are mixed.
    assert {int(data[Key(0, i)].image[0, 0]) // 10 for i in range(6)} == {0, 1}


def test_nan_features_are_an_unreadable_image(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer)
    data.features = np.zeros((1, 6, 4, 3), np.float16)
    data.features[0, 2] = np.nan
    found = data[Key(0, 2)]
    assert isinstance(found, UnreadableImage)
    assert pictures[2] in found.reason
    assert isinstance(data[Key(0, 1)], Sample)


# Batches

CAPTIONS = st.lists(
    st.lists(st.lists(st.integers(4, 99), max_size=6), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(captions=CAPTIONS)
def test_labels_are_shifted_once(captions):
    samples = [
        Sample(i, torch.full((3, 2, 2), float(i)), [[*ids, EOS] for ids in of_image])
        for i, of_image in enumerate(captions)
    ]
    batch = collate(samples)
    longest = max(len(ids) for of_image in captions for ids in of_image) + 1
    most = max(map(len, captions))
    assert batch.tokens.shape == batch.labels.shape == (len(captions), most, longest)
    assert batch.indices == list(range(len(captions)))
    for i, of_image in enumerate(captions):
        for j in range(most):
            tokens, labels = batch.tokens[i, j].tolist(), batch.labels[i, j].tolist()
            if j >= len(of_image):  # an image with fewer captions than others
                assert tokens == labels == [PAD] * longest
                continue
            ids, fill = of_image[j], [PAD] * (longest - len(of_image[j]) - 1)
            assert tokens == [BOS, *ids, *fill]
            assert labels == [*ids, EOS, *fill]


ASKED = st.lists(
    st.lists(st.tuples(*[st.lists(st.integers(4, 99), max_size=5)] * 2), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)  # of each image, its questions with their answers


@given(asked=ASKED, question_pad=st.sampled_from([0, 7, 101]))
def test_questions_are_flat_and_know_their_images(asked, question_pad):
    samples = [
        Sample(
            10 + i,
            torch.full((3, 2, 2), float(i)),
            [[*answer, EOS] for _, answer in of_image],
            [[*question, EOS] for question, _ in of_image],
            [100 * i + j for j in range(len(of_image))],
            source=3,
        )
        for i, of_image in enumerate(asked)
    ]
    batch = collate(
        [samples[0], UnreadableImage(9, "why"), *samples[1:]], question_pad=question_pad
    )
    flat = [(i, *pair) for i, of_image in enumerate(asked) for pair in of_image]
    assert batch.owners.tolist() == [i for i, *_ in flat]
    assert batch.indices == [10 + i for i in range(len(asked))]
    assert [n for rows in batch.rows for n in rows] == [n for s in samples for n in s.rows]
    assert batch.source == 3
    most = [max(len(pair[n]) for pair in flat) + 1 for n in (1, 2)]
    assert batch.questions.shape == (len(flat), most[0])
    assert batch.tokens.shape == batch.labels.shape == (len(flat), 1, most[1])
    for n, (_, question, answer) in enumerate(flat):
        fill = [question_pad] * (most[0] - len(question) - 1)
        assert batch.questions[n].tolist() == [*question, EOS, *fill]
        fill = [PAD] * (most[1] - len(answer) - 1)
        assert batch.labels[n, 0].tolist() == [*answer, EOS, *fill]
        assert batch.tokens[n, 0].tolist() == [BOS, *answer, *fill]
    assert [item.index for item in batch.unreadable] == [9]
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.questions, batch.questions)
    assert moved.rows == batch.rows


def test_a_batch_of_captions_has_no_questions(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer)
    batch = collate([data[Key(0, i)] for i in range(3)])
    assert batch.questions is batch.owners is batch.to(torch.device("cpu")).owners is None
    assert batch.rows == [[0], [1], [2]]


def test_a_batch_without_any_image():
    batch = collate([UnreadableImage(4, "why")])
    assert batch.images is None
    assert batch.indices == []
    assert [item.index for item in batch.unreadable] == [4]
    assert batch.to(torch.device("cpu")).images is None


@pytest.mark.parametrize("kept", [False, True])
def test_a_blank_takes_the_place_of_a_batch_that_cannot_be_read(
    pictures, tokenizer, tmp_path, kept
):
    """Of the same shapes and the same source, so that a step on it is like the others' step."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    table = [row(pictures[0], "a red circle on the left"), row(str(broken), "one", "two words")]
    table += [ask(path, "what colour?", "red", source=1) for path in (pictures[0], str(broken))]
    data = dataset(Table(table), tokenizer)
    if kept:
        data.features = np.zeros((2, 2, 4, 6), np.float16)
        data.features[:, 1] = np.nan
    for source in (0, 1):
        good, bad = collate([data[Key(0, 0, source)]]), collate([data[Key(0, 1, source)]])
        assert bad.images is None
        assert bad.source == source
        blank = collate([data.make_blank(bad.unreadable[0])])
        assert (blank.images.shape, blank.images.dtype) == (good.images.shape, good.images.dtype)
        assert (blank.questions is None) == (good.questions is None) == (source == 0)
        assert (blank.source, blank.indices) == (source, [1])


# Which images make which batch

SIZES = {
    "length": st.integers(0, 60),
    "batch_size": st.integers(1, 7),
    "world": st.integers(1, 5),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 5),
}


def steps(length, batch_size, *, seed, epoch, rank=0, world=1) -> list[list[Key]]:
    batches = EpochBatches([range(length)], batch_size, seed=seed, rank=rank, world=world)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    return found


@given(**SIZES)
def test_an_epoch_shows_each_image_once(length, batch_size, world, seed, epoch):
    del world
    found = [key for step in steps(length, batch_size, seed=seed, epoch=epoch) for key in step]
    assert sorted(found) == [Key(epoch, i, 0) for i in range(length)]


@given(**SIZES)
def test_ranks_share_the_steps_of_a_single_rank(length, batch_size, world, seed, epoch):
    alone = steps(length, batch_size * world, seed=seed, epoch=epoch)
    shares = [
        steps(length, batch_size, seed=seed, epoch=epoch, rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    # Only a step that is too small to give every rank an image is left out.
    assert len(alone) - len(shares[0]) in (0, 1)
    left_out = [key for step in alone[len(shares[0]) :] for key in step]
    assert len(left_out) < world
    for i, step in enumerate(zip(*shares, strict=True)):
        assert all(1 <= len(share) <= batch_size for share in step)
        together = [key for share in step for key in share]
        assert len(together) == len(set(together))
        assert set(together) == set(alone[i])


MIXED = (range(10), range(5, 17), range(3, 11), ())
WEIGHTS = (0.5, 1, 2.5, 3)


def mixed(batch_size: int, *, epoch: int = 0, seed: int = 0, **kwargs) -> list[list[Key]]:
    batches = EpochBatches(MIXED, batch_size, weights=WEIGHTS, seed=seed, **kwargs)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    return found


@pytest.mark.parametrize("epoch", range(4))
def test_each_source_is_seen_as_often_as_its_weight_says(epoch):
    found = mixed(3, epoch=epoch)
    assert all(len({key.source for key in step}) == 1 for step in found)
    keys = [key for step in found for key in step]
    assert Counter(key.source for key in keys) == {0: 5, 1: 12, 2: 20}
    images = [Counter(key.image for key in keys if key.source == s) for s in range(3)]
    assert set(images[0].values()) == {1}
    assert images[0].keys() <= set(MIXED[0])
    assert images[1] == Counter(MIXED[1])
    assert images[2].keys() == set(MIXED[2])
    assert Counter(images[2].values()) == {2: 4, 3: 4}  # two passes and a half
    # Whatever recurs within an epoch comes with other texts and another crop.
    assert len(set(keys)) == len(keys)


def test_no_sample_comes_twice_in_a_run():
    keys = [key for epoch in range(6) for step in mixed(3, epoch=epoch) for key in step]
    assert len(set(keys)) == len(keys)


def test_half_passes_are_not_always_the_same_half():
    halves = {
        frozenset(key.image for step in mixed(3, epoch=e) for key in step if key.source == 0)
        for e in range(6)
    }
    assert len(halves) > 1


def test_steps_of_the_sources_are_mixed():
    orders = [[step[0].source for step in mixed(2, epoch=epoch)] for epoch in range(4)]
    assert all(order != sorted(order) for order in orders)
    assert len(set(map(tuple, orders))) > 1


@given(
    batch_size=st.integers(1, 5), world=st.integers(1, 4), epoch=st.integers(0, 3),
    seed=st.integers(0, 3),
)  # fmt: skip
def test_ranks_share_the_steps_of_several_sources(batch_size, world, epoch, seed):
    shares = [
        mixed(batch_size, epoch=epoch, seed=seed, rank=rank, world=world) for rank in range(world)
    ]
    assert shares == [
        mixed(batch_size, epoch=epoch, seed=seed, rank=rank, world=world) for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    total = Counter()
    for step in zip(*shares, strict=True):
        assert all(1 <= len(share) <= batch_size for share in step)
        together = [key for share in step for key in share]
        assert len({key.source for key in together}) == 1
        assert len(set(together)) == len(together)
        total.update(key.source for key in together)
    for source, all_of_it in ((0, 5), (1, 12), (2, 20)):
        assert all_of_it - world < total[source] <= all_of_it


def test_a_weight_however_small_leaves_one_image():
    found = list(EpochBatches([range(3)], 2, weights=[0.01]))
    assert [len(step) for step in found] == [1]


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for step in steps(50, 7, seed=seed, epoch=epoch) for _, i, _ in step]

    orders = [order(s, e) for s in range(3) for e in range(3)]
    assert orders == [order(s, e) for s in range(3) for e in range(3)]
    assert len(set(map(tuple, orders))) == 9


def test_without_shuffling_the_order_is_that_of_the_rows():
    found = list(EpochBatches([range(5)], 2, shuffle=False))
    assert found == [[(0, 0, 0), (0, 1, 0)], [(0, 2, 0), (0, 3, 0)], [(0, 4, 0)]]


def test_rows_of_a_real_table_serve_the_same(pictures, tokenizer):
    datasets = pytest.importorskip("datasets")
    plain = rows(pictures)
    table = datasets.Dataset.from_list(plain)
    assert Path(table[0]["image"]).exists()
    one, other = dataset(plain, tokenizer), dataset(table, tokenizer)
    for i in range(len(plain)):
        assert torch.equal(one[Key(0, i)].image, other[Key(0, i)].image)
        assert one[Key(0, i)].texts == other[Key(0, i)].texts
