"""Tiny models of recordings, or of images and recordings, and short sounds for them."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tiny import COLOURS, THINGS, _sharpen, add_classifier

from captioner.build import build_audio_backbone, build_backbone, build_model, feature_shape
from captioner.checkpoint.audio_format import first_spec, second_spec
from captioner.checkpoint.weights import save_best
from captioner.config import (
    AudioConfig,
    AudioEncoderConfig,
    BackboneConfig,
    Config,
    DecodingConfig,
    ImageConfig,
    ModelConfig,
    QuestionConfig,
    TokenizerConfig,
)
from captioner.tokenizer import Tokenizer

RATE, SECONDS = 8000, 1.024
BACKBONE = BackboneConfig("test_efficientnet", "none")
AUDIO = AudioConfig(
    rate=RATE, window=256, hop=128, fft=256, mels=32, max_hz=4000.0, seconds=SECONDS
)
"""Spectrograms of 32 x 64."""


def audio_config(
    *, images: bool = False, question: QuestionConfig | None = None, **model
) -> Config:
    """Return the configuration of a model of recordings, and of images if they are wanted."""
    sizes = {"width": 32, "heads": 2, "decoder_layers": 1, "ffn": 64, "max_length": 12} | model
    return Config(
        tokenizer=TokenizerConfig(vocab_size=400),
        image=ImageConfig(size=64, mean=(0.5,) * 3, std=(0.5,) * 3) if images else ImageConfig(),
        audio=AUDIO,
        model=ModelConfig(
            backbones=(BACKBONE,) if images else (),
            audio=AudioEncoderConfig((BACKBONE,)),
            question=question,
            **sizes,
        ),
        decoding=DecodingConfig(beam_size=3, max_length=8),
    )


def make_audio_checkpoint(
    folder: Path,
    *,
    images: bool = False,
    question: QuestionConfig | None = None,
    seed: int = 3,
    decoder: str = "transformer",
    answers: Sequence[str] = (),
) -> Path:
    """Write a checkpoint with random weights whose captions differ between recordings.

    `answers` are those of a classifier of questions.
    """
    config = audio_config(images=images, question=question, decoder=decoder)
    texts = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS] * 4
    tokenizer = Tokenizer.train(texts, vocab_size=config.tokenizer.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone, config = build_backbone(config, load_weights=False)
        positions, channels = feature_shape(backbone, first_spec(config))
        audio = None
        if spec := second_spec(config):
            second = build_audio_backbone(config, load_weights=False)
            audio = second, feature_shape(second, spec)
        model = build_model(
            config.model,
            backbone,
            tokenizer=tokenizer,
            channels=channels,
            positions=positions,
            audio=audio,
        )
        _sharpen(model, variance=0.3)
        if answers:
            add_classifier(model, config, [tokenizer.encode(text) for text in answers])
    save_best(folder, config, tokenizer, model, {"val": {}})
    return folder


def tone(hz: float, *, seconds: float = SECONDS, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return a tone with overtones and some noise, float32 (N,)."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(times))
    waves = sum(np.sin(2 * np.pi * hz * n * times) / n for n in (1, 2, 3))
    return (0.25 * waves + 0.01 * noise).astype(np.float32)


def write_wave(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    """Write samples as 16-bit WAV; return the path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return str(path)
