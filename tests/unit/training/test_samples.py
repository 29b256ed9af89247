"""Samples of a tiny random model."""

from __future__ import annotations

import pytest
import torch
from tiny import make_checkpoint

from captioner.backends.torch_backend import TorchBackend
from captioner.build import load_checkpoint
from captioner.config import DecodingConfig
from captioner.generation.captions import search_captions
from captioner.tokenizer import PAD
from captioner.training.samples import sample_captions


@pytest.fixture
def backend(tmp_path) -> TorchBackend:
    model, _, _ = load_checkpoint(make_checkpoint(tmp_path))
    return TorchBackend.of_model(model, device=torch.device("cpu"))


@torch.no_grad()
def test_the_greedy_caption_follows_the_samples(backend):
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    memories = backend.encode_tensors([pixels])
    for seed in range(3):
        drawn = []
        for greedy in (False, True):
            torch.manual_seed(seed)
            drawn.append(sample_captions(backend, memories, rows=2, max_length=9, greedy=greedy))
        plain, both = drawn
        assert both.shape[:2] == (3, 3)
        length = plain.shape[-1]
        assert torch.equal(both[:, :2, :length], plain)
        assert (both[:, :2, length:] == PAD).all()
        expected = search_captions(backend, memories, DecodingConfig(beam_size=1, max_length=9))
        found = [[i for i in row if i != PAD] for row in both[:, 2].tolist()]
        assert found == [h.tokens for (h,) in expected]
