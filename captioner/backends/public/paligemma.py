"""PaliGemma and PaliGemma 2 (Beyer et al. 2024; Steiner et al. 2024): captions and answers.

The sequence is the image, the token that begins a text, the task and a line break. All of it
attends to itself in both directions, and generated text attends to what is before it. The prompts
are those of the tasks `caption` and `answer` in English. Position ids begin at 1.

Shapes: B images (or questions), P image features, L positions of image and prompt, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.backends.public.family import ImageFeatures, PromptedImage, square_spec
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.prefix import PrefixFamily
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_rules import as_ids
from captioner.images.transforms import PixelSpec

LONGEST = 512
"""Largest number of tokens of a prompt and of a text; the model has room for more."""


class PaliGemma(PrefixFamily):
    """`PaliGemmaForConditionalGeneration`."""

    model_types = ("paligemma",)
    questions = True
    first_position = 1

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> PaliGemma:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, "PaliGemmaForConditionalGeneration", dtype)
        family.processor = load_processor(folder)
        text, vision = family.model.config.text_config, family.model.config.vision_config
        ends = as_ids(family.model.generation_config.eos_token_id)
        family.vocabulary = Vocabulary(load_tokenizer(folder), size=text.vocab_size, ends=ends)
        family.image_positions = (vision.image_size // vision.patch_size) ** 2
        room = text.max_position_embeddings - family.image_positions
        family.max_length = family.question_length = min(LONGEST, room // 2)
        return family

    @property
    def decoder(self) -> Any:
        """The model, whose `forward` builds the mask of the prefix."""
        return self.model

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self.model.config.vision_config.image_size)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their projected features (P, D)."""
        pixels = torch.cat([pixels for (pixels,) in images])
        features = self.model.get_image_features(pixels).pooler_output  # (B, P, D)
        return [ImageFeatures({"features": x}) for x in features]

    def caption_prompt(self) -> list[int]:
        """Return the prompt of a caption in English."""
        return self._prompt("caption en")

    def question_prompt(self, question: str) -> list[int]:
        """Return the prompt of a question in English."""
        return self._prompt(f"answer en {question}")

    def _prompt(self, task: str) -> list[int]:
        tokenizer = self.vocabulary.tokenizer
        text = f"{tokenizer.bos_token}{task}\n"
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the image token and the prompt; see `Family.prompt_tokens`."""
        return (self.model.config.image_token_id, *memory.prompt)

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the image features and the embeddings of the prompt (L, D)."""
        prompt = torch.tensor(memory.prompt, device=self.device)
        tokens = self.model.get_input_embeddings()(prompt)
        return torch.cat([memory.features.tensors["features"].to(tokens.dtype), tokens])

    def prompt_inputs(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the types (B, L) of the prompts: 0, which attends in both directions."""
        lengths = (len(m.features.tensors["features"]) + len(m.prompt) for m in memories)
        shape = (len(memories), max(lengths))
        return {"token_type_ids": torch.zeros(shape, dtype=torch.long, device=self.device)}
