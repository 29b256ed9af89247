"""Self-critical sequence training: raise the CIDEr-D of captions that the model draws itself.

Rennie et al., Self-critical sequence training for image captioning (CVPR 2017). The baseline of a
sample is the mean reward of the other samples of its image (Luo, A better variant of self-critical
sequence training, 2020), or the reward of a greedy caption (Rennie et al., section 3). EOS is a
word of samples, references and document frequencies: without it, a caption that breaks off in
"with a" earns as much as a whole one (Hu et al., A request for clarity over the end of sequence
token in the self-critical sequence training, 2023, arXiv 2305.12254).

Shapes: B images, K samples of each, T tokens, M tokens that are no padding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from captioner.metrics import CiderD, bleu_from_statistics, bleu_statistics, tokenize
from captioner.tokenizer import EOS, PAD, Tokenizer

_END = "</s>"


class CaptionReward:
    """CIDEr-D, and BLEU-4 times `bleu`, of sampled tokens against the training references.

    Words are compared, not pieces, and the document frequencies are those of these references.
    """

    def __init__(
        self, references: Mapping[int, Sequence[str]], tokenizer: Tokenizer, *, bleu: float = 0.0
    ) -> None:
        ended = {
            i: [" ".join([*tokenize(text), _END]) for text in texts]
            for i, texts in references.items()
        }
        self.metric = CiderD(ended, tokenized=True)
        self.tokenizer, self.bleu = tokenizer, bleu

    def __call__(self, samples: Tensor, images: Sequence[int]) -> Tensor:
        """Rewards (B, K) of samples (B, K, T) for the references of these keys."""
        tokens = samples.flatten(0, 1).tolist()
        words = [tokenize(self.tokenizer.decode(r)) + [_END] * (EOS in r) for r in tokens]
        lengths = np.array([len(w) for w in words])
        index = self.metric.index
        rows = np.repeat([index.index[image] for image in images], samples.shape[1])
        matches = index.match(words, rows)
        found = self.metric.score_matches(matches, rows, lengths)
        if self.bleu:
            statistics = bleu_statistics(index, matches, rows, lengths)
            found = found + self.bleu * bleu_from_statistics(statistics)[:, 3]
        return torch.from_numpy(found).view(samples.shape[:2]).float()

    def record(self) -> str:
        """What is rewarded, in words."""
        bleu = f" + {self.bleu:g} x BLEU-4" if self.bleu else ""
        return (
            f"CIDEr-D{bleu} of lower-cased words, the end of a caption being one, against the"
            f" references of {len(self.metric.index.index)} training images, whose document"
            " frequencies count"
        )


def advantages(rewards: Tensor, samples: int) -> Tensor:
    """Rewards (B, K) less a baseline: the mean of the image's other samples.

    Where a further column follows the K samples, that is the baseline: a greedy caption's reward.
    """
    if rewards.shape[1] > samples:
        return rewards[:, :samples] - rewards[:, samples:]
    return (rewards - rewards.mean(1, keepdim=True)) * (samples / (samples - 1))


def self_critical_loss(logits: Tensor, samples: Tensor, gains: Tensor) -> Tensor:
    """Summed policy-gradient loss of logits (M, V) at the tokens of samples (B, K, T).

    `gains` (B, K) are what each sample is better by than its baseline.

    The EOS of a sample is one of its tokens, and nothing behind it is.
    """
    places = samples != PAD
    chosen = logits.float().log_softmax(-1).gather(1, samples[places][:, None])[:, 0]
    weights = gains[..., None].expand(samples.shape)[places]
    return -(weights * chosen).sum()
