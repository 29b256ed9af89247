#!/usr/bin/env python
"""Time a training step with and without `train.compile`: `python benchmarks/compile.py`.

The script measures interleaved forward and backward passes on one batch of noise with five captions
per image, with the bundled model and with a ViT in place of its backbones. It prints medians of the
CPU time of one thread, because other programs on the machine have little effect on it.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import timm  # noqa: E402
import torch  # noqa: E402
from caption import describe_machine  # noqa: E402
from torch import Tensor  # noqa: E402

from captioner.build import build_model, load_checkpoint  # noqa: E402
from captioner.model.image_encoder import Backbones  # noqa: E402
from captioner.model.seq2seq import Seq2Seq  # noqa: E402
from captioner.tokenizer import BOS, PAD  # noqa: E402
from captioner.training.compile import compile_parts  # noqa: E402
from captioner.training.stage import train_mode  # noqa: E402

IMAGES, CAPTIONS, LONGEST, ROUNDS = 8, 5, 16, 8


def main() -> None:
    """Measure both models with a trained and with a frozen backbone."""
    torch.set_num_threads(1)
    print(describe_machine())
    bundled, tokenizer, config = load_checkpoint("bundled", for_training=True)
    vit = Backbones([timm.create_model("vit_tiny_patch16_224", num_classes=0)])
    shape = {"channels": vit.models[0].num_features, "positions": 196}
    other = build_model(config.model, vit, tokenizer=tokenizer, **shape)
    for name, plain in (("bundled", bundled), ("vit_tiny", other)):
        for trained in (True, False):
            plain.backbone.requires_grad_(trained)
            measure(f"{name}, backbone {'trained' if trained else 'frozen'}", plain)


def measure(name: str, plain: Seq2Seq) -> None:
    """Print the times of a compiled and a plain step, their ratio, and the compilation time."""
    plain.to(memory_format=torch.channels_last)
    compiled = copy.deepcopy(plain)
    compile_parts(compiled)
    images, tokens = torch.randn(IMAGES, 3, 224, 224), captions()
    first = step(compiled, images, tokens)
    times = [
        (step(compiled, images, tokens), step(plain, images, tokens)) for _ in range(ROUNDS + 1)
    ]
    ours, theirs = (1000 * statistics.median(x) for x in zip(*times[1:], strict=True))
    print(f"{name}: {ours:.0f} of {theirs:.0f} ms ({ours / theirs:.2f}), first {first:.0f} s")


def captions() -> Tensor:
    """Return random captions of half the maximum length or more."""
    tokens = torch.randint(300, 1000, (IMAGES, CAPTIONS, LONGEST))
    lengths = torch.randint(LONGEST // 2, LONGEST + 1, (IMAGES, CAPTIONS, 1))
    tokens[torch.arange(LONGEST).expand_as(tokens) >= lengths] = PAD
    tokens[..., 0] = BOS
    return tokens


def step(model: Seq2Seq, images: Tensor, tokens: Tensor) -> float:
    """Return the CPU seconds of a step."""
    train_mode(model)
    start = time.process_time()
    model(images, tokens).square().mean().backward()
    model.zero_grad()
    return time.process_time() - start


if __name__ == "__main__":
    main()
