"""Sequence-level distillation: captions of the teacher as rows of the training set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from drawn_images import make_flickr, make_questions
from tiny import make_checkpoint

import captioner
from captioner.config import Config, SourceConfig, TeacherConfig, load_config
from captioner.data.splits import read_splits
from captioner.errors import ConfigError
from captioner.tokenizer import Tokenizer
from captioner.training import setup, teacher_captions
from captioner.training.signals import Signals, Stopped
from captioner.training.teacher_captions import (
    TEACHER,
    add_teacher_captions,
    choose_sources,
    human_captions,
)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("teacher") / "best")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    """Four captioned images, one of them damaged, and two images with questions only."""
    folder = tmp_path_factory.mktemp("sets")
    captions = make_flickr(folder / "captions", bad=(2,))
    return captions, make_questions(folder / "questions", train=(4, 5))


@pytest.fixture
def config(checkpoint, data, tmp_path) -> Config:
    sources = tuple(SourceConfig(root=str(root), val_splits=("train",)) for root in data)
    settings = TeacherConfig((str(checkpoint),), words=0.0, captions=2)
    config = load_config(checkpoint / "config.yaml")
    train = dataclasses.replace(config.train, teacher=settings, output=str(tmp_path / "run"))
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, sources=sources), train=train
    )


def with_teacher(config: Config, **changes) -> Config:
    teacher = dataclasses.replace(config.train.teacher, **changes)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, teacher=teacher))


def add(config: Config) -> list[dict]:
    """Return the rows of the teacher."""
    tasks, rows, _, _ = read_splits(config)
    longer = add_teacher_captions(rows, tasks, config, Accelerator(cpu=True))
    assert [longer[i] for i in range(len(rows))] == [*rows]
    return [longer[i] for i in range(len(rows), len(longer))]


def files(config: Config) -> list[Path]:
    return sorted(Path(config.train.output).glob(teacher_captions.FILES))


def test_captions_are_those_of_the_beam_search(config, checkpoint):
    found = add(config)
    model = captioner.load(checkpoint, backend="torch", device="cpu")
    assert [Path(row["image"]).name for row in found] == ["0.png", "1.png", "3.png"]
    for row in found:
        (result,) = model.caption(row["image"], num_captions=2, beam_size=3)
        assert row["references"] == [caption.text for caption in result.captions]
        assert (row["question"], row["question_type"], row["source"]) == ("", TEACHER, 0)


def test_decoded_captions_are_used_again(config, monkeypatch):
    first = add(config)
    (path,) = files(config)
    content = path.read_bytes()
    monkeypatch.setattr(teacher_captions, "_load_backend", None)  # would be called
    assert add(config) == first
    assert path.read_bytes() == content


def test_an_interrupted_decoding_is_continued(config, monkeypatch):
    expected = add(config)
    (path,) = files(config)
    key, first, *_ = path.read_text().splitlines()
    path.write_text(f'{key}\n{first}\n{{"image": "half a l')
    decode, decoded = teacher_captions.caption_images, []

    def record(backend, images, search):
        decoded.extend(Path(image).name for image in images)
        return decode(backend, images, search)

    monkeypatch.setattr(teacher_captions, "caption_images", record)
    assert add(config) == expected
    # The damaged image has no captions; nothing else is decoded twice.
    assert decoded == ["1.png", "2.png", "3.png"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["image"] for line in lines[1:]}) == len(lines) - 1 == 4


def test_captions_of_another_search_are_not_used(config):
    assert {len(row["references"]) for row in add(config)} == {2}
    assert {len(row["references"]) for row in add(with_teacher(config, captions=1))} == {1}


def test_a_signal_stops_the_decoding_and_keeps_the_captions(config):
    tasks, rows, _, _ = read_splits(config)
    signals = Signals()
    signals.name = "SIGTERM"
    with pytest.raises(Stopped, match="the same command continues"):
        add_teacher_captions(rows, tasks, config, Accelerator(cpu=True), signals)
    assert len(files(config)[0].read_text().splitlines()) == 2


class OneOfTwoRanks(Accelerator):
    """The first of two ranks, the other of which has received a signal."""

    num_processes = 2

    def reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 1


def test_a_signal_on_one_rank_stops_all(config):
    tasks, rows, _, _ = read_splits(config)
    with pytest.raises(Stopped, match="SIGTERM: the captions so far are kept"):
        add_teacher_captions(rows, tasks, config, OneOfTwoRanks(cpu=True), Signals())
    assert len(files(config)[0].read_text().splitlines()) == 1 + 2  # the key, and half the images


def test_images_with_questions_only_get_captions_on_request(config):
    tasks, rows, _, _ = read_splits(config)
    assert [task.kind for task in tasks] == ["captions", "questions"]
    for option, count in (("captioned", 4), ("all", 6)):
        settings = with_teacher(config, captions_for=option).train.teacher
        sources = choose_sources(rows, tasks, settings)
        assert (len(sources), set(sources.values())) == (count, {0})
    only = [tasks[1]]
    with pytest.raises(ConfigError, match=r"train\.teacher\.captions needs"):
        choose_sources(rows.filter(lambda row: row["source"] == 1), only, config.train.teacher)


def test_each_step_has_the_captions_of_the_teacher_beside_the_references(config, checkpoint):
    tasks, rows, val, _ = read_splits(config)
    longer = add_teacher_captions(rows, tasks, config, Accelerator(cpu=True))
    tokenizer = Tokenizer.load(checkpoint / "tokenizer.model")
    dataset, _ = setup.build_datasets(config, tasks, longer, val, tokenizer)
    sample = dataset[captioner.data.dataset.Key(0, 0, 0)]
    teacher = longer[len(rows)]["references"]
    texts = [tokenizer.decode(ids) for ids in sample.texts]
    assert texts[-2:] == teacher
    assert len(texts) == 2 + 2
    # The reward of self-critical training compares with the references only.
    assert human_captions(dataset)[0] == longer[0]["references"]
    assert not set(teacher) & {text for some in human_captions(dataset).values() for text in some}


def test_the_members_of_an_ensemble_need_the_same_tokens(config, checkpoint, tmp_path):
    other = make_checkpoint(tmp_path / "other")
    Tokenizer.train(["one green triangle", "two dogs"] * 20, vocab_size=300).save(
        other / "tokenizer.model"
    )
    wrong = with_teacher(config, checkpoints=(str(checkpoint), str(other)))
    with pytest.raises((ConfigError, captioner.CheckpointError)):
        add(wrong)
