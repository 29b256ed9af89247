"""The supported families of transformers models, with what each of them does; no weights, no torch.

A family is selected by `config.json`. Only Pix2Struct has models for captions and models for
questions with the same configuration; the setting `is_vqa` of the image processor separates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Tasks(NamedTuple):
    """What a model does."""

    captions: bool = True
    """Whether it captions images without a question."""
    questions: bool = True
    """Whether it answers questions."""


class FamilyEntry(NamedTuple):
    """A family of models."""

    place: str
    """Module and class in this package."""
    tasks: Tasks = Tasks()


CAPTIONS, QUESTIONS = Tasks(questions=False), Tasks(captions=False)
FAMILIES: dict[str, FamilyEntry] = {
    "blip": FamilyEntry("blip.BlipCaptions", CAPTIONS),
    "blip-2": FamilyEntry("blip2.Blip2"),
    "BlipForQuestionAnswering": FamilyEntry("blip_questions.BlipAnswers", QUESTIONS),
    "florence2": FamilyEntry("florence2.Florence2", CAPTIONS),
    "gemma3": FamilyEntry("gemma3.Gemma3"),
    "git": FamilyEntry("git.Git"),
    "idefics3": FamilyEntry("idefics3.Idefics3"),
    "instructblip": FamilyEntry("instructblip.InstructBlip"),
    "kosmos-2": FamilyEntry("kosmos2.Kosmos2"),
    "llava": FamilyEntry("llava.Llava"),
    "llava_next": FamilyEntry("llava.LlavaNext"),
    "llava_onevision": FamilyEntry("llava.LlavaOnevision"),
    "paligemma": FamilyEntry("paligemma.PaliGemma"),
    "pix2struct": FamilyEntry("pix2struct.Pix2StructCaptions", CAPTIONS),
    "qwen2_5_vl": FamilyEntry("qwen_vl.Qwen2p5Vl"),
    "qwen2_vl": FamilyEntry("qwen_vl.Qwen2Vl"),
    "smolvlm": FamilyEntry("idefics3.SmolVlm"),
    "vilt": FamilyEntry("vilt.Vilt", QUESTIONS),
    "vision-encoder-decoder": FamilyEntry("encoder_decoder.EncoderDecoder", CAPTIONS),
}
"""The families by model type; a class name of transformers overrides its type."""


def find_family(config: Mapping[str, Any]) -> FamilyEntry | None:
    """Return the family of a `config.json`; None if it is not supported."""
    classes = config.get("architectures")
    names = [*(classes if isinstance(classes, list) else ()), config.get("model_type")]
    return next((FAMILIES[x] for x in names if isinstance(x, str) and x in FAMILIES), None)


def find_tasks(config: Mapping[str, Any], processors: Iterable[Mapping[str, Any]]) -> Tasks | None:
    """Return what a model does; None if its family is not supported.

    Args:
        config: The content of `config.json`.
        processors: The content of the files that describe the image processor.
    """
    family = find_family(config)
    if family is None:
        return None
    settings = [part for x in processors for part in (x, x.get("image_processor"))]
    is_vqa = any(isinstance(x, dict) and x.get("is_vqa") for x in settings)
    return QUESTIONS if is_vqa and config.get("model_type") == "pix2struct" else family.tasks
