"""The model, data and training step of `captioner train`, one step at a time."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peer_loop import Pairs, PeerLoop, build_peer
from torch.utils.data import DataLoader

from captioner.config import Config, load_config
from captioner.data.collate import Batch, collate
from captioner.data.sampler import EpochBatches
from captioner.data.splits import first_images, read_splits
from captioner.model.seq2seq import Seq2Seq
from captioner.training import setup
from captioner.training.features import cached_features
from captioner.training.loss import CaptionReward, Objective
from captioner.training.optimizer import build_optimizer
from captioner.training.stage import start_stage, train_mode
from captioner.training.teacher_captions import human_captions

IMAGES, CAPTIONS = 32, 5
SIZES = {
    "default": ("vit_small_patch16_224", 512, 8, 2048, 4),
    "small": ("vit_tiny_patch16_224", 384, 6, 1536, 3),
}
"""Backbone, width, heads, feed-forward, decoder layers."""


def words_for(sizes: str) -> list[str]:
    """Return the settings of a model that both sides support."""
    name, width, heads, ffn, layers = SIZES[sizes]
    args = "args: {class_token: false, global_pool: avg}"
    return [
        f"model.backbones=[{{name: {name}, weights: none, {args}}}]",
        f"model.width={width}",
        f"model.heads={heads}",
        f"model.ffn={ffn}",
        "model.encoder_layers=0",
        f"model.decoder_layers={layers}",
        "model.max_length=32",
        "tokenizer.vocab_size=3000",
        "train.label_smoothing=0",
        "decoding.max_length=30",
    ]


class Ours:
    """The model, data and training step of `captioner train` for a configuration."""

    def __init__(self, args: argparse.Namespace, *words: str, precision: str | None = None) -> None:
        precision = precision or args.precision
        common = [f"data.root={args.data}", "train.tracker=none", f"train.precision={precision}"]
        self.config: Config = load_config(
            None, [*common, f"train.cache={args.cache}", f"train.batch_size={IMAGES}", *words]
        )
        self.stage = self.config.train.stages[0]
        torch.manual_seed(0)
        AcceleratorState._reset_state()  # allows another precision in the same process
        self.accelerator = Accelerator(mixed_precision=precision, cpu=True)
        tasks, train, val, _ = read_splits(self.config)
        train = first_images(train, 8 * IMAGES)
        self.model, self.tokenizer, self.config = setup.build_start(self.config, train)
        built = setup.build_datasets(self.config, tasks, train, val, self.tokenizer)
        self.train, self.val = built
        self.model.to(memory_format=torch.channels_last)
        start_stage(self.stage, self.config, self.model, *built)
        if self.stage.cached_views:
            self.train.features = cached_features(
                self.model.backbone.eval(),
                self.train,
                views=self.stage.cached_views,
                folder=Path(self.config.train.cache),
                accelerator=self.accelerator,
            )
        reward = None
        if self.stage.objective == "scst":
            reward = CaptionReward(human_captions(self.train), self.tokenizer)
        self.objective = Objective(
            self.stage,
            smoothing=self.config.train.label_smoothing,
            max_length=self.config.decoding.max_length,
            reward=reward,
        )
        optimizer = build_optimizer(self.model, self.config.train, self.stage)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        train_mode(self.model)

    def full_model(self) -> AbstractContextManager[Seq2Seq]:
        """Return the model that samples captions."""
        return nullcontext(self.model)

    def batches(self) -> Iterator[Batch]:
        """Yield batches forever."""
        order = EpochBatches([range(len(self.train))], IMAGES)
        loader = DataLoader(self.train, batch_sampler=order, collate_fn=collate)
        while True:
            yield from (batch for batch in loader if len(batch.indices) == IMAGES)
            order.epoch += 1

    def step(self, batch: Batch) -> float:
        """Make a training step; return the loss per token."""
        with self.accelerator.autocast():
            loss_sum = self.objective(self.wrapped, batch, full_model=self.full_model)
        loss = loss_sum.total / loss_sum.tokens
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def build_peer(self, *, frozen: bool, dropout: float) -> PeerLoop:
        """Return the plain loop that trains the same weights on the same captions."""
        model = build_peer(self.model, self.config, len(self.tokenizer), dropout=dropout)
        pairs = Pairs(self.train, self.tokenizer, self.config.image)
        autocast = self.accelerator.autocast
        return PeerLoop(model, pairs, autocast, frozen=frozen, batch_size=IMAGES * CAPTIONS)
