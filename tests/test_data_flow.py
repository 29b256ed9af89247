"""Rows to samples to batches: labels, padding, flips, unreadable images, and chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHAPES, draw
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from captioner.data.collate import collate
from captioner.data.dataset import Augmentation, CaptionDataset, Sample, Unreadable
from captioner.data.sampler import EpochBatches
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer
from captioner.transforms import PixelSpec, to_pixels

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


def rows(pictures: list[str], captions: list[list[str]] | None = None) -> list[dict]:
    captions = captions or [[f"a {c} {s} on the {side}"] for c, s, side in SHAPES]
    return [{"image": p, "references": texts} for p, texts in zip(pictures, captions, strict=False)]


def dataset(some_rows: list[dict], tokenizer: Tokenizer, **kwargs) -> CaptionDataset:
    kwargs = {"spec": SPEC, "max_length": 40, **kwargs}
    return CaptionDataset(some_rows, tokenizer=tokenizer, **kwargs)


def read(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in sample.captions]


# Samples


def test_a_sample_holds_the_image_as_it_is_and_its_tidy_captions(pictures, tokenizer):
    data = dataset(rows(pictures, [["A red CIRCLE  .", "the right one"]]), tokenizer)
    sample = data[0, 0]
    assert torch.equal(sample.image, to_pixels(Image.open(pictures[0]).convert("RGB"), SPEC))
    assert read(sample, tokenizer) == ["a red circle", "the right one"]
    assert len(data) == 1
    cased = dataset(data.rows, tokenizer, lowercase=False)
    assert read(cased[0, 0], tokenizer)[0] == "A red CIRCLE"


def test_captions_are_cut_and_keep_eos(pictures, tokenizer):
    sample = dataset(rows(pictures), tokenizer, max_length=4)[0, 0]
    assert [len(ids) for ids in sample.captions] == [4]
    assert sample.captions[0][-1] == EOS


def test_many_captions_are_drawn_afresh_each_epoch(pictures, tokenizer):
    texts = [f"caption {i}" for i in range(8)]
    data = dataset(rows(pictures, [texts] * 2), tokenizer, captions_per_image=3)
    drawn = [read(data[epoch, 0], tokenizer) for epoch in range(30)]
    assert all(len(set(three)) == 3 for three in drawn)
    assert {text for three in drawn for text in three} == set(texts)
    assert drawn == [read(data[epoch, 0], tokenizer) for epoch in range(30)]
    assert drawn != [read(data[epoch, 1], tokenizer) for epoch in range(30)]
    other = dataset(data.rows, tokenizer, captions_per_image=3, seed=1)
    assert drawn != [read(other[epoch, 0], tokenizer) for epoch in range(30)]


def test_few_captions_are_all_kept_in_order(pictures, tokenizer):
    data = dataset(rows(pictures, [["b", "a", "c"]]), tokenizer, captions_per_image=3)
    assert all(read(data[e, 0], tokenizer) == ["b", "a", "c"] for e in range(5))


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
        sample = data[epoch, 0]
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
            assert side_of(data[epoch, 0].image) == "left"
            assert set(read(data[epoch, 0], tokenizer)) <= set(texts)


@pytest.mark.parametrize("augmentation", [None, Augmentation(1.0, False, 0.0)])
def test_nothing_is_mirrored_unasked(pictures, tokenizer, augmentation):
    data = dataset(rows(pictures), tokenizer, augmentation=augmentation)
    for epoch in range(20):
        assert side_of(data[epoch, 0].image) == "left"
        assert read(data[epoch, 0], tokenizer) == ["a red circle on the left"]


def test_pixels_depend_on_seed_epoch_and_index_alone(pictures, tokenizer):
    same = rows([pictures[0]] * 2, [["a circle"]] * 2)
    data = dataset(same, tokenizer, augmentation=FLIPPING)
    first = data[0, 0].image
    data[5, 1], torch.seed(), np.random.seed(3)  # noqa: NPY002
    assert torch.equal(data[0, 0].image, first)
    assert not torch.equal(data[1, 0].image, first)
    assert not torch.equal(data[0, 1].image, first)
    assert not torch.equal(
        dataset(same, tokenizer, augmentation=FLIPPING, seed=1)[0, 0].image, first
    )


def test_workers_change_nothing(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer, augmentation=FLIPPING)

    def epoch_of(workers: int) -> list:
        batches = EpochBatches(len(data), 2, seed=4)
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
    batch = collate([data[0, i] for i in range(3)])
    assert batch.indices == [0, 2]
    assert len(batch.images) == len(batch.labels) == 2
    assert [item.index for item in batch.unreadable] == [1]
    assert "bad.png" in batch.unreadable[0].reason
    assert torch.equal(batch.images, collate([data[0, 0], data[0, 2]]).images)


# Kept features


def test_kept_features_take_turns_and_flip_with_their_captions(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer, augmentation=FLIPPING)
    texts = {(v, i): read(data[v, i], tokenizer) for v in range(2) for i in range(6)}
    features = np.zeros((2, 6, 4, 3), np.float16)
    for v in range(2):
        for i in range(6):
            features[v, i] = 10 * v + i
    data.features = features
    for epoch in range(4):
        for i in range(6):
            sample = data[epoch, i]
            view, index = divmod(int(sample.image[0, 0]), 10)
            assert index == i
            assert read(sample, tokenizer) == texts[view, i]
    for i in range(6):  # each view comes once in as many epochs as there are views
        assert {int(data[e, i].image[0, 0]) // 10 for e in range(2)} == {0, 1}
    # Within one epoch the views are mixed.
    assert {int(data[0, i].image[0, 0]) // 10 for i in range(6)} == {0, 1}


def test_nan_features_are_an_unreadable_image(pictures, tokenizer):
    data = dataset(rows(pictures), tokenizer)
    data.features = np.zeros((1, 6, 4, 3), np.float16)
    data.features[0, 2] = np.nan
    found = data[0, 2]
    assert isinstance(found, Unreadable)
    assert pictures[2] in found.reason
    assert isinstance(data[0, 1], Sample)


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


def test_a_batch_without_any_image():
    batch = collate([Unreadable(4, "why")])
    assert batch.images is None
    assert batch.indices == []
    assert [item.index for item in batch.unreadable] == [4]
    assert batch.to(torch.device("cpu")).images is None


# Which images make which batch

SIZES = {
    "length": st.integers(0, 60),
    "batch_size": st.integers(1, 7),
    "world": st.integers(1, 5),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 5),
}


def steps(length, batch_size, *, seed, epoch, rank=0, world=1) -> list[list[tuple[int, int]]]:
    batches = EpochBatches(length, batch_size, seed=seed, rank=rank, world=world)
    batches.epoch = epoch
    found = list(batches)
    assert len(found) == len(batches)
    return found


@given(**SIZES)
def test_an_epoch_shows_each_image_once(length, batch_size, world, seed, epoch):
    del world
    found = [key for step in steps(length, batch_size, seed=seed, epoch=epoch) for key in step]
    assert sorted(found) == [(epoch, i) for i in range(length)]


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


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for step in steps(50, 7, seed=seed, epoch=epoch) for _, i in step]

    orders = [order(s, e) for s in range(3) for e in range(3)]
    assert orders == [order(s, e) for s in range(3) for e in range(3)]
    assert len(set(map(tuple, orders))) == 9


def test_without_shuffling_the_order_is_that_of_the_rows():
    found = list(EpochBatches(5, 2, shuffle=False))
    assert found == [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]


def test_rows_of_a_real_table_serve_the_same(pictures, tokenizer):
    datasets = pytest.importorskip("datasets")
    plain = rows(pictures)
    table = datasets.Dataset.from_list(plain)
    assert Path(table[0]["image"]).exists()
    one, other = dataset(plain, tokenizer), dataset(table, tokenizer)
    for i in range(len(plain)):
        assert torch.equal(one[0, i].image, other[0, i].image)
        assert one[0, i].captions == other[0, i].captions
