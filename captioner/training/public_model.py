"""A model of transformers in training, with the part of the interface of `Seq2Seq` that is used.

The weights stay in the module of transformers, whose `state_dict` this module has under the prefix
`model.`. A `Family` encodes images and computes the logits of given texts.

Shapes: B images, K captions per image, N questions, S tokens of a question, T tokens of a text, P
positions and C channels of features, L tokens without padding, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from captioner.backends.public.public_vocabulary import Vocabulary
from captioner.backends.torch_backend import TorchBackend
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

if TYPE_CHECKING:
    from captioner.backends.public.family import Family, PromptedImage
    from captioner.backends.public.trained_backend import TrainedPublicBackend

PREFIX = "model."
"""Prefix of the names of the weights."""


class ImageEncoder(nn.Module):
    """The image encoder of a family: pixels (B, 3, H, W) to features (B, P, C)."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family, self.module = family, family.image_encoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, 3, H, W) to features (B, P, C)."""
        features = self.family.encode([[image[None]] for image in pixels])
        return torch.stack([x.tensors[self.family.feature_name] for x in features])

    def distances_to_output(self) -> dict[str, int]:
        """Return how many blocks follow the block of each parameter.

        The blocks are the entries of the longest list of modules. A parameter outside of them
        counts to the embeddings before the first block if it is registered before the blocks.
        """
        lists = [(n, m) for n, m in self.named_modules() if isinstance(m, nn.ModuleList)]
        prefix, blocks = max(lists, key=lambda item: len(item[1]))
        names = [name for name, _ in self.named_parameters()]
        first = next(i for i, name in enumerate(names) if name.startswith(f"{prefix}."))
        distances = {}
        for i, name in enumerate(names):
            if name.startswith(f"{prefix}."):
                distances[name] = len(blocks) - 1 - int(name[len(prefix) + 1 :].partition(".")[0])
            else:
                distances[name] = len(blocks) if i < first else 0
        return distances


class PublicModel(nn.Module):
    """A family as a module that maps images and texts to logits.

    Args:
        family: The family, with its weights.
        folder: The transformers folder that it was loaded from.
    """

    audio: None = None
    blind = False
    answers: tuple[tuple[int, ...], ...] = ()

    def __init__(self, family: Family, folder: Path) -> None:
        super().__init__()
        self.family, self.folder = family, folder
        self.model: nn.Module = family.model
        self.has_adapters = False
        # Not a submodule: its weights would have two names.
        object.__setattr__(self, "backbone", ImageEncoder(family))
        self.backbone: ImageEncoder

    def backbones(self) -> list[nn.Module]:
        """Return the image encoder."""
        return [self.backbone]

    @property
    def output_weights(self) -> set[Tensor]:
        """The weights of linear layers with one output per token; they may also embed tokens."""
        size = len(self.family.vocabulary)
        layers = (m for m in self.model.modules() if isinstance(m, nn.Linear))
        return {layer.weight for layer in layers if layer.out_features == size}

    def remember(self, images: Tensor) -> list[PromptedImage]:
        """Map pixels (B, 3, H, W), or stored features (B, P, C), to memories for captions."""
        from captioner.backends.public.family import ImageFeatures, PromptedImage

        family = self.family
        features = self.backbone(images) if images.ndim == 4 else images.to(family.dtype)
        prompt = tuple(family.caption_prompt()) if family.captions else ()
        name = family.feature_name
        return [PromptedImage(ImageFeatures({name: x}), prompt) for x in features]

    def forward(
        self, images: Tensor, tokens: Tensor, questions: Tensor | None = None,
        owners: Tensor | None = None, spectrograms: Tensor | None = None, both: int = 0,
    ) -> Tensor:  # fmt: skip
        """Return the logits (L, V) of captions (B, K, T), or of answers (N, 1, T) to questions.

        The first token of each text stands for the prompt, which replaces it.
        """
        memories = self.remember(images)
        if questions is not None and owners is not None:
            from captioner.backends.public.trained_backend import ask

            memories = ask(self.family, memories, questions, owners)
        written = tokens != self.family.vocabulary.pad  # (B, K, T)
        exists = written.any(-1)  # (B, K)
        memories = [memories[i] for i in exists.nonzero()[:, 0].tolist()]
        logits = self.family.continuation_logits(memories, tokens[exists][:, 1:])
        return logits[written[exists]]


CaptionModel: TypeAlias = Seq2Seq | PublicModel
"""What the training loop trains."""
CaptionTokenizer: TypeAlias = Tokenizer | Vocabulary
"""The tokenizer of such a model."""


def backend_of(model: CaptionModel, *, device: torch.device) -> TorchBackend | TrainedPublicBackend:
    """Return a backend of a model in training, which is neither copied nor packed."""
    if isinstance(model, Seq2Seq):
        return TorchBackend.of_model(model, device=device)
    from captioner.backends.public.trained_backend import TrainedPublicBackend

    return TrainedPublicBackend(model.family, model.remember)
