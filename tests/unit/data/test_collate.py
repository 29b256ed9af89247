"""Batches: shifted labels, padding, questions and unreadable images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_images import Table
from hypothesis import given
from hypothesis import strategies as st
from sample_tables import (
    FLIPPING,
    draw_pictures,
    image_table,
    make_dataset,
    question_row,
    table_row,
    train_tokenizer,
)
from torch.utils.data import DataLoader

from captioner.data.collate import collate
from captioner.data.dataset import Key, Sample, UnreadableImage
from captioner.data.sampler import EpochBatches
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def test_batches_do_not_depend_on_workers(pictures, tokenizer):
    data = make_dataset(image_table(pictures), tokenizer, augmentation=FLIPPING)

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


def test_unreadable_image_is_reported_and_left_out_of_batch(pictures, tokenizer, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    data = make_dataset(image_table([pictures[0], str(bad), pictures[2]]), tokenizer)
    batch = collate([data[Key(0, i)] for i in range(3)])
    assert batch.indices == [0, 2]
    assert len(batch.images) == len(batch.labels) == 2
    assert [item.index for item in batch.unreadable] == [1]
    assert "bad.png" in batch.unreadable[0].reason
    assert torch.equal(batch.images, collate([data[Key(0, 0)], data[Key(0, 2)]]).images)


CAPTIONS = st.lists(
    st.lists(st.lists(st.integers(4, 99), max_size=6), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(captions=CAPTIONS)
def test_decoder_input_is_labels_shifted_by_one(captions):
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
)  # questions with their answers, by image


@given(asked=ASKED, question_pad=st.sampled_from([0, 7, 101]))
def test_questions_are_flattened_with_owners(asked, question_pad):
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


def test_batch_of_captions_has_no_questions(pictures, tokenizer):
    data = make_dataset(image_table(pictures), tokenizer)
    batch = collate([data[Key(0, i)] for i in range(3)])
    assert batch.questions is batch.owners is batch.to(torch.device("cpu")).owners is None
    assert batch.rows == [[0], [1], [2]]


def test_batch_without_any_image():
    batch = collate([UnreadableImage(4, "why")])
    assert batch.images is None
    assert batch.indices == []
    assert [item.index for item in batch.unreadable] == [4]
    assert batch.to(torch.device("cpu")).images is None


@pytest.mark.parametrize("kept", [False, True])
def test_blank_sample_has_shapes_of_readable_sample(pictures, tokenizer, tmp_path, kept):
    """Ranks without a readable image make the same kind of step as the others."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    table = [
        table_row(pictures[0], "a red circle on the left"),
        table_row(str(broken), "one", "two words"),
    ]
    table += [
        question_row(path, "what colour?", "red", source=1) for path in (pictures[0], str(broken))
    ]
    data = make_dataset(Table(table), tokenizer)
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
