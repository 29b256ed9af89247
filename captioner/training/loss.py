"""A batch to what is minimised: cross-entropy, or the policy gradient over samples of its images.

Shapes: B images, K samples of each, M tokens that are no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from captioner.config import StageConfig
from captioner.data.collate import Batch, decoder_input
from captioner.generation.captions import sample_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import PAD
from captioner.training.optimizer import caption_loss
from captioner.training.scst import CaptionReward, advantages, self_critical_loss

Whole = Callable[[], AbstractContextManager[Seq2Seq]]


@dataclass(frozen=True)
class Loss:
    """Of one batch."""

    total: Tensor
    """Summed over the M tokens."""
    tokens: Tensor
    """M."""
    texts: int
    reward: Tensor | None = None
    """The samples' mean; a policy gradient's loss says nothing of progress."""

    def of_nothing(self) -> Loss:
        """The same for a batch that does not count."""
        return replace(self, total=self.total * 0, tokens=self.tokens * 0, texts=0)

    @property
    def kind(self) -> str:
        """What to log."""
        return "loss" if self.reward is None else "reward"


class Objective:
    """The loss of a stage: `reward` is given where captions are to be self-critical."""

    def __init__(
        self,
        stage: StageConfig,
        *,
        smoothing: float,
        max_length: int,
        reward: CaptionReward | None = None,
    ) -> None:
        self.stage, self.smoothing, self.max_length = stage, smoothing, max_length
        self.reward = reward

    def __call__(self, model: nn.Module, batch: Batch, *, whole: Whole) -> Loss:
        """`model` is what the gradient passes, and `whole()` gives one to draw captions from.

        Questions are always learnt by cross-entropy.
        """
        if self.reward is not None and batch.questions is None:
            return self._self_critical(model, batch, whole)
        logits = model(batch.images, batch.tokens, batch.questions, batch.owners)
        labels = batch.labels[batch.labels != PAD]
        total = caption_loss(logits, labels, smoothing=self.smoothing)
        count = torch.tensor(len(labels), device=labels.device)
        texts = (batch.labels[..., 0] != PAD).sum().item()
        return Loss(total, count, texts)

    def _self_critical(self, model: nn.Module, batch: Batch, whole: Whole) -> Loss:
        samples = self.stage.samples
        with whole() as plain:
            if batch.images.ndim == 4 and not plain.blind:
                batch = self._encoded(model, batch, plain)
            drawn = self.draw(plain, batch)
        rewards = self.reward(drawn, batch.indices).to(drawn.device)  # (B, K), or K + 1
        labels = drawn[:, :samples]
        with evaluating(model):
            logits = model(batch.images, decoder_input(labels))
        total = self_critical_loss(logits, labels, advantages(rewards, samples))
        texts = labels[..., 0].numel()
        return Loss(total, (labels != PAD).sum(), texts, rewards[:, :samples].mean())

    def _encoded(self, model: nn.Module, batch: Batch, plain: Seq2Seq) -> Batch:
        """The backbone's features serve the samples and, with their gradient, the loss.

        Where `plain` is but a copy of what is trained, only a frozen backbone's do.
        """
        learns = self.stage.encoder_lr > 0
        if learns and not (model is plain or isinstance(model, DistributedDataParallel)):
            return batch
        with torch.set_grad_enabled(learns):
            return replace(batch, images=plain.backbone(batch.images))

    def draw(self, model: Seq2Seq, batch: Batch) -> Tensor:
        """The captions (B, K, T) that are to be rewarded; a greedy baseline comes last."""
        with evaluating(model):
            return sample_captions(
                model,
                batch.images,
                rows=self.stage.samples,
                max_length=self.max_length,
                greedy=self.stage.baseline == "greedy",
            )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout within the block.

    Captions are drawn without it, and a policy gradient is that of the policy that drew.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
