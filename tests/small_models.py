"""Small models for tests of training."""

from __future__ import annotations

import dataclasses

import torch
from tiny import Grid

from captioner.build import build_model
from captioner.config import ModelConfig
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

SIZES = ModelConfig(width=8, heads=2, ffn=16, decoder_layers=1, max_length=8, dropout=0.0)


def small_model(tokenizer: Tokenizer, seed: int = 0, **changes) -> Seq2Seq:
    """Build a model with random weights on 2 x 2 positions of 6 channels."""
    torch.manual_seed(seed)
    sizes = dataclasses.replace(SIZES, **changes)
    return build_model(sizes, Grid(), tokenizer=tokenizer, channels=6, positions=4)


def train_small_tokenizer() -> Tokenizer:
    """Train a tokenizer on two captions."""
    return Tokenizer.train(["a red circle", "a blue square"] * 20, vocab_size=300)
