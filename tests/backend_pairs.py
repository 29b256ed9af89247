"""Compare the results of two backends of one checkpoint: tokens exactly, scores within 1e-4."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tiny_vqa import make_vqa_checkpoint

import captioner
from captioner.backends.onnx_backend import OnnxBackend
from captioner.backends.torch_backend import TorchBackend
from captioner.config import (
    AnswerConfidence,
    CaptionConfidence,
    ConfidenceConfig,
    load_config,
    save_config,
)
from captioner.predict import Answers, Attention, Captioner, Result, Scored

TOLERANCE = 1e-4
CONFIDENCE = ConfidenceConfig(
    CaptionConfidence(intercept=1.5, score=0.5),
    AnswerConfidence(intercept=-1.25, log_odds=0.5, words={"what": 0.25, "how": 9.0}),
)


class Pair(NamedTuple):
    """The same checkpoint with ONNX Runtime and with torch."""

    onnx: Captioner
    torch: Captioner


def load_pair(checkpoint: Any, **options: Any) -> Pair:
    """Load checkpoints with both backends."""
    found = Pair(*(captioner.load(checkpoint, backend=b, **options) for b in ("onnx", "torch")))
    assert isinstance(found.onnx.backend, OnnxBackend)
    assert isinstance(found.torch.backend, TorchBackend)
    return found


def make_full_checkpoint(folder: Path, *, decoder: str = "transformer") -> Path:
    """Write a tiny checkpoint with padded memories and a separate decoder for answers."""
    return make_vqa_checkpoint(folder, fusion="concat", decoder_layers=1, decoder=decoder)


def calibrate(folder: Path) -> Path:
    """Add coefficients of confidences to a checkpoint's configuration."""
    config = load_config(folder / "config.yaml")
    save_config(dataclasses.replace(config, confidence=CONFIDENCE), folder / "config.yaml")
    return folder


def assert_same_captions(found: Iterable[Result], expected: Iterable[Result]) -> None:
    """Compare captions, or the errors of images without one."""
    for one, other in zip(found, expected, strict=True):
        assert str(one.error) == str(other.error)
        assert one.low_confidence == other.low_confidence
        assert [(c.text, c.tokens) for c in one.captions] == [
            (c.text, c.tokens) for c in other.captions
        ]
        scores = [[(c.score, c.confidence) for c in r.captions] for r in (one, other)]
        np.testing.assert_allclose(*scores, atol=TOLERANCE)


def assert_same_answers(found: Iterable[Answers], expected: Iterable[Answers]) -> None:
    """Compare answers, or the errors of questions without one."""
    for one, other in zip(found, expected, strict=True):
        assert str(one.error) == str(other.error)
        assert [(a.text, a.tokens) for a in one.answers] == [
            (a.text, a.tokens) for a in other.answers
        ]
        confidences = [[a.confidence for a in result.answers] for result in (one, other)]
        np.testing.assert_allclose(*confidences, atol=TOLERANCE)


def assert_same_scores(found: Iterable[Scored], expected: Iterable[Scored]) -> None:
    """Compare scored texts."""
    for one, other in zip(found, expected, strict=True):
        assert one.text == other.text
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert one.score == pytest.approx(other.score, abs=TOLERANCE)


def assert_same_attention(found: Iterable[Attention], expected: Iterable[Attention]) -> None:
    """Compare attention maps."""
    for one, other in zip(found, expected, strict=True):
        assert (one.word, one.box) == (other.word, other.box)
        np.testing.assert_allclose(one.weights, other.weights, atol=TOLERANCE)
