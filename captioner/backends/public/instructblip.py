"""InstructBLIP (Dai et al. 2023): captions and answers of a Vicuna or T5 language model.

It is BLIP-2 whose Q-Former also reads the instruction, with a tokenizer of its own in the
subfolder `qformer_tokenizer`. The queries therefore depend on the question, and the features of an
image are the states of the vision encoder. A prompt holds the ids of both tokenizers with
`SEPARATOR` between them. The instructions are those of the paper's appendix.

Shapes: B images, P patches, Q query states, L positions of image and prompt, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.backends.public.blip2 import Blip2
from captioner.backends.public.family import ImageFeatures, PromptedImage
from captioner.backends.public.model_folder import load_tokenizer
from captioner.backends.public.prefix import PrefixFamily
from captioner.backends.public.public_vocabulary import ControlTokens
from captioner.backends.public.text_encoder import Seq2SeqFamily
from captioner.backends.public.text_rules import as_ids
from captioner.checkpoint.folder_format import QFORMER_TOKENIZER

SEPARATOR = -1
"""Separates the ids of the language model from those of the Q-Former in a prompt."""


class InstructBlip(Blip2):
    """What InstructBLIP models of both kinds of language models share."""

    model_types = ("instructblip",)
    class_name = "InstructBlipForConditionalGeneration"

    qformer_tokenizer: Any
    """The tokenizer of the Q-Former."""

    @classmethod
    def variant(cls, *, decoder_only: bool) -> Blip2:
        """Return a family for the kind of language model."""
        return InstructBlipCausal() if decoder_only else InstructBlipSeq2Seq()

    def set_up(self, folder: str) -> None:
        """Set the tokenizers and the lengths; raise CheckpointError."""
        super().set_up(folder)
        self.qformer_tokenizer = load_tokenizer(folder, QFORMER_TOKENIZER)
        reader = self.model.config.qformer_config
        controls = ControlTokens(self.qformer_tokenizer, reader.vocab_size)
        self.vocabulary.controls.append(controls)
        self.question_length = min(self.question_length, reader.max_position_embeddings)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their states (P, D)."""
        pixels = torch.cat([pixels for (pixels,) in images])
        states = self.model.vision_model(pixel_values=pixels).last_hidden_state  # (B, P, D)
        return [ImageFeatures({"states": x}) for x in states]

    def caption_prompt(self) -> list[int]:
        """Return the instruction for a caption."""
        return self.prompt("A short image description.")

    def question_prompt(self, question: str) -> list[int]:
        """Return the instruction with a question."""
        return self.prompt(f"Question: {question} Short answer:")

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a text from both tokenizers."""
        return [*super().prompt(text), SEPARATOR, *self.qformer_tokenizer(text)["input_ids"]]

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the query states and the embeddings of the prompt (L, D)."""
        model, place = self.model, memory.prompt.index(SEPARATOR)
        prompt = torch.tensor(memory.prompt[:place], device=self.device)
        instruction = torch.tensor([memory.prompt[place + 1 :]], device=self.device)
        states, queries = memory.features.tensors["states"][None], model.query_tokens
        count = queries.shape[1]
        length = count + instruction.shape[1]
        outputs = model.qformer(
            input_ids=instruction,
            attention_mask=torch.ones(1, length, dtype=torch.long, device=self.device),
            query_embeds=queries,
            encoder_hidden_states=states,
        )
        tokens = self.decoder.get_input_embeddings()(prompt)
        projected = model.language_projection(outputs.last_hidden_state[0, :count])
        return torch.cat([projected.to(tokens.dtype), tokens])


class InstructBlipCausal(InstructBlip, PrefixFamily):
    """InstructBLIP with a decoder-only language model, such as Vicuna."""

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the image token and the prompt; see `Family.prompt_tokens`."""
        prompt = memory.prompt[: memory.prompt.index(SEPARATOR)]
        return (*as_ids(self.model.config.image_token_index), *prompt)


class InstructBlipSeq2Seq(InstructBlip, Seq2SeqFamily):
    """InstructBLIP with an encoder-decoder language model, such as T5."""

    attends = False  # the decoder attends to query states, which are no places of the image

    def set_up(self, folder: str) -> None:
        """Set the tokenizers, the lengths and the first token of the decoder."""
        super().set_up(folder)
        self.set_start(folder)
