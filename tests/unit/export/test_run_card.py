"""The model card of a transformers model that this package has trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from public_folders.catalog import FAMILIES
from public_training import make_model

from captioner.backends.public.families import load_family
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


@pytest.mark.parametrize("name", FAMILIES)
def test_card_states_what_the_family_does(tmp_path: Path, name: str) -> None:
    FAMILIES[name](tmp_path, 0)
    family = load_family(str(tmp_path), torch.float32)
    check_card(tmp_path, captions=family.captions, questions=family.questions)


def check_card(folder: Path, *, captions: bool, questions: bool) -> None:
    """Check the tasks in the metadata and in the text of a card."""
    _, header, body = make_card(collect_files(folder), "me/small", "mit").split("---\n", 2)
    front = yaml.safe_load(header)
    question = "visual-question-answering"
    assert front["pipeline_tag"] == ("image-to-text" if captions else question)
    assert ("image-captioning" in front["tags"], question in front["tags"]) == (captions, questions)
    command = "captioner caption photo.jpg --checkpoint hf-hub:me/small"
    lines = body.splitlines()
    assert (command in lines) == ("model.caption(" in body) == ("captions images" in body)
    assert (command in lines) == captions == ("- It writes no captions" not in body)
    asked = f'{command} --question "what is in the picture?"'
    assert (asked in lines) == ("model.ask(" in body) == ("answers questions about" in body)
    assert (asked in lines) == questions == ("- It answers no questions." not in body)


@pytest.mark.parametrize("name", ["blip-vqa", "git"])
def test_card_of_a_trained_model_states_what_it_does(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path / "start", name)
    config = load_config(overrides=["train.start=a", "data.root=b"])
    save_public(tmp_path / "best", config, model, {})
    check_card(tmp_path / "best", captions=name == "git", questions=True)


def test_unknown_writer() -> None:
    assert describe_writers(RECORD | {"origins": [], "options": {}}) == "an unknown model"
