"""A checkpoint that is made in a second: random weights, and captions that follow the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captioner.build import build_model
from captioner.config import (
    BackboneConfig,
    Config,
    DecodingConfig,
    ImageConfig,
    ModelConfig,
    TokenizerConfig,
)
from captioner.model.encoder import Backbones
from captioner.model.mobilenet import STAGES, MobileNet
from captioner.tokenizer import EOS, Tokenizer
from captioner.training.checkpoint import save_best

NAME, SIZE, BYTES = "mobilenetv1_100", 64, 256
COLOURS = ("red", "green", "blue", "white", "black", "orange", "pink", "brown")
THINGS = ("dog", "boat", "child", "horse", "street", "beach", "player", "window")


def make_checkpoint(folder: Path) -> Path:
    """Write a checkpoint of half a million parameters that captions different pictures unlike."""
    # Only the first block of each stage is kept: the others do not change the shape.
    spare = [f"blocks.{i}.{j}" for i, stage in enumerate(STAGES[NAME]) for j in range(1, stage[1])]
    config = Config(
        tokenizer=TokenizerConfig(vocab_size=400),
        image=ImageConfig(size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3),
        model=ModelConfig(
            backbones=(BackboneConfig(NAME, "none", tuple(spare), {"pad_type": "same"}),),
            width=32,
            heads=2,
            encoder_layers=1,
            decoder_layers=1,
            ffn=64,
            max_length=12,
        ),
        decoding=DecodingConfig(beam_size=3, max_length=8),
    )
    texts = [f"a {colour} {thing} by the {other}" for colour in COLOURS for thing in THINGS
             for other in THINGS[:4]]  # fmt: skip
    tokenizer = Tokenizer.train(texts, vocab_size=config.tokenizer.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbones([MobileNet(NAME, remove=spare)])
        model = build_model(
            config.model,
            backbone,
            vocab_size=len(tokenizer),
            channels=backbone.models[0].num_features,
            positions=(SIZE // 32) ** 2,
        )
        _sharpen(model)
    save_best(folder, config, tokenizer, model, {"val": {}})
    return folder


@torch.no_grad()
def _sharpen(model: torch.nn.Module) -> None:
    """Let the picture decide, and no byte piece or early end come: width 0 is a bias of pieces."""
    for norm in model.backbone.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            # Weak random activations would leave every picture with the same features.
            norm.running_var.fill_(0.05)
    decoder = model.decoder
    decoder.layers[0].encoder_attn.out_proj.weight.mul_(20)
    decoder.layers[0].encoder_attn.v_proj.weight.mul_(5)
    decoder.embed_tokens.weight[1:].normal_(std=0.5)
    decoder.embed_tokens.weight[:, 0] = 0
    decoder.embed_tokens.weight[EOS + 1 : EOS + 1 + BYTES, 0] = -10
    decoder.layer_norm.weight[0], decoder.layer_norm.bias[0] = 0, 5


def picture(seed: int, *, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A picture of random coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
