"""Writing and reading the weights of checkpoints."""

from __future__ import annotations

import pytest
import torch
from small_models import SIZES, small_model, train_small_tokenizer

from captioner.build import load_checkpoint
from captioner.checkpoint import best_scores, weights
from captioner.checkpoint.weights import save_best
from captioner.config import (
    Config,
    ImageConfig,
    TrainConfig,
)
from captioner.errors import CheckpointError
from captioner.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_small_tokenizer()


def _short():
    from captioner.config import DecodingConfig

    return DecodingConfig(max_length=8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_best_weights_are_saved_in_their_type(dtype, tokenizer, tmp_path):
    model = small_model(tokenizer)
    config = Config(model=SIZES, train=TrainConfig(save_dtype=dtype), decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, model, {"val": {"CIDEr-D": 0.5}})
    other = small_model(tokenizer, seed=1)
    weights.load_best(tmp_path / "best", other)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            rounded = value.to(getattr(torch, dtype)).float()
            assert torch.equal(other.state_dict()[name], rounded), name
    assert best_scores(tmp_path / "best") == {"CIDEr-D": 0.5}
    assert best_scores(tmp_path / "none") == {}


def test_weights_of_another_model_are_an_error(tokenizer, tmp_path):
    config = Config(model=SIZES, decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, small_model(tokenizer), {})
    other = Tokenizer.train(["a red circle", "two blue squares"] * 20, vocab_size=301)
    assert len(other) != len(tokenizer)
    with pytest.raises(CheckpointError, match="shape"):
        weights.load_best(tmp_path / "best", small_model(other))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model", "config.yaml"])
def test_checkpoint_with_a_missing_file_is_an_error(name, tokenizer, tmp_path):
    config = Config(model=SIZES, image=ImageConfig(size=16), decoding=_short())
    save_best(tmp_path / "best", config, tokenizer, small_model(tokenizer), {})
    (tmp_path / "best" / name).unlink()
    with pytest.raises(Exception, match=name) as caught:
        load_checkpoint(tmp_path / "best")
    assert type(caught.value).__module__ == "captioner.errors"
