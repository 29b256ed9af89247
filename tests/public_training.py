"""Tiny transformers models in the training loop, with batches of random images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from public_folders.blip import build_blip, build_blip_vqa
from public_folders.encoder_decoder import build_encoder_decoder
from public_folders.git import build_git

from captioner.backends.public.families import load_family
from captioner.data.collate import Batch, collate_for
from captioner.data.dataset import Sample
from captioner.training.public_model import PublicModel

Build = Callable[[Path, int], None]
CAPTIONERS: dict[str, Build] = {
    "blip": build_blip,
    "git": build_git,
    "vit-gpt2": partial(build_encoder_decoder, encoder="vit", decoder="gpt2", width=24),
    "deit-bert": partial(build_encoder_decoder, encoder="deit", decoder="bert"),
}
"""The families that caption, by name."""
ANSWERERS: dict[str, Build] = {"blip-vqa": build_blip_vqa, "git": build_git}
"""The families that answer questions."""
TEXTS = [["a dog runs on the grass", "a dog"], ["two cats sleep on a red couch"]]


def load_model(folder: Path) -> PublicModel:
    """Return a model in training mode whose weights all have gradients."""
    model = PublicModel(load_family(str(folder), torch.float32), folder)
    return model.requires_grad_(True)


def make_model(folder: Path, name: str = "blip", *, seed: int = 0) -> PublicModel:
    """Build a folder and load its model."""
    (CAPTIONERS | ANSWERERS)[name](folder, seed)
    return load_model(folder)


def make_batch(
    model: PublicModel, texts: Sequence[Sequence[str]] = TEXTS, questions: Sequence[str] = ()
) -> Batch:
    """Return a batch of random pixels, with the captions of each, or one question about each."""
    family = model.family
    spec, encode = family.spec, family.vocabulary.encode
    assert spec is not None
    pixels = torch.randn(len(texts), 3, *spec.size, generator=torch.Generator().manual_seed(3))
    asked = [[family.vocabulary.question_tokenizer.encode(text)] for text in questions]
    samples = [
        Sample(i, pixels[i], list(map(encode, texts[i])), asked[i] if asked else [], [i])
        for i in range(len(texts))
    ]
    return collate_for(family.vocabulary)(samples)
