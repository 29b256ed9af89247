"""Pix2Struct (Lee et al. 2023): captions, and answers of models that were trained with questions.

An image is scaled to as many patches as the model reads, whatever its proportions. A question is
not text for the model: it is drawn above the image, which is then encoded. The features of an image
for questions are therefore its pixels, and the prompt of a question is its characters. The models
were trained with the font Arial, which is read from a file `*.ttf` of the folder; without one, the
question is drawn in the font that is part of Pillow.

Shapes: B images, P patches, D width, C values of a patch, H, W pixels.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from captioner.backends.public.cross_attention import CrossAttentionFamily, join_memories
from captioner.backends.public.family import Family, ImageFeatures, PromptedImage
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_rules import as_ids

TEXT_SIZE, LINE, MARGIN = 36, 80, 5
"""Height of a question in pixels, characters of a line, and pixels around the text."""
LONGEST = 512
"""Largest number of tokens of a text, and of characters of a question."""


class Pix2StructCaptions(CrossAttentionFamily):
    """`Pix2StructForConditionalGeneration` for captions; `load` chooses the class."""

    model_types = ("pix2struct",)
    attends = False  # the patches of images differ in number, and are no fixed grid
    pixel_inputs = ("flattened_patches", "attention_mask")
    font: bytes
    """The font of questions."""

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Pix2StructCaptions:
        """Load a model from a transformers folder; raise CheckpointError."""
        processor = load_processor(folder)
        family = Pix2StructAnswers() if processor.is_vqa else Pix2StructCaptions()
        processor.is_vqa = False  # questions are drawn here, because the processor loads a font
        family.model = load_model(folder, "Pix2StructForConditionalGeneration", dtype)
        family.processor, family.font = processor, read_font(folder)
        text, settings = family.model.config.text_config, family.model.generation_config
        ends = as_ids(settings.eos_token_id) or as_ids(text.eos_token_id)
        family.vocabulary = Vocabulary(load_tokenizer(folder), size=text.vocab_size, ends=ends)
        family.start_tokens = as_ids(settings.decoder_start_token_id) or (text.pad_token_id,)
        family.max_length = family.question_length = LONGEST
        return family

    @property
    def decoder(self) -> Any:
        """The text decoder."""
        return self.model.decoder

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return the states (P, D) of their patches."""
        patches, mask = (torch.cat(arrays) for arrays in zip(*images, strict=True))
        outputs = self.model.encoder(flattened_patches=patches, attention_mask=mask)
        states = zip(outputs.last_hidden_state, mask > 0, strict=True)
        return [ImageFeatures({"states": x[kept]}) for x, kept in states]

    def caption_prompt(self) -> list[int]:
        """Return an empty prompt."""
        return []

    def memory(self, memory: PromptedImage) -> Tensor:
        """Return the states (P, D) of the image."""
        return memory.features.tensors["states"]


class Pix2StructAnswers(Pix2StructCaptions):
    """`Pix2StructForConditionalGeneration` for questions that are drawn above the image."""

    captions = False
    questions = True

    def read(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Return the pixels (1, 3, H, W) of an RGB image."""
        return (np.array(image).transpose(2, 0, 1)[None],)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Return the pixels (3, H, W) of images."""
        return [ImageFeatures({"pixels": pixels[0]}) for (pixels,) in images]

    def caption_prompt(self) -> list[int]:
        """Raise CaptionerError."""
        return Family.caption_prompt(self)

    def question_prompt(self, question: str) -> list[int]:
        """Return the code points of the characters of a question."""
        return [ord(character) for character in question]

    def attended(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the states (B, P, D) of images with their questions, and their mask (B, P)."""
        inputs = [self._draw(memory) for memory in memories]
        features = super().encode(inputs)
        return join_memories([x.tensors["states"] for x in features])

    def _draw(self, memory: PromptedImage) -> list[Tensor]:
        """Return the patches (1, P, C) and their mask (1, P) of an image with its question."""
        pixels = memory.features.tensors["pixels"].permute(1, 2, 0).cpu().numpy()
        question = "".join(map(chr, memory.prompt))
        drawn = draw_question(Image.fromarray(pixels), question, self.font)
        patches, mask = (torch.from_numpy(x).to(self.device) for x in Family.read(self, drawn))
        return [patches.to(self.dtype), mask.to(self.dtype)]


def draw_question(image: Image.Image, question: str, font: bytes) -> Image.Image:
    """Return an image, enlarged to the width of the text if needed, below a question.

    Lee et al., section 3.3, and the released code: 36 pixels of height, lines of 80 characters.
    """
    text = "\n".join(textwrap.wrap(question, LINE))
    drawing = ImageFont.truetype(io.BytesIO(font), size=TEXT_SIZE)
    _, _, width, height = ImageDraw.Draw(Image.new("RGB", (1, 1))).textbbox((0, 0), text, drawing)
    header = Image.new("RGB", (int(width) + 2 * MARGIN, int(height) + 2 * MARGIN), "white")
    ImageDraw.Draw(header).text((MARGIN, MARGIN), text, "black", drawing)
    width = max(header.width, image.width)
    header, image = (x.resize((width, x.height * width // x.width)) for x in (header, image))
    result = Image.new("RGB", (width, header.height + image.height), "white")
    result.paste(header, (0, 0))
    result.paste(image, (0, header.height))
    return result


def read_font(folder: str) -> bytes:
    """Return the font file of a folder, or the font that is part of Pillow."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() == ".ttf")
    if files:
        return files[0].read_bytes()
    font: Any = ImageFont.load_default(size=TEXT_SIZE)
    content: bytes = font.font_bytes
    return content
