"""The model card of a transformers model that this package has trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from public_training import make_model

from captioner.config import load_config
from captioner.export.card import describe_writers, make_card
from captioner.export.published_files import collect_files
from captioner.training.public_checkpoint import save_public

WRITER = {"name": "hf-hub:a/large", "revision": "0123"}
RECORD = {
    "file": "captions.jsonl",
    "origins": [{"rows": 0, "captioner": "1", "checkpoint": [WRITER]}],
    "options": {"checkpoint": ["digest"], "beam_size": 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = ["train.start=hf-hub:a/base@dev", "data.root=/home/jo/captions.jsonl"]
    metrics = {"val": {"CIDEr-D": 0.5}, "data": [RECORD]}
    model = make_model(tmp_path / "start")
    save_public(tmp_path / "best", load_config(overrides=words), model, metrics)
    return tmp_path / "best"


def test_card_names_the_base_model_the_settings_and_the_writers_of_captions(folder: Path) -> None:
    files = collect_files(folder)
    _, header, body = make_card(files, "me/small", "mit").split("---\n", 2)
    front = yaml.safe_load(header)
    assert front["library_name"] == "transformers"
    assert front["base_model"] == "a/base"
    assert "settings are in `run.yaml`" in body
    line = "Captions of `captions.jsonl` were written by `hf-hub:a/large` at revision 0123"
    assert f"- {line} (beam_size 3)." in body
    assert "/home" not in files.texts["run.yaml"]
    assert json.loads(files.texts["metrics.json"])["data"] == [RECORD]


def test_unknown_writer() -> None:
    assert describe_writers(RECORD | {"origins": [], "options": {}}) == "an unknown model"
