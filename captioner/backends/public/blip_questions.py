"""Answers of BLIP's variant for questions (Li et al. 2022, section 4).

A question encoder attends to the image, and the decoder attends to the states of the question. The
question encoder has no mask for the image, and its first token is that of the tokenizer, as in
transformers.

Shapes: B questions, L tokens of a question, P positions of an image, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.backends.public.blip import BlipCaptions
from captioner.backends.public.cross_attention import MASK, STATES, join_memories
from captioner.backends.public.family import Family, PromptedImage
from captioner.errors import CaptionerError


class BlipAnswers(BlipCaptions):
    """`BlipForQuestionAnswering`: the decoder attends to the question."""

    model_types = ("BlipForQuestionAnswering",)
    architecture = "BlipForQuestionAnswering"
    captions = False
    questions = True
    attends = False

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> BlipAnswers:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = super().load(folder, dtype)
        assert isinstance(family, cls)
        family.question_length = family.model.config.text_config.max_position_embeddings
        return family

    def caption_prompt(self) -> list[int]:
        """Raise CaptionerError."""
        return Family.caption_prompt(self)

    def question_prompt(self, question: str) -> list[int]:
        """Return the input of the question encoder."""
        ids: list[int] = self.vocabulary.tokenizer(question)["input_ids"]
        return ids

    def attended(self, memories: Sequence[PromptedImage]) -> dict[str, Tensor]:
        """Return the states (B, L, D) of the questions, and their mask (B, L)."""
        prompts = [torch.tensor(memory.prompt, device=self.device)[:, None] for memory in memories]
        joined = join_memories(prompts)
        ids, mask = joined.pop(STATES)[..., 0], joined.get(MASK)
        images = torch.stack([memory.features.tensors["states"] for memory in memories])
        encode = self.model.text_encoder
        outputs = encode(ids, attention_mask=mask, encoder_hidden_states=images, is_decoder=False)
        return {STATES: outputs.last_hidden_state, **joined}

    def continuation_logits(self, memories: Sequence[PromptedImage], tokens: Tensor) -> Tensor:
        """Return the logits (N, T + 1, V) after each prompt and after each of tokens (N, T).

        Questions of different lengths are computed apart, because the decoder of transformers
        ignores the mask of the question.
        """
        lengths = [len(memory.prompt) for memory in memories]
        parts, order = [], list[int]()
        for length in sorted(set(lengths)):
            places = [i for i, other in enumerate(lengths) if other == length]
            group = [memories[i] for i in places]
            parts.append(super().continuation_logits(group, tokens[places]))
            order += places
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def attention(self, memory: PromptedImage, texts: Tensor) -> Tensor:
        """Raise CaptionerError."""
        raise CaptionerError(
            "attention: the decoder of this model attends to the question and not to the image; use"
            " a BLIP model for captions"
        )
