"""Compare VisionEncoderDecoder on this package's searches with `generate` of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from public_folders.encoder_decoder import build_encoder_decoder
from public_rules import assert_rules_equal
from public_tokens import (
    PublicModel,
    assert_attention_is_grid,
    assert_batch_equal,
    assert_scores_equal,
    assert_tokens_equal,
    random_images,
)
from safetensors.torch import load_file, save_file

from captioner.backends.public.families import load_family
from captioner.backends.public.family import Family
from captioner.backends.public.gpt2_decoder import is_gpt2
from captioner.errors import CheckpointError

PAIRS = [("vit", "gpt2", 32), ("swin", "bert", 48), ("deit", "roberta", 48), ("beit", "bart", 32)]


def generate(
    family: Family, image: Image.Image, question: str | None, options: dict[str, Any]
) -> list[int]:
    inputs = family.processor(images=image, return_tensors="pt")
    return family.model.generate(**inputs, **options)[0, 1:].tolist()


@pytest.mark.parametrize(("encoder", "decoder", "width"), PAIRS)
def test_captions_equal_generate(tmp_path: Path, encoder: str, decoder: str, width: int) -> None:
    build_encoder_decoder(tmp_path, 0, encoder, decoder, width=width)
    model = PublicModel.load(tmp_path)
    assert_tokens_equal(model, generate, random_images(3))
    assert_attention_is_grid(model, random_images(2), 16, rest=encoder != "swin")
    assert_scores_equal(model, random_images(2))


def test_other_scale_of_attention(tmp_path: Path) -> None:
    """Such a GPT-2 does not share keys and values among beams."""
    build_encoder_decoder(tmp_path, 0)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["decoder"]["scale_attn_by_inverse_layer_idx"] = True
    path.write_text(json.dumps(values))
    model = PublicModel.load(tmp_path)
    assert not is_gpt2(model.family.decoder)
    assert_tokens_equal(model, generate, random_images(6))


def test_captions_in_a_batch(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0)
    assert_batch_equal(PublicModel.load(tmp_path), random_images(8, 1))


def test_missing_pooling_layer(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    kept = {name: x for name, x in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, path, {"format": "pt"})
    load_family(str(tmp_path), torch.float32)
    del kept["encoder.embeddings.cls_token"]
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing.*cls_token"):
        load_family(str(tmp_path), torch.float32)


def test_missing_start_token(tmp_path: Path) -> None:
    build_encoder_decoder(tmp_path, 0, decoder="bert")
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / name
        values = json.loads(path.read_text())
        values.pop("decoder_start_token_id")
        path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="no decoder_start_token_id"):
        load_family(str(tmp_path), torch.float32)


@pytest.mark.parametrize(("encoder", "decoder", "width"), [PAIRS[0], PAIRS[3]])
def test_rules(tmp_path: Path, encoder: str, decoder: str, width: int) -> None:
    build_encoder_decoder(tmp_path, 0, encoder, decoder, width=width)
    assert_rules_equal(PublicModel.load(tmp_path, max_length=8), generate, random_images(2))


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "decoder", "width"), PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_captions_of_many_models(
    tmp_path: Path, encoder: str, decoder: str, width: int, seed: int
) -> None:
    build_encoder_decoder(tmp_path, seed, encoder, decoder, width=width)
    assert_tokens_equal(PublicModel.load(tmp_path), generate, random_images(32, seed))
