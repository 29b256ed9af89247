"""Validation of data sets whose images cannot be read."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from accelerate import Accelerator
from drawn_images import make_flickr
from runs import TINY, sources

from captioner.config import load_config
from captioner.data.splits import read_splits
from captioner.errors import DataError
from captioner.training import setup
from captioner.training.validation import describe_scores, validate


def test_scores_of_no_matches_are_logged_as_zero():
    scores = {"loss": 2e-17, "BLEU-1": 2.174e-17, "vqa BLEU-4": 3e-05, "ROUGE-L": 0.0, "CIDEr-D": 1}
    expected = "loss 2e-17  BLEU-1 0  vqa BLEU-4 0  ROUGE-L 0  CIDEr-D 1"
    assert describe_scores(scores) == expected
    assert describe_scores({"BLEU-2": 0.123456}) == "BLEU-2 0.1235"


@pytest.mark.usefixtures("fresh_accelerate")
def test_tags_without_readable_validation_images_are_an_error(tmp_path):
    captions = make_flickr(tmp_path / "captions")
    (tmp_path / "tags").mkdir()
    names = ("1.png", "2.png", "3.png", "4.png")
    for name in names:
        (tmp_path / "tags" / name).write_text(f"no image: {name}")
    rows = (json.dumps({"image": name, "tags": ["dog"]}) + "\n" for name in names)
    (tmp_path / "tags" / "tags.jsonl").write_text("".join(rows))
    both = sources({"root": str(captions)}, {"root": str(tmp_path / "tags" / "tags.jsonl")})
    config = load_config(None, [*TINY, both])
    tasks, train, val, report = read_splits(config)
    model, tokenizer, config = setup.build_start(config, train)
    _, held = setup.build_datasets(config, tasks, train, val, tokenizer)
    run = SimpleNamespace(
        val_set=held,
        tasks=tasks,
        tokenizer=tokenizer,
        config=config,
        accelerator=Accelerator(cpu=True),
        report=report,
    )
    stage = dataclasses.replace(config.train.stages[0], weights=(0, 1))
    with pytest.raises(DataError, match="tags: none of its validation images can be read"):
        validate(model, run, stage)
