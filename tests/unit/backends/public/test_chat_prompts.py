"""Test the prompts of chat models, and the errors of incomplete folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from public_folders.chat import build_gemma3, build_llava
from public_tokens import PublicModel, random_images

from captioner.backends.public.chat import ChatFamily
from captioner.backends.public.families import load_family
from captioner.errors import CheckpointError, QuestionError


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    build_llava(tmp_path, 0)
    return tmp_path


def load(folder: Path) -> ChatFamily:
    family = load_family(str(folder), torch.float32)
    assert isinstance(family, ChatFamily)
    return family


def read(family: ChatFamily, prompt: list[int]) -> str:
    return str(family.vocabulary.tokenizer.decode(prompt))


def test_the_question_has_the_suffix_of_the_paper(llava: Path) -> None:
    family = load(llava)
    text = read(family, family.question_prompt("a bus?"))
    assert text.startswith("<s><|user|><image>\na bus?\nAnswer the question using a single word")


def test_a_template_that_writes_the_first_token_does_not_repeat_it(tmp_path: Path) -> None:
    build_gemma3(tmp_path, 0)
    family = load(tmp_path)
    assert read(family, family.caption_prompt()).count("<s>") == 1


def test_llava_without_a_template_has_the_prompt_of_the_paper(llava: Path) -> None:
    (llava / "chat_template.jinja").unlink()
    family = load(llava)
    text = read(family, family.caption_prompt())
    assert text == f"<s>USER: <image>\n{family.instruction} ASSISTANT:"


def test_a_template_in_an_earlier_file(llava: Path) -> None:
    expected = load(llava).caption_prompt()
    template = (llava / "chat_template.jinja").read_text(encoding="utf-8")
    (llava / "chat_template.jinja").unlink()
    (llava / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load(llava).caption_prompt() == expected


def test_a_folder_without_a_template_is_an_error(tmp_path: Path) -> None:
    build_gemma3(tmp_path, 0)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"has no chat template; expected the file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'][1]['text'] }}", "writes 0 image tokens"),
        ("{{ raise_exception('no\nimages') }}", "cannot be applied: .*images"),
        ("{% if %}", "cannot be applied"),
    ],
)
def test_an_unusable_template_is_an_error(llava: Path, template: str, message: str) -> None:
    (llava / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=message) as error:
        load(llava)
    assert "\n" not in str(error.value)


def test_a_damaged_template_file_is_an_error(llava: Path) -> None:
    (llava / "chat_template.jinja").unlink()
    (llava / "chat_template.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"chat_template\.json: cannot be read"):
        load(llava)


def test_a_question_with_the_image_token_is_an_error(llava: Path) -> None:
    with pytest.raises(QuestionError, match="contains the image token '<image>'"):
        load(llava).question_prompt("what is <image>?")


def test_a_question_is_encoded_with_the_features_of_its_image(llava: Path) -> None:
    model = PublicModel.load(llava)
    (memory,) = model.memories(random_images(1))
    prompt = model.family.question_prompt("a bus?")
    (asked,) = model.backend.encode_questions([memory], [prompt], [0])
    assert asked.features is memory.features
