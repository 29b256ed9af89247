"""The losses of training: cross-entropy, self-critical sequence training (SCST), classes and tags.

SCST (Rennie et al., Self-critical sequence training for image captioning, CVPR 2017) samples
captions from the model and raises the probability of those whose CIDEr-D exceeds a baseline. The
baseline of a sample is the mean reward of the other samples of its image (Luo, A better variant of
self-critical sequence training, 2020), or the reward of the greedy caption (Rennie et al., section
3). EOS counts as a word in samples, references and document frequencies: otherwise a caption that
ends in "with a" earns as much as a complete one (Hu et al., A request for clarity over the end of
sequence token in the self-critical sequence training, 2023, arXiv 2305.12254).

The loss of a text is multiplied by the weight of its row, and the number of tokens to divide by is
the sum of their weights. In self-critical training, the advantages of an image are multiplied by
the mean weight of its captions.

Shapes: B images, K samples per image, T tokens, M tokens that are not padding, V vocabulary, G
tags, N questions, A answers of a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from captioner.backends.vocabulary import TextTokenizer
from captioner.config import StageConfig
from captioner.data.collate import Batch, decoder_input
from captioner.metrics import CiderD, bleu_from_statistics, bleu_statistics, tokenize
from captioner.tokenizer import PAD
from captioner.training.public_model import CaptionModel, backend_of
from captioner.training.samples import sample_captions
from captioner.training.teacher import Teacher, capture_memory

TAG_MARGIN, TAG_FOCUS = 0.05, 4
"""Margin and focusing parameter of absent tags in the asymmetric loss; see `tag_loss`."""
_END = "</s>"
FullModel = Callable[[], AbstractContextManager[CaptionModel]]
"""Gives, within a block, a model with all weights, any of whose methods may be called."""


@dataclass(frozen=True)
class Loss:
    """The loss of one batch."""

    total: Tensor
    """Sum over the M tokens, the N questions of a classifier, or the B images with tags."""
    tokens: Tensor
    """M, N or B; with weights, their sum over the tokens, questions or images."""
    texts: int
    """Number of captions, answers or images with tags."""
    reward: Tensor | None = None
    """Mean reward of the samples. It is logged, since the loss of SCST does not show progress."""

    def zeroed(self) -> Loss:
        """Return the loss of a batch that must not count, still connected to the weights."""
        return replace(self, total=self.total * 0, tokens=self.tokens * 0, texts=0)

    @property
    def kind(self) -> str:
        """Name of the quantity to log: "loss" or "reward"."""
        return "loss" if self.reward is None else "reward"


@dataclass
class Objective:
    """Computes the loss of a stage."""

    stage: StageConfig
    smoothing: float
    """Label smoothing of the cross-entropy."""
    max_length: int
    """Longest sampled caption, in tokens."""
    reward: CaptionReward | None = None
    """Turns SCST on. Questions are always trained with cross-entropy, tags with `tag_loss`."""
    teacher: Teacher | None = None
    """Adds distillation to the cross-entropy."""
    pad: int = PAD
    """The padding id of texts."""

    def __call__(self, model: nn.Module, batch: Batch, *, full_model: FullModel) -> Loss:
        """Return the loss of a batch.

        `model` is wrapped by Accelerate for the backward pass; `full_model`, which all ranks must
        call, gives the model to sample captions from.
        """
        if batch.tags is not None:
            total = tag_loss(model(batch.images), batch.tags, weights=batch.weights)
            return Loss(total, batch.count(), len(batch.tags))
        if self.reward is not None and batch.questions is None:
            return self._self_critical(self.reward, model, batch, full_model)
        capture: AbstractContextManager[list[Tensor]] = nullcontext([])
        with capture_memory(model) if self.teacher else capture as memories:
            inputs = batch.images, batch.tokens, batch.questions, batch.owners
            logits = model(*inputs, batch.spectrograms, batch.both)  # (M, V)
        weights = batch.token_weights(self.pad)  # (M,)
        if batch.targets is None:
            labels = batch.labels[batch.labels != self.pad]  # (M,)
            total = caption_loss(logits, labels, smoothing=self.smoothing, weights=weights)
        else:
            total = class_loss(logits, batch.targets, smoothing=self.smoothing)
        if self.teacher is not None:
            total = self.teacher.add_losses(total, logits, memories[0], batch, weights=weights)
        texts = int((batch.labels[..., 0] != self.pad).sum().item())
        return Loss(total, batch.count(self.pad), texts)

    def _self_critical(
        self, reward: CaptionReward, model: nn.Module, batch: Batch, full_model: FullModel
    ) -> Loss:
        samples = self.stage.samples
        with full_model() as plain:
            if batch.images is not None and batch.images.ndim == 4 and not plain.blind:
                batch = self._encode_once(model, batch, plain)
            drawn = self.sample(plain, batch)  # (B, K, T), or (B, K + 1, T)
        rewards = reward(drawn, batch.indices).to(drawn.device)
        labels = drawn[:, :samples]
        with evaluation_mode(model):
            logits = model(batch.images, decoder_input(labels, self.pad))  # (M, V)
        logits = logits / self.stage.temperature
        gains, written = advantages(rewards, samples), labels != self.pad
        count = written.sum().float()
        if (weights := batch.image_weights(self.pad)) is not None:
            gains = gains * weights[:, None]
            count = (written.sum((1, 2)) * weights).sum()
        total = self_critical_loss(logits, labels, gains, pad=self.pad)
        return Loss(total, count, labels[..., 0].numel(), rewards[:, :samples].mean())

    def _encode_once(self, model: nn.Module, batch: Batch, plain: CaptionModel) -> Batch:
        """Return the batch with backbone features that serve both the samples and the loss.

        The features of a backbone that is trained need its gradient, which a copy of the model
        (FSDP) cannot give; there, the batch keeps its pixels.
        """
        trained = self.stage.encoder_lr > 0
        if trained and not (model is plain or isinstance(model, DistributedDataParallel)):
            return batch
        with torch.set_grad_enabled(trained):
            return replace(batch, images=plain.backbone(batch.images))

    def sample(self, model: CaptionModel, batch: Batch) -> Tensor:
        """Return the sampled captions (B, K, T); a greedy baseline is row K + 1."""
        assert batch.images is not None
        with evaluation_mode(model), torch.no_grad():
            backend = backend_of(model, device=batch.images.device)
            return sample_captions(
                backend,
                backend.encode_tensors([batch.images]),
                rows=self.stage.samples,
                max_length=self.max_length,
                temperature=self.stage.temperature,
                greedy=self.stage.baseline == "greedy",
            )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Turn dropout off within the block.

    The policy gradient must be that of the policy that drew the samples, and samples are drawn
    without dropout.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def caption_loss(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return the summed cross-entropy of logits (M, V) and labels (M,), with weights (M,) or 1.

    `smoothing` is the probability that is spread over the whole vocabulary (label smoothing;
    Szegedy et al., Rethinking the Inception architecture, 2016, section 7).
    """
    logits = logits.float()
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # (M,)
    return (losses * weights).sum()


