"""Chat models: a user message with an image and a text, which the model replies to.

A prompt has one image token. The number of image positions depends on the image, so that the token
is expanded when image and prompt are combined.

Shapes: B images (or questions), L tokens of an expanded prompt, P positions of an image, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioner.backends.public.chat_template import ChatTemplate
from captioner.backends.public.family import ImageFeatures, PromptedImage
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.prefix import PrefixFamily
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_rules import as_ids
from captioner.errors import CheckpointError, QuestionError
from captioner.images.transforms import PixelSpec


class ChatFamily(PrefixFamily):
    """A family of models with a chat template.

    The templates and the processors differ in how an image is written; a subclass states it. The
    processors of transformers are not used, because some of them need further libraries for videos.
    """

    questions = True
    beam_size = 1
    caption_length = 128
    answer_length = 64
    architecture: ClassVar[str]
    """The class of transformers."""
    plain_prompt: ClassVar[str | None] = None
    """The prompt for folders without a chat template, with the field `text`."""
    instruction: ClassVar[str] = "Describe the image in one sentence."
    """The message of the user for a caption."""
    answer_suffix: ClassVar[str] = ""
    """The end of the message of the user with a question."""
    processor_options: ClassVar[dict[str, Any]] = {}
    """Options of the image processor."""

    template: ChatTemplate

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> ChatFamily:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, cls.architecture, dtype)
        family.processor = load_processor(folder)
        tokenizer, text = load_tokenizer(folder), family.model.config.get_text_config()
        ends = as_ids(family.model.generation_config.eos_token_id)
        ends = ends or as_ids(tokenizer.eos_token_id)
        if not ends:
            raise CheckpointError(f"{folder}: generation_config.json states no eos_token_id")
        family.vocabulary = Vocabulary(tokenizer, size=text.vocab_size, ends=ends)
        family.max_length = family.question_length = text.max_position_embeddings // 4
        family.template = ChatTemplate(folder, tokenizer, plain=cls.plain_prompt)
        count = family.caption_prompt().count(family.image_token)
        if count != 1:
            raise CheckpointError(
                f"{folder}: the chat template writes {count} image tokens for an image; expected 1"
            )
        return family

    @property
    def decoder(self) -> Any:
        """The whole model, which takes embeddings without pixels."""
        return self.model

    @property
    def image_token(self) -> int:
        """The id of the image token."""
        return int(self.model.config.image_token_id)

    def read(self, image: Image.Image) -> tuple[np.ndarray, ...]:
        """Return the `pixel_inputs` of an RGB image."""
        options = {"return_tensors": "pt", **self.processor_options}
        outputs = self.processor(images=[image], **options)
        return tuple(np.asarray(outputs[name]) for name in self.pixel_inputs)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return the states (P, D) that replace the image tokens."""
        outputs = self.model.get_image_features(**self.join_images(images))
        return [ImageFeatures({"states": states}) for states in outputs.pooler_output]

    @abstractmethod
    def join_images(self, images: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the arguments of `get_image_features` for a batch of `pixel_inputs`."""

    def caption_prompt(self) -> list[int]:
        """Return the prompt with the instruction to describe the image."""
        return self.encode_prompt(self.template.render(self.instruction))

    def question_prompt(self, question: str) -> list[int]:
        """Return the prompt that contains a question; raise QuestionError."""
        ids = self.encode_prompt(self.template.render(question + self.answer_suffix))
        if ids.count(self.image_token) != 1:
            token = self.vocabulary.tokenizer.convert_ids_to_tokens(self.image_token)
            raise QuestionError(f"the question contains the image token {token!r}; remove it")
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Return the token ids of a prompt; the template may write the first special token."""
        tokenizer = self.vocabulary.tokenizer
        begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        ids: list[int] = tokenizer(text, add_special_tokens=not begins)["input_ids"]
        return ids

    def expand(self, memory: PromptedImage) -> Tensor:
        """Return the token ids (L,) of a prompt with an image token for each position."""
        tensors, device = memory.features.tensors, self.device
        place = memory.prompt.index(self.image_token)
        before, after = memory.prompt[:place], memory.prompt[place + 1 :]
        image = tensors.get("tokens", torch.tensor([self.image_token], device=device))
        parts = (torch.tensor(before, device=device), image, torch.tensor(after, device=device))
        ids = torch.cat([part.long() for part in parts])
        is_image = ids == self.image_token
        repeats = len(tensors["states"]) // int(is_image.sum())
        return ids.repeat_interleave(torch.where(is_image, repeats, 1))

    def prompt_tokens(self, memory: PromptedImage) -> Sequence[int]:
        """Return the expanded prompt; see `Family.prompt_tokens`."""
        ids: list[int] = self.expand(memory).tolist()
        return ids

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the embeddings (L, D) of image and prompt."""
        ids = self.expand(memory)
        is_image = ids == self.image_token
        # The id of the image token may be outside of the table of embeddings.
        embedded: Tensor = self.model.get_input_embeddings()(ids.masked_fill(is_image, 0))
        embedded[is_image] = memory.features.tensors["states"].to(embedded.dtype)
        return embedded


def square_spec(family: ChatFamily) -> PixelSpec:
    """Return the size of images of a model that takes squares of one size."""
    size = family.model.config.vision_config.image_size
    return PixelSpec((size, size), (0.0,) * 3, (1.0,) * 3)
