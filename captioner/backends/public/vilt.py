"""ViLT (Kim et al. 2021) for questions: a classifier of the most common answers.

One encoder reads the question and the patches of the image. The embeddings of the patches do not
depend on the question. All patches of an image are read, in order; transformers chooses some of
them at random where the configuration limits their number.

Shapes: B questions, L tokens of a question, P patches with the class token, D width, A answers, H,
W patches of the height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from captioner.backends.public.answer_vocabulary import AnswerVocabulary
from captioner.backends.public.decoder_state import DecoderState
from captioner.backends.public.family import Family, ImageFeatures, PromptedImage
from captioner.backends.public.model_folder import load_model, load_processor, load_tokenizer

NO_TEXT = "this model classifies questions and generates no text"


class Vilt(Family):
    """`ViltForQuestionAnswering`."""

    model_types = ("vilt",)
    captions = False
    questions = True
    vocabulary: AnswerVocabulary

    @classmethod
    def load(cls, folder: str, dtype: torch.dtype | str) -> Vilt:
        """Load a model from a transformers folder; raise CheckpointError."""
        family = cls()
        family.model = load_model(folder, "ViltForQuestionAnswering", dtype)
        family.processor = load_processor(folder)
        config = family.model.config
        family.answers = [config.id2label[i] for i in range(config.num_labels)]
        family.vocabulary = AnswerVocabulary(
            family.answers, load_tokenizer(folder), words=config.vocab_size
        )
        family.max_length = family.vocabulary.longest
        family.question_length = config.max_position_embeddings
        return family

    def encode(self, images: Sequence[Sequence[Tensor]]) -> list[ImageFeatures]:
        """Return the embeddings (P, D) of the patches of images, which may differ in size."""
        return [ImageFeatures({"patches": self._embed(pixels)}) for (pixels,) in images]

    def _embed(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (P, D) of the patches of one image, positions added."""
        embeddings = self.model.vilt.embeddings
        patches = embeddings.patch_embeddings(pixels)  # (1, D, H, W)
        first, grid = embeddings.position_embeddings.split([1, self._grid**2], 1)
        grid = grid.transpose(1, 2).unflatten(2, (self._grid, self._grid))
        size = patches.shape[2:]
        grid = nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=True)
        places = (patches + grid).flatten(2).transpose(1, 2)  # (1, H * W, D)
        return torch.cat([embeddings.cls_token + first, places], 1)[0]

    @property
    def _grid(self) -> int:
        """Patches on a side of an image of the size of the position embeddings."""
        config = self.model.config
        side: int = config.image_size // config.patch_size
        return side

    def question_prompt(self, question: str) -> list[int]:
        """Return the question with the special tokens of the tokenizer."""
        return list(self.vocabulary.tokenizer(question)["input_ids"])

    def classify(self, memories: Sequence[PromptedImage]) -> Tensor:
        """Return the logits (B, A) of the answers."""
        prompts = [torch.tensor(memory.prompt, device=self.device) for memory in memories]
        tokens = pad_sequence(prompts, batch_first=True)  # (B, L)
        images = [memory.features.tensors["patches"] for memory in memories]
        outputs = self.model(
            input_ids=tokens,
            attention_mask=mask_of(prompts),
            token_type_ids=torch.zeros_like(tokens),
            image_embeds=pad_sequence(images, batch_first=True),
            pixel_mask=mask_of(images),
        )
        logits: Tensor = outputs.logits
        return logits

    def prefill(self, memories: Sequence[PromptedImage]) -> tuple[Tensor, DecoderState]:
        """Raise NotImplementedError."""
        raise NotImplementedError(NO_TEXT)

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Raise NotImplementedError."""
        raise NotImplementedError(NO_TEXT)


def mask_of(sequences: Sequence[Tensor]) -> Tensor:
    """Return a mask (B, N), 1 at the items of sequences and 0 at padding after them."""
    ones = [torch.ones(len(x), dtype=torch.long, device=x.device) for x in sequences]
    return pad_sequence(ones, batch_first=True)
