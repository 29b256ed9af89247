"""BLIP-2 (Li et al. 2023): captions and answers of an OPT or T5 language model.

A Q-Former reduces the image to a few query states, which come before the prompt. A caption has no
prompt besides the token that begins a text. Its prompt is built from the configuration, because
older checkpoints have no token for the places of the image.

Shapes: B images, Q query states, P patches, L positions of image and prompt, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from captioner.backends.public.family import Family, ImageFeatures, PromptedImage, square_spec
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.prefix import PrefixFamily
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_encoder import Seq2SeqFamily
from captioner.backends.public.text_rules import as_ids
from captioner.images.transforms import PixelSpec


class Blip2(Family):
    """What BLIP-2 models of both kinds of language models share; `load` returns one of the two."""

    model_types = ("blip-2",)
    questions = True
    class_name: ClassVar[str] = "Blip2ForConditionalGeneration"
    """The class of transformers."""

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Blip2:
        """Load a model from a transformers folder; raise CheckpointError."""
        model = load_model(folder, cls.class_name, dtype)
        family = cls.variant(decoder_only=model.config.use_decoder_only_language_model)
        family.model, family.processor = model, load_processor(folder)
        family.set_up(folder)
        return family

    @classmethod
    def variant(cls, *, decoder_only: bool) -> Blip2:
        """Return a family for the kind of language model."""
        return Blip2Causal() if decoder_only else Blip2Seq2Seq()

    def set_up(self, folder: str) -> None:
        """Set the tokenizer and the lengths."""
        text, settings = self.model.config.text_config, self.decoder.generation_config
        self.vocabulary = Vocabulary(
            load_tokenizer(folder), size=text.vocab_size, ends=as_ids(settings.eos_token_id)
        )
        positions = getattr(text, "max_position_embeddings", None) or text.n_positions
        room = positions - self.model.config.num_query_tokens
        self.max_length = room // 2
        self.question_length = room - self.max_length

    @property
    def decoder(self) -> Any:
        """The language model with its head."""
        return self.model.language_model

    @property
    def dtype(self) -> torch.dtype:
        """The type of the vision encoder, because the Q-Former may be kept in float32."""
        dtype: torch.dtype = self.model.vision_model.dtype
        return dtype

    @property
    def generator(self) -> Any:
        """The language model, because the whole model passes its inputs to it."""
        return self.decoder

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self.model.config.vision_config.image_size)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return the projected query states (Q, D)."""
        pixels = torch.cat([pixels for (pixels,) in images])
        states = self.model.vision_model(pixel_values=pixels).last_hidden_state  # (B, P, D)
        queries = self.model.query_tokens.expand(len(states), -1, -1)
        outputs = self.model.qformer(query_embeds=queries, encoder_hidden_states=states)
        projected = self.model.language_projection(outputs.last_hidden_state.to(states.dtype))
        return [ImageFeatures({"queries": x}) for x in projected]

    def caption_prompt(self) -> list[int]:
        """Return the token that begins a text; without one, the prompt of an empty text."""
        begin = self.model.config.text_config.bos_token_id
        return self.prompt("") if begin is None else [begin]

    def question_prompt(self, question: str) -> list[int]:
        """Return the prompt of a question."""
        return self.prompt(f"Question: {question} Answer:")

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a text with the special tokens of the tokenizer."""
        return list(self.vocabulary.tokenizer(text)["input_ids"])

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the query states and the embeddings of the prompt (L, D)."""
        prompt = torch.tensor(memory.prompt, device=self.device)
        tokens = self.decoder.get_input_embeddings()(prompt)
        return torch.cat([memory.features.tensors["queries"].to(tokens.dtype), tokens])


class Blip2Causal(Blip2, PrefixFamily):
    """BLIP-2 with a decoder-only language model, such as OPT."""

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the image token and the prompt; see `Family.prompt_tokens`."""
        return (*as_ids(self.model.config.image_token_index), *memory.prompt)


class Blip2Seq2Seq(Blip2, Seq2SeqFamily):
    """BLIP-2 with an encoder-decoder language model, such as T5."""

    attends = False  # the decoder attends to query states, which are no places of the image

    def set_up(self, folder: str) -> None:
        """Set the tokenizer, the lengths and the first token of the decoder."""
        super().set_up(folder)
        self.set_start(folder)
