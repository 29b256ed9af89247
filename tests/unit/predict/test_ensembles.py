"""Ensembles of checkpoints, by the Python API and on the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_checkpoint, picture

import captioner
from captioner.errors import CheckpointError
from captioner.predict import Captioner
from captioner.tokenizer import PAD


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("ensembles") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


@pytest.fixture(scope="session")
def checkpoint(folder) -> str:
    return str(folder)


@pytest.fixture(scope="session")
def other(folder, tmp_path_factory):
    """A checkpoint with the same tokenizer and other weights."""
    from safetensors.torch import load_file, save_file

    copy = tmp_path_factory.mktemp("other")
    for name in ("config.yaml", "tokenizer.model"):
        (copy / name).write_bytes((folder / name).read_bytes())
    state = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    for name, value in state.items():
        if name.startswith("decoder.layers") and value.is_floating_point():
            state[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    save_file(state, copy / "model.safetensors")
    return copy


def test_an_ensemble_of_equal_models_is_that_model(folder, model):
    twice = captioner.load([folder, folder])
    for number in range(3):
        one, two = (m.caption(picture(number), num_captions=3)[0] for m in (model, twice))
        assert [c.text for c in one.captions] == [c.text for c in two.captions]
        for a, b in zip(one.captions, two.captions, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)


def test_an_ensemble_averages_probabilities(folder, other, model):
    both, second = captioner.load([folder, other]), captioner.load(other)
    texts = ["a dog", "red", "a boat"]
    ids = [model.tokenizer.encode(text) for text in texts]
    padded = np.array([[x + [PAD] * (12 - len(x)) for x in ids]])
    each = [
        np.exp(m.backend.score([m.encode(picture(0)).memory], padded).astype(np.float64))
        for m in (model, second)
    ]
    expected = np.where(padded == PAD, 0, np.log(sum(each) / 2)).sum(-1)[0]
    found = [scored.logprob for scored in both.score(picture(0), texts)]
    assert found == pytest.approx(expected.tolist(), abs=1e-3)
    captions = [m.caption(picture(0))[0].best for m in (model, second, both)]
    assert len({caption.score for caption in captions}) == 3


def test_members_must_share_their_tokenizer(folder, tmp_path):
    from captioner.tokenizer import Tokenizer

    for name in ("config.yaml", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    Tokenizer.train(["another text"] * 9, vocab_size=300).save(tmp_path / "tokenizer.model")
    with pytest.raises(CheckpointError):
        captioner.load([folder, tmp_path])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        captioner.load([])


def test_several_checkpoints_are_an_ensemble(run, photos, folder, other):
    both = captioner.load([folder, other])
    words = ["--checkpoint", str(other)]  # beside the one that the fixture names
    expected = both.caption(photos / "1.png")[0].text
    assert run(photos / "1.png", *words) == (0, [expected], "")
