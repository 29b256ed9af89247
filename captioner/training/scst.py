"""Self-critical sequence training: raise the CIDEr-D of captions that the model draws itself.

Rennie et al., Self-critical sequence training for image captioning (CVPR 2017); the baseline of
a sample is the mean reward of the other samples of its image (Luo, A better variant of
self-critical sequence training, 2020). EOS is a word of samples, references and document
frequencies: without it, a caption that breaks off in "with a" earns as much as a whole one (Hu et
al., A request for clarity over the end of sequence token in the self-critical sequence
training, 2023, arXiv 2305.12254).

Shapes: B images, K samples of each, T tokens, M tokens that are no padding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captioner.metrics import CiderD, tokenize
from captioner.tokenizer import EOS, PAD, Tokenizer

_END = "</s>"


class CiderReward:
    """CIDEr-D of sampled tokens against the training references, whose frequencies it weighs by."""

    def __init__(self, references: Mapping[int, Sequence[str]], tokenizer: Tokenizer) -> None:
        ended = {
            i: [" ".join([*tokenize(text), _END]) for text in texts]
            for i, texts in references.items()
        }
        self.metric = CiderD(ended, tokenized=True)
        self.tokenizer = tokenizer

    def __call__(self, samples: Tensor, indices: Sequence[int]) -> Tensor:
        """Rewards (B, K) of samples (B, K, T) for the references of these keys."""
        rows = samples.flatten(0, 1).tolist()
        words = [tokenize(self.tokenizer.decode(r)) + [_END] * (EOS in r) for r in rows]
        images = [i for i in indices for _ in range(samples.shape[1])]
        rewards = torch.from_numpy(self.metric.score(words, images))
        return rewards.view(samples.shape[:2]).float()


def advantages(rewards: Tensor) -> Tensor:
    """Rewards (B, K) less the mean of the image's other samples."""
    k = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (k / (k - 1))


def self_critical_loss(logits: Tensor, samples: Tensor, rewards: Tensor) -> Tensor:
    """Summed policy-gradient loss of logits (M, V) at the tokens of samples (B, K, T).

    The EOS of a sample is one of its tokens, and nothing behind it is.
    """
    places = samples != PAD
    chosen = logits.float().log_softmax(-1).gather(1, samples[places][:, None])[:, 0]
    weights = advantages(rewards)[..., None].expand(samples.shape)[places]
    return -(weights * chosen).sum()
