"""Tiny checkpoints that recognize kinds of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from tiny import picture

from captioner.build import load_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.checkpoint.weights import save_best
from captioner.images.transforms import to_pixels
from captioner.model.kind_head import KindHead, summarize
from captioner.training.kind_fitting import fit_regression

KINDS = ("photograph", "text", "drawing")
IMAGES = [picture(seed) for seed in range(6)]
KIND_OF_IMAGES = [kind for kind in KINDS for _ in range(2)]
"""The kinds that a checkpoint with a head recognizes in the images."""


@torch.inference_mode()
def add_kind_head(folder: Path, kinds: tuple[str, str, str] = KINDS) -> Path:
    """Add a head to a checkpoint without graphs that recognizes the kinds of `IMAGES`."""
    model, tokenizer, config = load_checkpoint(folder, for_training=True)
    pixels = np.stack([to_pixels(image, pixel_spec(config)) for image in IMAGES])
    statistics = summarize(model.extract(torch.from_numpy(pixels))).double()
    with torch.inference_mode(False), torch.enable_grad():
        weight, bias = fit_regression(statistics.clone().split(2), penalty=0.1)
    model.kind_head = KindHead(weight.shape[1] // 2, kinds)
    model.kind_head.load_state_dict({"weight": weight, "bias": bias})
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, kinds=kinds))
    save_best(folder, config, tokenizer, model, {"val": {}})
    return folder
