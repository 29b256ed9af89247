"""Generate texts with transformers alone: its processor, its model and its `generate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from public_tokens import Generate
from transformers import AutoProcessor

from captioner.backends.public.family import Family


def processor_oracle(
    folder: Path, *, caption: str | None, question: str = "", added: int = 0, **options: Any
) -> Generate:
    """Return a function that prompts a model with texts, which its processor encodes.

    Args:
        folder: The folder of the model.
        caption: The prompt of a caption; None if only the image is given.
        question: The prompt of a question, with `{}` in its place.
        added: Number of ids before the new ones if only the image is given.
        options: Further arguments of the processor.
    """
    processor: Any = AutoProcessor.from_pretrained(folder)

    def generate(
        family: Family, image: Image.Image, asked: str | None, search: Mapping[str, Any]
    ) -> list[int]:
        text = caption if asked is None else question.format(asked)
        inputs = processor(images=image, text=text, return_tensors="pt", **options)
        ids: list[int] = family.model.generate(**inputs, **search)[0].tolist()
        if family.start_tokens:
            return ids[len(family.start_tokens) :]
        return ids[inputs["input_ids"].shape[1] if "input_ids" in inputs else added :]

    return generate
