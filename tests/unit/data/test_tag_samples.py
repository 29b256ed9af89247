"""Samples and batches of tags."""

from __future__ import annotations

import torch
from drawn_images import Table
from sample_tables import draw_pictures, make_dataset, table_row, train_tokenizer

from captioner.data.collate import collate
from captioner.data.dataset import Key, UnreadableImage
from captioner.data.tag_counts import frequent_tags

TAGS = (("dog", "cat", "rare"), ("cat", "dog"), (), ("bird",), ("bird", "dog"))


def tag_rows(images: list[str]) -> Table:
    """Return a source of captions and two sources of tags, 1 and 2."""
    rows = [table_row(images[0], "a dog", source=0) | {"tags": None}]
    for place, (image, tags) in enumerate(zip(images, TAGS, strict=False)):
        rows.append(table_row(image, source=1 + (place > 2)) | {"tags": list(tags)})
    return Table(rows)


def test_only_tags_of_several_images_are_predicted(tmp_path):
    rows = tag_rows(draw_pictures(tmp_path))
    assert frequent_tags(rows) == {1: ["cat", "dog"], 2: ["bird"]}


def test_labels_tell_absent_tags_from_tags_that_the_source_does_not_use(tmp_path):
    rows = tag_rows(draw_pictures(tmp_path))
    data = make_dataset(rows, train_tokenizer(), tags=frequent_tags(rows))
    assert data.texts.tags == ["bird", "cat", "dog"]
    labels = {(i, s): data[Key(0, i, s)].tags for s in (1, 2) for i in data.select_images(s)}
    assert {key: tags.tolist() for key, tags in labels.items()} == {
        (0, 1): [-1, 1, 1],
        (1, 1): [-1, 1, 1],
        (2, 1): [-1, 0, 0],
        (3, 2): [1, -1, -1],
        (4, 2): [1, -1, -1],
    }
    assert data[Key(0, 0, 0)].tags is None


def test_a_batch_of_tags_has_no_tokens(tmp_path):
    images = draw_pictures(tmp_path)
    rows = tag_rows(images)
    data = make_dataset(rows, train_tokenizer(), tags=frequent_tags(rows))
    broken = UnreadableImage(1, "broken", 1)
    batch = collate([data[Key(0, 0, 1)], broken, data[Key(0, 2, 1)]])
    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.tags.tolist() == [[-1, 1, 1], [-1, 0, 0]]
    assert batch.tokens.numel() == batch.labels.numel() == 0
    assert (batch.questions, batch.owners, batch.indices) == (None, None, [0, 2])
    assert torch.equal(batch.to(torch.device("cpu")).tags, batch.tags)
    blank = collate([data.make_blank(broken)])
    assert blank.tags.tolist() == [[-1, 1, 1]]
    assert not blank.images.any()
    assert collate([data[Key(0, 0, 0)]]).tags is None


def test_batch_of_tags_has_the_weights_of_the_rows(tmp_path):
    rows = tag_rows(draw_pictures(tmp_path))
    rows[1]["weights"] = [0.25]
    data = make_dataset(rows, train_tokenizer(), tags=frequent_tags(rows))
    batch = collate([data[Key(0, 0, 1)], data[Key(0, 1, 1)]])
    assert batch.weights.flatten().tolist() == [0.25, 1.0]
    assert data[Key(0, 0, 0)].weights == [1.0]
