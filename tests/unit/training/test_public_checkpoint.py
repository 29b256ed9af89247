"""Checkpoints of transformers models in training."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from public_training import CAPTIONERS, load_model, make_batch, make_model

from captioner.checkpoint import checkpoint_format
from captioner.config import Config, load_config
from captioner.model.lora import add_chosen_adapters
from captioner.training.public_checkpoint import (
    load_public_average,
    publish_public,
    save_public,
)
from captioner.training.public_start import list_adapted_layers
from captioner.training.run_checkpoints import image_size, is_public

METRICS = {"stage": "0", "val": {"score": 0.5}}


@pytest.mark.parametrize("name", sorted(CAPTIONERS))
@pytest.mark.parametrize("rank", [0, 2])
def test_transformers_loads_a_checkpoint_with_equal_logits(tmp_path, name, rank):
    model = make_model(tmp_path / "start", name).eval()
    if rank:
        add_chosen_adapters(model.model, rank, list(list_adapted_layers(model, encoder=True)))
        model.has_adapters = True
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = make_batch(model)
    model.eval()
    expected = model(batch.images, batch.tokens)
    save_public(tmp_path / "best", Config(), model, METRICS)

    assert checkpoint_format(tmp_path / "best") == "transformers"
    again = load_model(tmp_path / "best").eval()
    actual = again(batch.images, batch.tokens)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    if not rank:
        assert torch.equal(actual, expected)
    kind = getattr(transformers, type(model.model).__name__)
    library, report = kind.from_pretrained(tmp_path / "best", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    pixels = batch.images[:1]
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": 1}
    ours = again.family.model.generate(pixel_values=pixels, **options)
    assert torch.equal(library.generate(pixel_values=pixels, **options), ours)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "best")
    assert transformers.AutoImageProcessor.from_pretrained(tmp_path / "best")


def test_files_of_a_checkpoint(tmp_path):
    model = make_model(tmp_path / "start")
    (tmp_path / "start" / "metrics.json").write_text("not ours")
    (tmp_path / "start" / "sub.json").mkdir()
    save_public(tmp_path / "one", load_config(overrides=["image.size=32"]), model, METRICS)
    assert json.loads((tmp_path / "one" / "metrics.json").read_text()) == METRICS
    assert not (tmp_path / "one" / "sub.json").exists()
    assert is_public(tmp_path / "one")
    assert not (tmp_path / "one" / "config.yaml").exists()
    assert image_size(tmp_path / "one") == 32


def test_published_weights_have_another_type(tmp_path):
    model = make_model(tmp_path / "start")
    save_public(tmp_path / "one", Config(), model, METRICS)
    publish_public(tmp_path / "one", tmp_path / "best", torch.bfloat16, {"other": 1.0})
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "best")
    assert loaded.dtype == torch.bfloat16
    assert json.loads((tmp_path / "best" / "metrics.json").read_text())["val"] == {
        "other": 1.0,
        "score": 0.5,
    }


def test_average_of_checkpoints(tmp_path):
    model = make_model(tmp_path / "start")
    weight = model.model.text_decoder.bert.embeddings.LayerNorm.weight.data
    for number in (1.0, 2.0):
        weight.fill_(number)
        save_public(tmp_path / f"{number}", Config(), model, METRICS)
    before = model.model.vision_model.post_layernorm.weight.clone()
    load_public_average([tmp_path / "1.0", tmp_path / "2.0"], model)
    assert (weight == 1.5).all()
    assert torch.equal(model.model.vision_model.post_layernorm.weight, before)
