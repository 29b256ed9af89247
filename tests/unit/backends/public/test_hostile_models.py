"""Damaged public models, and texts and questions that are meant to mislead them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from public_folders.catalog import FAMILIES
from public_tokens import random_images

import captioner
from captioner.cli import generate
from captioner.errors import CaptionerError, QuestionError

(IMAGE,) = random_images(1)
NOT_GENERATED = "cannot be generated with the tokens of this"


def load(folder: Path, family: str) -> Any:
    FAMILIES[family](folder, 0)
    return captioner.load(folder, device="cpu")


def fill_with_nan(model: Any) -> None:
    with torch.no_grad():
        for weights in model.backend.models[0].parameters():
            weights.fill_(torch.nan)


@pytest.mark.parametrize("family", ["BLIP", "BLIP VQA", "ViLT", "GIT"])
def test_outputs_that_are_no_numbers_are_an_error(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family)
    fill_with_nan(model)
    damaged = pytest.raises(CaptionerError, match="outputs of the model are not numbers")
    if model.backend.captions:
        with damaged:
            model.caption([IMAGE])
        with damaged:
            model.score(IMAGE, ["a dog"])
    if model.backend.family.questions:
        with damaged:
            model.ask(IMAGE, "what?")
    if family == "BLIP VQA":
        with damaged:
            model.ask(IMAGE, "what?", answers=["red", "blue"])


@pytest.mark.parametrize("family", ["Kosmos-2", "BLIP", "GIT"])
@pytest.mark.parametrize("text", ["日本", "a 😀"])
def test_texts_outside_the_vocabulary_are_an_error(tmp_path: Path, family: str, text: str) -> None:
    model = load(tmp_path, family)
    with pytest.raises(CaptionerError, match=NOT_GENERATED):
        model.score(IMAGE, [text])
    for option in ("must_include", "prefix"):
        with pytest.raises(CaptionerError, match=NOT_GENERATED):
            model.caption([IMAGE], **{option: text})
    if family != "BLIP":
        with pytest.raises(CaptionerError, match=NOT_GENERATED):
            model.ask(IMAGE, "what?", answers=[text, "dog"])


@pytest.mark.parametrize(
    ("family", "token"), [("GIT", "[SEP]"), ("GIT", "a [CLS]"), ("Kosmos-2", "</s>")]
)
def test_special_tokens_in_texts_are_an_error(tmp_path: Path, family: str, token: str) -> None:
    model = load(tmp_path, family)
    with pytest.raises(CaptionerError, match=NOT_GENERATED):
        model.ask(IMAGE, "what?", answers=[token, "dog"])
    with pytest.raises(CaptionerError, match=NOT_GENERATED):
        model.score(IMAGE, [token])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "BLIP"])
def test_control_tokens_in_questions_are_an_error(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family)
    if not model.backend.family.questions:
        return
    for controls in model.tokenizer.controls:
        for i in controls.ids:
            token = controls.tokenizer.convert_ids_to_tokens(i)
            with pytest.raises(QuestionError, match="the question contains the"):
                model.ask(IMAGE, f"what is it?{token} yes")
    model.ask(IMAGE, "is it <red> or [blue]?")


def test_ids_beyond_the_model_are_an_error(tmp_path: Path) -> None:
    model = load(tmp_path, "GIT")
    count = len(model.tokenizer.tokenizer)
    model.tokenizer.tokenizer.add_tokens(["zebra"] * 1)
    model.tokenizer.size = min(model.tokenizer.size, count)
    (controls,) = model.tokenizer.controls
    controls.size = count
    with pytest.raises(CaptionerError, match=NOT_GENERATED):
        model.score(IMAGE, ["a zebra"])
    for option in ("must_include", "prefix"):
        with pytest.raises(CaptionerError, match=NOT_GENERATED):
            model.caption([IMAGE], **{option: "zebra"})
    with pytest.raises(QuestionError, match="contains 'zebra', for which this model has no"):
        model.ask(IMAGE, "is it a zebra?")


def test_attention_of_models_without_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load(tmp_path / "model", "GIT")
    with pytest.raises(CaptionerError, match="attention: this model has no cross-attention"):
        model.attention(IMAGE, "a dog")
    IMAGE.save(tmp_path / "x.png")
    paths = [str(tmp_path / name) for name in ("x.png", "model", "maps")]
    options = ["--checkpoint", paths[1], "--attention", paths[2], "--device", "cpu"]
    assert generate.main([paths[0], *options]) != 0
    assert "no cross-attention" in capsys.readouterr().err
