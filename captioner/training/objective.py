"""A batch to what is minimised: cross-entropy, or the policy gradient over samples of its images.

Shapes: B images, K samples of each, M tokens that are no padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captioner.config import StageConfig
from captioner.data.collate import Batch, decoder_input
from captioner.infer import sample_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import PAD
from captioner.training.optimizer import caption_loss
from captioner.training.scst import CaptionReward, advantages, self_critical_loss
from captioner.training.setup import train_mode


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

    def __call__(self, model: nn.Module, batch: Batch, *, plain: Seq2Seq) -> Loss:
        """`model` is what the gradient passes, wrapped or not, `plain` the same unwrapped.

        Questions are always learnt by cross-entropy.
        """
        if self.reward is not None and batch.questions is None:
            return self._self_critical(model, batch, plain)
        logits = model(batch.images, batch.tokens, batch.questions, batch.owners)
        labels = batch.labels[batch.labels != PAD]
        total = caption_loss(logits, labels, smoothing=self.smoothing)
        count = torch.tensor(len(labels), device=labels.device)
        texts = (batch.labels[..., 0] != PAD).sum().item()
        return Loss(total, count, texts)

    def _self_critical(self, model: nn.Module, batch: Batch, plain: Seq2Seq) -> Loss:
        samples = self.stage.samples
        if batch.images.ndim == 4 and not plain.blind:
            # The backbone's features serve the samples and, with their gradient, the loss.
            with torch.set_grad_enabled(self.stage.encoder_lr > 0):
                batch = replace(batch, images=plain.backbone(batch.images))
        drawn = self.draw(plain, batch)
        rewards = self.reward(drawn, batch.indices).to(drawn.device)  # (B, K), or K + 1
        labels = drawn[:, :samples]
        logits = model(batch.images, decoder_input(labels))
        total = self_critical_loss(logits, labels, advantages(rewards, samples))
        texts = labels[..., 0].numel()
        return Loss(total, (labels != PAD).sum(), texts, rewards[:, :samples].mean())

    def draw(self, model: Seq2Seq, batch: Batch) -> Tensor:
        """The captions (B, K, T) that are to be rewarded; a greedy baseline comes last."""
        model.eval()
        drawn = sample_captions(
            model,
            batch.images,
            rows=self.stage.samples,
            max_length=self.max_length,
            greedy=self.stage.baseline == "greedy",
        )
        train_mode(model)
        return drawn
