"""GIT (Wang et al. 2022): captions, and answers of models that were trained with questions.

The image is a prefix of the text in one decoder. Image positions attend to each other, and text
attends to the image and to earlier text. The positions of the text begin at 0, also with a cache,
where `generate` of transformers 5.0 counts the image. `GitForCausalLM` computes the image together
with the prompt, so that its parts are called here one by one: the features of an image serve
several questions. Video models, which expect frames, are rejected.

Shapes: B images (or questions), N rows of a search, S inputs, L cached positions with the inputs, P
positions of an image, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from captioner.backends.public.decoder_state import DecoderState, cache_argument
from captioner.backends.public.family import Family, ImageFeatures, PromptedImage, square_spec
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer
from captioner.backends.public.prefix import pad_left
from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.public.text_rules import as_ids
from captioner.errors import CheckpointError
from captioner.images.transforms import PixelSpec


class Git(Family):
    """`GitForCausalLM`: a caption continues `[CLS]`, an answer `[CLS]` and the question."""

    model_types = ("git",)
    questions = True
    trainable = True

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Git:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, "GitForCausalLM", dtype)
        config = family.model.config
        if config.num_image_with_embedding is not None:
            raise CheckpointError(f"{folder}: this GIT model expects video frames, not one image")
        family.processor, tokenizer = load_processor(folder), load_tokenizer(folder)
        ends = as_ids(family.model.generation_config.eos_token_id) or (tokenizer.sep_token_id,)
        family.vocabulary = Vocabulary(tokenizer, size=config.vocab_size, ends=ends)
        family.question_length = config.max_position_embeddings // 2
        family.max_length = config.max_position_embeddings - family.question_length
        return family

    @property
    def image_encoder(self) -> nn.Module:
        """The vision Transformer and the projection of its states."""
        git = self.model.git
        return nn.ModuleDict({"encoder": git.image_encoder, "projection": git.visual_projection})

    @property
    def spec(self) -> PixelSpec:
        """The size of images."""
        return square_spec(self.model.config.vision_config.image_size)

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Encode images; return their projected states (P, D)."""
        git, pixels = self.model.git, torch.cat([pixels for (pixels,) in images])
        states = git.visual_projection(git.image_encoder(pixels).last_hidden_state)  # (B, P, D)
        return [ImageFeatures({"states": x}) for x in states]

    def caption_prompt(self) -> list[int]:
        """Return the start token."""
        return [int(self.vocabulary.tokenizer.cls_token_id)]

    def question_prompt(self, question: str) -> list[int]:
        """Return the start token and the question, without the end token."""
        ids = self.vocabulary.tokenizer(question, add_special_tokens=False)["input_ids"]
        return [*self.caption_prompt(), *ids]

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Compute images and prompts; return the logits (B, V) of the first token, and the state.

        Shorter prompts are padded on the left, before the image.
        """
        embedded, mask, positions = self.embed_all(memories)
        cache = DynamicCache(config=self.model.config)
        state = DecoderState(cache, positions, None if mask.all() else mask)
        return self.run(embedded, see_images(mask, positions), state), state

    def continuation_logits(self, memories: Sequence[PromptedImage], tokens: Tensor) -> Tensor:
        """Return the logits (N, T + 1, V) after each prompt and after each of tokens (N, T)."""
        prompts, mask, counts = self.embed_all(memories)
        positions = counts[:, None] + torch.arange(tokens.shape[1], device=self.device)  # (N, T)
        texts = self.model.git.embeddings(tokens.clamp(min=0), position_ids=positions)
        mask = torch.cat([mask, torch.ones_like(tokens)], 1)  # (N, L + T)
        visible = see_images(mask, counts + tokens.shape[1])
        inputs = torch.cat([prompts, texts], 1)
        bias = attention_bias(visible, inputs.dtype)
        outputs = self.model.git.encoder(inputs, attention_mask=bias, use_cache=False)
        states = outputs.last_hidden_state[:, prompts.shape[1] - 1 :]
        logits: Tensor = self.model.output(states)
        return logits

    def embed_all(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, Tensor, Tensor]:
        """Return images and prompts (B, L, D), their mask (B, L) and the prompts' lengths (B,)."""
        embedded, mask = pad_left([self.embed(memory) for memory in memories])
        counts = [len(memory.prompt) for memory in memories]
        return embedded, mask, torch.tensor(counts, device=self.device)

    def embed(self, memory: PromptedImage) -> Tensor:
        """Return the inputs (P + L, D) of the decoder for an image and a prompt of L tokens."""
        ids = torch.tensor([memory.prompt], device=self.device)
        text = self.model.git.embeddings(ids)[0]
        return torch.cat([memory.features.tensors["states"], text])

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after one more token of each row (N,); update the state."""
        positions = state.positions[:, None]
        embedded = self.model.git.embeddings(tokens[:, None], position_ids=positions)
        state.advance()
        return self.run(embedded, None if state.mask is None else state.mask[:, None] > 0, state)

    def run(self, embedded: Tensor, visible: Tensor | None, state: DecoderState) -> Tensor:
        """Return the logits (N, V) after inputs (N, S, D), which are added to the cache.

        `visible` (N, S, L) states which positions each input attends to; None means all.
        """
        bias = None if visible is None else attention_bias(visible, embedded.dtype)
        encoder = self.model.git.encoder
        cache = {cache_argument(encoder): state.cache}
        outputs = encoder(embedded, attention_mask=bias, use_cache=True, **cache)
        logits: Tensor = self.model.output(outputs.last_hidden_state[:, -1])
        return logits


def see_images(mask: Tensor, counts: Tensor) -> Tensor:
    """Return which positions (B, L, L) each input attends to: all images, and earlier text.

    Args:
        mask: (B, L), 1 at inputs and 0 at padding on the left.
        counts: (B,), how many of the last inputs are text.
    """
    length = mask.shape[1]
    places = torch.arange(length, device=mask.device)
    is_text = places >= length - counts[:, None]  # (B, L)
    visible = mask[:, None] > 0  # (B, 1, L)
    return visible & (~is_text[:, None] | (places <= places[:, None]))


def attention_bias(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to the scores (N, 1, S, L) of positions (N, S, L)."""
    return (~visible[:, None]).to(dtype) * torch.finfo(dtype).min