def class_loss(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the summed cross-entropy of logits (N, A) and the shares (N, A) of the annotators.

    It is the expected loss of one annotator, drawn at random, who does not count if the answer is
    no class. `smoothing` is the probability that is spread over all answers.
    """
    known = targets.sum(1, keepdim=True)
    targets = (1 - smoothing) * targets + smoothing * known / targets.shape[1]
    return -(targets * logits.float().log_softmax(-1)).sum()


def tag_loss(logits: Tensor, tags: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Return the summed asymmetric loss of logits (B, G) and tags (B, G), with weights (B,) or 1.

    Most tags are absent from an image. The loss of an absent tag with probability p is weighted by
    p^4 after p is lowered by 0.05, so that easy ones do not dominate (Ridnik et al., Asymmetric
    loss for multi-label classification, ICCV 2021). Tags are 1 if present, 0 if absent and -1 if
    unknown.
    """
    logits = logits.float()
    lowered = (logits.sigmoid() - TAG_MARGIN).clamp(min=0)
    absent = -(lowered**TAG_FOCUS) * torch.log1p(-lowered)
    losses = (tags == 1) * -F.logsigmoid(logits) + (tags == 0) * absent  # (B, G)
    return losses.sum() if weights is None else (losses.sum(1) * weights).sum()


class CaptionReward:
    """The reward of sampled captions: CIDEr-D, plus `bleu` times BLEU-4.

    Words are compared, not tokens. The references are the training captions of each image, which
    also give the document frequencies.
    """

    def __init__(
        self,
        references: Mapping[int, Sequence[str]],
        tokenizer: TextTokenizer,
        *,
        bleu: float = 0.0,
    ) -> None:
        ended = {
            i: [" ".join([*tokenize(text), _END]) for text in texts]
            for i, texts in references.items()
        }
        self.metric = CiderD(ended, tokenized=True)
        self.tokenizer, self.bleu = tokenizer, bleu

    def __call__(self, samples: Tensor, images: Sequence[int]) -> Tensor:
        """Return the rewards (B, K) of samples (B, K, T) of the images with these keys."""
        rows = samples.flatten(0, 1).tolist()
        ends = set(self.tokenizer.ends)
        words = [
            tokenize(self.tokenizer.decode(r)) + [_END] * (not ends.isdisjoint(r)) for r in rows
        ]
        lengths = np.array([len(w) for w in words])
        index = self.metric.index
        places = np.repeat([index.index[image] for image in images], samples.shape[1])
        matches = index.match(words, places)
        rewards = self.metric.score_matches(matches, places, lengths)
        if self.bleu:
            statistics = bleu_statistics(index, matches, places, lengths)
            rewards = rewards + self.bleu * bleu_from_statistics(statistics)[:, 3]
        return torch.from_numpy(rewards).view(samples.shape[:2]).float()

    def describe(self) -> str:
        """Return a description of the reward for the log and for `metrics.json`."""
        bleu = f" + {self.bleu:g} x BLEU-4" if self.bleu else ""
        return (
            f"CIDEr-D{bleu} of lowercased words with EOS as a word; references and document"
            f" frequencies of {len(self.metric.index.index)} training images"
        )


def advantages(rewards: Tensor, samples: int) -> Tensor:
    """Return the rewards of `samples` = K samples per image minus their baseline (B, K).

    The baseline is the reward of a greedy caption if the rewards (B, K + 1) have it as their last
    column. For rewards (B, K), it is the mean reward of the image's other samples.
    """
    if rewards.shape[1] > samples:
        return rewards[:, :samples] - rewards[:, samples:]
    return (rewards - rewards.mean(1, keepdim=True)) * (samples / (samples - 1))


def self_critical_loss(logits: Tensor, samples: Tensor, gains: Tensor, *, pad: int = PAD) -> Tensor:
    """Return the summed policy-gradient loss (REINFORCE with a baseline).

    The logits (M, V) are those at the tokens of the samples (B, K, T): at EOS too, but not at
    padding. The gains (B, K) are the advantages of the samples.
    """
    places = samples != pad
    chosen = logits.float().log_softmax(-1).gather(1, samples[places][:, None])[:, 0]  # (M,)
    weights = gains[..., None].expand(samples.shape)[places]
    return -(weights * chosen).sum()
