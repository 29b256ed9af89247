"""The feature cache: its content, when it is computed again, and interruptions."""

from __future__ import annotations

import copy
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from drawn_images import SHAPES, Table, draw, make_flickr
from runs import TWO_STAGES, assert_equal, best_of, run
from tiny import Grid
from torch import nn

from captioner import files
from captioner.data.dataset import Augmentation, ImageDataset, Key, UnreadableImage
from captioner.errors import CheckpointError
from captioner.images.transforms import PixelSpec
from captioner.tokenizer import Tokenizer
from captioner.training import features

SPEC = PixelSpec((16, 16), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle", "a blue square"] * 20, vocab_size=300)


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(mixed_precision="no", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def pictures(tmp_path, tokenizer) -> ImageDataset:
    """Return five drawn images, of which the third is damaged."""
    table = []
    for i, shape in enumerate(SHAPES[:5]):
        draw(*shape).save(tmp_path / f"{i}.png")
        row = {
            "image": str(tmp_path / f"{i}.png"),
            "audio": "",
            "references": ["a dog on the left"],
        }
        table.append(row | {"question": "", "source": 0})
    (tmp_path / "2.png").write_bytes(b"no picture")
    return ImageDataset(
        Table(table),
        spec=SPEC,
        tokenizer=tokenizer,
        max_length=20,
        augmentation=Augmentation(min_scale=0.5, flip=True, jitter=0.2),
    )


@torch.no_grad()
def test_only_images_of_the_given_sources_are_encoded(pictures, accelerator, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "select_images", lambda source: [[0, 3], [3, 4]][source])
    how = {"views": 2, "accelerator": accelerator, "folder": tmp_path}
    backbone = Grid().eval()
    whole = features.cached_features(backbone, pictures, **how)
    kept = features.cached_features(backbone, pictures, sources=[1], **how)
    assert np.array_equal(kept[:, [3, 4]], whole[:, [3, 4]])
    assert not kept[:, [0, 1, 2]].any()
    both = features.cached_features(backbone, pictures, sources=[0, 1], **how)
    assert np.array_equal(both[:, [0, 3, 4]], whole[:, [0, 3, 4]])
    assert not both[:, [1, 2]].any()
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_sources_without_images_need_no_file(pictures, accelerator, tmp_path):
    how = {"views": 1, "accelerator": accelerator, "folder": tmp_path / "cache"}
    kept = features.cached_features(Grid().eval(), pictures, sources=[7], **how)
    assert kept.shape == (1, 5, 4, 6)
    assert not kept.any()
    assert not (tmp_path / "cache").exists()


@torch.no_grad()
def test_cached_features_equal_those_of_the_backbone(pictures, accelerator, tmp_path):
    backbone = Grid().eval()
    kept = features.cached_features(
        backbone, pictures, views=3, folder=tmp_path / "cache", accelerator=accelerator
    )
    assert kept.shape == (3, 5, 4, 6)
    assert kept.dtype == np.float16
    for view in range(3):
        for i in (0, 1, 3, 4):
            fresh = backbone(pictures[Key(view, i)].image[None])[0]
            torch.testing.assert_close(
                torch.from_numpy(kept[view, i]).float(), fresh, atol=2e-3, rtol=2e-3
            )
        assert np.isnan(kept[view, 2]).all()
    captions = {(v, i): pictures[Key(v, i)].texts for v in range(3) for i in (0, 1, 3, 4)}
    pictures.features = kept
    for epoch in range(3):
        for i in (0, 1, 3, 4):
            view = (epoch + i) % 3
            sample = pictures[Key(epoch, i)]
            assert torch.equal(sample.image, torch.from_numpy(kept[view, i]))
            assert sample.texts == captions[view, i]  # mirrored in every other view
        assert isinstance(pictures[Key(epoch, 2)], UnreadableImage)


@torch.no_grad()
def test_features_of_an_image_are_cached_once_for_all_sources(tokenizer, accelerator, tmp_path):
    """Return images for which the sources have captions, questions or both."""
    table = []
    for i, shape in enumerate(SHAPES[:4]):
        draw(*shape).save(tmp_path / f"{i}.png")
        row = {"image": str(tmp_path / f"{i}.png"), "audio": "", "references": ["red"]}
        if i > 1:
            table.append(row | {"question": "what colour", "source": 1})
        if i != 3:
            table.append(row | {"question": "", "source": 2})
    data = ImageDataset(Table(table), spec=SPEC, tokenizer=tokenizer, max_length=20)
    backbone = Grid().eval()
    expected = {(i, s): data[Key(0, i, s)] for s in (1, 2) for i in data.select_images(s)}
    data.features = features.cached_features(
        backbone, data, views=1, folder=tmp_path / "cache", accelerator=accelerator
    )
    assert data.features.shape == (1, 4, 4, 6)
    for (i, source), sample in expected.items():
        kept = data[Key(5, i, source)]
        fresh = backbone(sample.image[None])[0]
        torch.testing.assert_close(kept.image.float(), fresh, atol=2e-3, rtol=2e-3)
        assert (kept.texts, kept.questions) == (sample.texts, sample.questions)


def test_features_are_computed_again_only_if_something_changes(
    pictures, accelerator, tmp_path, monkeypatch
):
    written = []
    write = features._write

    def count(path, *args):
        written.append(path.name)
        write(path, *args)

    monkeypatch.setattr(features, "_write", count)

    def ask(backbone, data=pictures, views=1, precision="no"):
        folder = tmp_path / "cache"
        monkeypatch.setattr(type(accelerator), "mixed_precision", precision)
        features.cached_features(
            backbone, data, views=views, folder=folder, accelerator=accelerator
        )
        return len(set(written))

    backbone = Grid().eval()
    assert [ask(backbone), ask(backbone), ask(copy.deepcopy(backbone))] == [1, 1, 1]
    os.utime(tmp_path / "0.png", (1e9, 1e9))  # another copy of the same image
    assert ask(backbone) == 1
    assert len(written) == 1
    assert ask(backbone, views=2) == 2
    other = Grid(eps=1e-3).eval()  # the same weights, but another backbone
    other.load_state_dict(backbone.state_dict())
    assert ask(other) == 3
    assert ask(backbone, precision="bf16") == 4
    changed = copy.copy(pictures)
    changed.augmentation = None
    assert ask(backbone, changed) == 5
    shutil.copy(tmp_path / "1.png", tmp_path / "0.png")
    assert ask(backbone) == 6
    with torch.no_grad():
        backbone.conv.bias.add_(1)
    assert ask(backbone) == 7
    assert len(written) == 7
    assert all(name.endswith(".npy") for name in written)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(written)


class Stop(Exception):
    """Raised to end the encoding between two batches."""


def count_batches(backbone: nn.Module) -> list[int]:
    """Return a list that receives the number of images of each encoded batch."""
    sizes: list[int] = []
    backbone.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    return sizes


@pytest.fixture
def few_at_once(monkeypatch):
    """Use batches of two, marked three at a time: two views of five images make six batches."""
    monkeypatch.setattr(features, "BATCH", 2)
    monkeypatch.setattr(features, "TOGETHER", 3)
    monkeypatch.setattr(features, "feature_shape", lambda *_: (4, 6))  # runs no image


@pytest.mark.parametrize("done", range(7))
def test_encoding_continues_after_an_interruption(
    pictures, accelerator, tmp_path, few_at_once, done
):
    backbone = Grid().eval()
    how = {"views": 2, "accelerator": accelerator}
    whole = features.cached_features(backbone, pictures, folder=tmp_path / "whole", **how)
    left = iter(range(done))

    def stop() -> None:
        if next(left, None) is None:
            raise Stop

    sizes = count_batches(backbone)
    folder = tmp_path / "cache"
    if done < 6:
        with pytest.raises(Stop):
            features.cached_features(backbone, pictures, folder=folder, stop=stop, **how)
        assert len(sizes) == done
        assert not list(folder.glob("*.npy"))
    result = features.cached_features(backbone, pictures, folder=folder, **how)
    assert len(sizes) == 6
    np.testing.assert_array_equal(result, whole)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


def test_batches_not_marked_as_done_are_encoded_again(
    pictures, accelerator, tmp_path, few_at_once, monkeypatch
):
    """A killed process leaves a group of batches marked and the next batch not marked."""
    backbone = Grid().eval()
    how = {"views": 2, "accelerator": accelerator, "folder": tmp_path / "cache"}
    calls, sizes = iter(range(5)), count_batches(backbone)
    note = features._note

    def stop() -> None:
        if next(calls) == 4:
            monkeypatch.setattr(features, "_note", lambda *_: None)
            raise Stop

    with pytest.raises(Stop):
        features.cached_features(backbone, pictures, stop=stop, **how)
    monkeypatch.setattr(features, "_note", note)
    features.cached_features(backbone, pictures, **how)
    assert len(sizes) == 4 + 3


def encoding_over(
    there: dict[str, bytes], pictures: ImageDataset, accelerator: Accelerator, tmp_path: Path
) -> tuple[Callable[[], np.ndarray], np.ndarray]:
    """Return a function that encodes into a folder with these files, and the expected result."""
    backbone, folder = Grid().eval(), tmp_path / "cache"
    how = {"views": 1, "accelerator": accelerator}
    whole = features.cached_features(backbone, pictures, folder=tmp_path / "whole", **how)
    (kept,) = (tmp_path / "whole").iterdir()
    folder.mkdir()
    for suffix, content in there.items():
        (folder / kept.name).with_suffix(f".{suffix}").write_bytes(content)
    return lambda: features.cached_features(backbone, pictures, folder=folder, **how), whole


@pytest.mark.parametrize(
    "there", [{"partial": b"torn", "done": bytes(2)}, {"done": bytes([1, 1, 1])}, {"partial": b""}]
)
def test_encoding_restarts_if_one_of_its_two_files_is_missing(
    pictures, accelerator, tmp_path, few_at_once, there
):
    encode, whole = encoding_over(there, pictures, accelerator, tmp_path)
    np.testing.assert_array_equal(encode(), whole)


def test_marks_without_features_are_not_used(
    pictures, accelerator, tmp_path, few_at_once, monkeypatch
):
    """The file of marks exists without features, and the process is killed while it restarts."""
    encode, whole = encoding_over({"done": bytes([1, 1, 1])}, pictures, accelerator, tmp_path)
    make = np.lib.format.open_memmap

    def killed(*args):
        make(*args)
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "open_memmap", killed)
        with pytest.raises(Stop):
            encode()
    np.testing.assert_array_equal(encode(), whole)


def test_full_disk_is_an_error_before_features_are_written(
    pictures, accelerator, tmp_path, monkeypatch
):
    """5 pictures of 4 positions and 6 channels are 240 bytes."""
    room = SimpleNamespace(free=files.SPARE + 239)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: room)
    how = {"views": 1, "folder": tmp_path / "cache", "accelerator": accelerator}
    with pytest.raises(CheckpointError, match=r"not enough space for the features: .*train\.cache"):
        features.cached_features(Grid().eval(), pictures, **how)
    assert not list((tmp_path / "cache").iterdir())
    room.free += 1
    features.cached_features(Grid().eval(), pictures, **how)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_a_run_during_encoding(tmp_path, monkeypatch, capsys, number):
    data, output = make_flickr(tmp_path / "data"), tmp_path / "run"
    assert run(data, output, TWO_STAGES) == 0
    unstopped = output.rename(tmp_path / "unstopped")
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(features, "BATCH", 2)
    with monkeypatch.context() as patch:
        collate, calls = features.collate, iter(range(99))

        def signalled(samples):
            if next(calls) == 2:
                os.kill(os.getpid(), number)
            return collate(samples)

        patch.setattr(features, "collate", signalled)
        assert run(data, output, TWO_STAGES) == 128 + number
    message = capsys.readouterr().err
    assert (
        f"{signal.Signals(number).name}: the features so far are kept; the same command" in message
    )
    (noted,) = (tmp_path / "cache").glob("*.done")
    assert 0 < noted.read_bytes().count(1) < noted.stat().st_size
    assert run(data, output, TWO_STAGES) == 0
    assert_equal(best_of(output), best_of(unstopped))
