"""Kosmos-2 (Peng et al. 2023): captions and answers without grounding.

The image stands between two tokens at the start, and the prompts are those of the paper's
evaluation. Grounding is not requested, and the tags of phrases and places are left out of a text.
Position ids continue those of the padding token.

Shapes: B images, P image features, L positions of image and prompt, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captioner.backends.public.family import ImageFeatures, PromptedImage, square_spec
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.prefix import PrefixFamily
from captioner.backends.public.public_vocabulary import ControlTokens, Vocabulary
from captioner.backends.public.text_rules import as_ids
from captioner.images.transforms import PixelSpec

BEFORE_IMAGE = 2
"""Tokens before the image: the begin of the text and of the image."""


class Kosmos2(PrefixFamily):
    """`Kosmos2ForConditionalGeneration`."""

    model_types = ("kosmos-2",)
    questions = True

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Kosmos2:
        """Load a model from a transformers folder; raise CheckpointError."""
        family, tokenizer = cls(), load_tokenizer(folder)
        family.model = load_model(folder, "Kosmos2ForConditionalGeneration", dtype)
        family.processor = load_processor(folder)
        config = family.model.config
        text, ends = config.text_config, as_ids(family.decoder.generation_config.eos_token_id)
        family.vocabulary = Vocabulary(tokenizer, size=text.vocab_size, ends=ends)
        family.vocabulary.special |= set(tokenizer.added_tokens_decoder)  # the tags
        family.vocabulary.controls = [
            ControlTokens(tokenizer, text.vocab_size, family.vocabulary.special)
        ]
        family.first_position = text.pad_token_id + 1
        room = text.max_position_embeddings - config.latent_query_num
        family.max_length = room // 2
        family.question_length = room - family.max_length
        return family

    @property
    def decoder(self) -> Any:
        """The language model with its head."""
        return self.model.text_model

    @property
    def generator(self) -> Any:
        """The language model, because the whole model passes its inputs to it."""
        return self.decoder

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self.model.config.vision_config.image_size)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their projected features (P, D)."""
        vision = self.model.vision_model
        pixels = torch.cat([pixels for (pixels,) in images])
        states = vision.model.post_layernorm(vision(pixel_values=pixels).last_hidden_state)
        features, _ = self.model.image_to_text_projection(nn.functional.normalize(states, dim=-1))
        return [ImageFeatures({"features": x}) for x in features]

    def caption_prompt(self) -> list[int]:
        """Return the prompt of a caption, without the places of the image."""
        return self._prompt("An image of")

    def question_prompt(self, question: str) -> list[int]:
        """Return the prompt of a question, without the places of the image."""
        return self._prompt(f"Question: {question} Answer:")

    def _prompt(self, text: str) -> list[int]:
        tokenizer = self.vocabulary.tokenizer
        prompt = f"{tokenizer.bos_token}<image> </image> {text}"
        return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the prompt and the ids at the places of the image; see `Family.prompt_tokens`.

        The processor of transformers writes the ids after the unknown token to these places.
        """
        first = self.vocabulary.tokenizer.unk_token_id + 1
        return (*memory.prompt, *range(first, first + self.model.config.latent_query_num))

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the embeddings of the prompt with the image features in it (L, D)."""
        prompt = torch.tensor(memory.prompt, device=self.device)
        tokens = self.model.get_input_embeddings()(prompt)
        features = memory.features.tensors["features"].to(tokens.dtype)
        return torch.cat([tokens[:BEFORE_IMAGE], features, tokens[BEFORE_IMAGE:]])
