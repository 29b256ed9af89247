"""The peer of `caption.py`: a model of the same size from timm and transformers.

It has the timm backbones of the checkpoint, a projection, and `MBartForConditionalGeneration` with
as many layers as the checkpoint, with `generate(num_beams=...)`. The weights are random, which does
not affect the speed. EOS is disabled, so that a search makes exactly the given number of steps.

    python benchmarks/peer.py --checkpoint bundled --steps 12 PATH...
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image
from torch import nn

from captioner.build import build_backbone, feature_shape
from captioner.checkpoint import resolve_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import load_config
from captioner.tokenizer import BOS, PAD, Tokenizer


class Peer:
    """Caption image files with a model of the same size as a checkpoint."""

    def __init__(self, checkpoint: str) -> None:
        from timm.data import create_transform
        from transformers import MBartConfig, MBartForConditionalGeneration

        folder = resolve_checkpoint(checkpoint)
        config = load_config(folder / "config.yaml")
        self.tokenizer = Tokenizer.load(folder / "tokenizer.model")
        backbone, config = build_backbone(config, load_weights=False)
        spec, sizes = pixel_spec(config), config.model
        positions, channels = feature_shape(backbone, spec)
        self.beams = config.decoding.beam_size
        self.transform = create_transform(
            (3, *spec.size), mean=spec.mean, std=spec.std, interpolation="bicubic", crop_pct=1.0
        )
        # The fastest memory format, for a fair comparison.
        self.backbone = backbone.eval().to(memory_format=torch.channels_last)
        self.projection = nn.Linear(channels, sizes.width)
        mbart = MBartConfig(
            vocab_size=len(self.tokenizer),
            max_position_embeddings=max(positions, sizes.max_length),
            d_model=sizes.width,
            encoder_layers=sizes.encoder_layers,
            decoder_layers=sizes.decoder_layers,
            encoder_attention_heads=sizes.heads,
            decoder_attention_heads=sizes.heads,
            encoder_ffn_dim=sizes.ffn,
            decoder_ffn_dim=sizes.ffn,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=None,
            forced_eos_token_id=None,
            decoder_start_token_id=BOS,
        )
        self.model = MBartForConditionalGeneration(mbart).eval()
        self.model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def caption(self, paths: Sequence[Path | str], steps: int) -> list[str]:
        """Return a text for each image."""
        pixels = torch.stack([self.transform(Image.open(p).convert("RGB")) for p in paths])
        features = self.backbone(pixels.to(memory_format=torch.channels_last))
        outputs = self.model.generate(
            inputs_embeds=self.projection(features),
            num_beams=self.beams,
            max_new_tokens=steps,
            min_new_tokens=steps,
        )
        return [self.tokenizer.decode(row) for row in outputs.tolist()]


def main() -> None:
    """Caption the images of the command line, batch by batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    peer = Peer(args.checkpoint)
    for i in range(0, len(args.paths), args.batch_size):
        batch = args.paths[i : i + args.batch_size]
        for path, text in zip(batch, peer.caption(batch, args.steps), strict=True):
            print(path, " ".join(text.split()), sep="\t")


if __name__ == "__main__":
    main()
