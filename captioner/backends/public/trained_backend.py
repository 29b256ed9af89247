"""The backend of a transformers model in training.

Shapes: B images, H, W pixels, P positions and C channels of features, N questions, S tokens of a
question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from captioner.backends.public.family import Family, PromptedImage
from captioner.backends.public.public_backend import PublicBackend


class TrainedPublicBackend(PublicBackend):
    """A backend that encodes tensors, as `TorchBackend.of_model` does.

    Args:
        family: The family.
        remember: Maps pixels (B, 3, H, W), or features (B, P, C), to memories.
    """

    def __init__(self, family: Family, remember: Callable[[Tensor], list[PromptedImage]]) -> None:
        super().__init__(family)
        self.remember = remember

    def encode_tensors(
        self, batches: Sequence[Tensor | None], spectrograms: Sequence[Tensor | None] | None = None
    ) -> list[PromptedImage]:
        """Encode the pixels (B, 3, H, W), or the features (B, P, C), of the only member."""
        (batch,) = batches
        assert batch is not None
        return self.remember(batch)

    def fuse_questions(
        self, memories: Sequence[PromptedImage], questions: Tensor, owners: Tensor
    ) -> list[PromptedImage]:
        """Return the memories of questions (N, S) about the images `owners` (N,)."""
        return ask(self.family, memories, questions, owners)


def ask(
    family: Family, memories: Sequence[PromptedImage], questions: Tensor, owners: Tensor
) -> list[PromptedImage]:
    """Return the memories of padded questions (N, S) about the images `owners` (N,)."""
    pad = family.vocabulary.question_tokenizer.pad
    prompts = (tuple(i for i in row if i != pad) for row in questions.tolist())
    pairs = zip(prompts, owners.tolist(), strict=True)
    return [PromptedImage(memories[i].features, prompt, asks=True) for prompt, i in pairs]
