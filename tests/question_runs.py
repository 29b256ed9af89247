"""Data, settings and results of training runs with questions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from drawn_images import make_flickr, make_questions

from captioner.backends.torch_backend import TorchBackend
from captioner.build import load_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import AnswerConfig, Config, DecodingConfig
from captioner.data import normalize_question
from captioner.data.collate import pad
from captioner.generation.answers import search_answers
from captioner.generation.captions import search_captions
from captioner.images import load_image
from captioner.images.transforms import to_pixels

ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"
ASKING = "model.question={encoder_layers: 1, fusion_layers: 1}"
# Settings for overfitting: the texts must be learned exactly, so images are not augmented.
OVERFIT = [
    "image.flip=false",
    "image.jitter=0",
    "model.dropout=0",
    "tokenizer.kind=bpe",
    "model.max_length=24",
    "train.batch_size=4",
    "train.label_smoothing=0",
]
MIXED = (
    "train.stages=[{epochs: 2, lr: 1e-3, cached_views: 2},"
    " {epochs: 2, lr: 1e-4, objective: scst, samples: 3, encoder_lr: 1e-4}]"
)


def make_both(root: Path, *, train=(0, 1, 2, 3)) -> tuple[Path, Path]:
    """Write captions and questions about the same drawn images."""
    captions = make_flickr(root / "captions", train=train, captions=1)
    pictures = captions / "Flicker8k_Dataset"
    return captions, make_questions(root / "questions", train=train, pictures=pictures)


def picture(captions: Path, i: int) -> Path:
    return captions / "Flicker8k_Dataset" / f"{i}.png"


def metrics_of(output: Path) -> dict[str, float]:
    return json.loads((output / "best" / "metrics.json").read_text())["val"]


def stack_pixels(paths: list[Path], config: Config) -> torch.Tensor:
    """Return the pixels (B, 3, H, W) of image files."""
    spec = pixel_spec(config)
    return torch.from_numpy(np.stack([to_pixels(load_image(path), spec) for path in paths]))


def ask(checkpoint: Path, pairs: list[tuple[Path, str]]) -> list[str]:
    """Return the answers of a checkpoint to questions about images."""
    model, tokenizer, config = load_checkpoint(checkpoint)
    pixels = stack_pixels([path for path, _ in pairs], config)
    ids = [tokenizer.question_tokenizer.encode(normalize_question(text)) for _, text in pairs]
    owners = torch.arange(len(pairs))
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    with torch.inference_mode():
        images = backend.encode_tensors([pixels])
        memories = backend.fuse_questions(images, pad(ids, model.pad), owners)
        result = search_answers(backend, memories, AnswerConfig())
    return [tokenizer.decode(hypotheses[0].tokens) for hypotheses in result]


def caption(checkpoint: Path, paths: list[Path]) -> list[str]:
    model, tokenizer, config = load_checkpoint(checkpoint)
    pixels = stack_pixels(paths, config)
    backend = TorchBackend.of_model(model, device=torch.device("cpu"))
    with torch.inference_mode():
        memories = backend.encode_tensors([pixels])
    result = search_captions(backend, memories, DecodingConfig(beam_size=2, max_length=16))
    return [tokenizer.decode(hypotheses[0].tokens) for hypotheses in result]
