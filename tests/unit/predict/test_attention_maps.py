"""Attention maps: the weights and positions of each word, compared with a direct computation."""

from __future__ import annotations

import copy
import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint
from torch import Tensor, nn

import captioner
from captioner.build import load_checkpoint
from captioner.errors import CaptionerError, ImageError
from captioner.predict import Captioner
from captioner.predict.attention_maps import average_maps, word_numbers
from captioner.text import normalize_caption
from captioner.tokenizer import BOS, Tokenizer

TEXT = "a red boat"
SIDE = 2
"""Image positions of a tiny model along each side of an image."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("attention") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


def expected_weights(
    folder: Path, image: Image.Image, tokens: list[int], question: str = ""
) -> Tensor:
    """Return the weights (T, P), computed from the queries and keys of the unpacked layers."""
    plain, tokenizer, config = load_checkpoint(folder)
    captioner = Captioner.of_model(plain, tokenizer, config, compile=True)  # layers stay plain
    backend = captioner.backend
    found = {}
    for number, layer in enumerate(plain.decoder.layers):
        for name in ("q_proj", "k_proj"):
            module = getattr(layer.encoder_attn, name)
            module.register_forward_hook(
                lambda _, __, x, key=(number, name): found.__setitem__(key, x)
            )
    memory, mask = plain.encode(backend.stack([backend.read(image)])[0]), None
    if question:
        ids = torch.tensor([tokenizer.encode(question)])
        memory, mask = plain.fuse_questions(memory, ids, torch.tensor([0]))
    plain.decode(memory, torch.tensor([[[BOS, *tokens[:-1]]]]), mask)
    each = []
    for number, layer in enumerate(plain.decoder.layers):
        q, k = (
            layer.encoder_attn.split_heads(found[number, name].reshape(1, -1, 32))
            for name in ("q_proj", "k_proj")
        )
        each.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1)[0])
    return torch.stack(each).mean(0)[:-1]


def grids(found) -> np.ndarray:
    return np.stack([word.weights for word in found])


@torch.no_grad()
def test_word_weights_are_the_layer_weights_averaged_over_tokens(folder, model):
    image, tokens = picture(3), model.tokenizer.encode(TEXT)
    weights = expected_weights(folder, image, tokens)
    pieces = model.tokenizer.list_pieces()
    starts = [i for i, token in enumerate(tokens[:-1]) if i == 0 or pieces[token][0] == " "]
    assert 1 < len(starts) == len(TEXT.split())
    expected = [weights[a:b].mean(0) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    found = model.attention(image, TEXT)
    assert [word.word for word in found] == TEXT.split()
    assert grids(found).shape == (len(starts), SIDE, SIDE)
    np.testing.assert_allclose(grids(found).reshape(len(starts), -1), expected, atol=1e-5)
    assert grids(found).std(0).max() > 0.01  # words differ


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_weights_sum_to_1_in_every_dtype(folder, model, dtype):
    expected = grids(model.attention(picture(1), TEXT))
    found = grids(captioner.load(folder, dtype=dtype).attention(picture(1), TEXT))
    np.testing.assert_allclose(found.sum((1, 2)), 1, atol=1e-6)
    assert found.min() >= 0
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("text", ["dog", "A  Red\nboat , ", "é 北", "dog's (x)!", "a ▁ b", "- - -"])
def test_joined_words_are_the_text(model, text):
    found = model.attention(picture(0), text)
    assert " ".join(word.word for word in found) == normalize_caption(text)
    np.testing.assert_allclose(grids(found).sum((1, 2)), 1)


def test_tokens_are_assigned_to_their_words():
    words = ["red", "dog", "boat", "zebra", "quiz", "北京", "12"]
    for kind in ("unigram", "bpe"):
        tokenizer = Tokenizer.train(["red dog boat"] * 9, vocab_size=290, kind=kind)
        for seed in range(20):
            chosen = random.Random(seed).choices(words, k=5)
            tokens = tokenizer.encode(" ".join(chosen))
            numbers = word_numbers(tokens, tokenizer)[:-1]
            written = [
                tokenizer.decode([t for t, n in zip(tokens, numbers, strict=False) if n == i])
                for i in range(5)
            ]
            assert [text.strip() for text in written] == chosen


def test_unusable_texts_and_images_are_rejected(model, tmp_path):
    with pytest.raises(CaptionerError, match="has no words"):
        model.attention(picture(0), " ")
    with pytest.raises(CaptionerError, match="tokens"):
        model.attention(picture(0), "dog " * 50)
    with pytest.raises(ImageError, match="missing"):
        model.attention(tmp_path / "missing.png", TEXT)
    with pytest.raises(CaptionerError, match="captions only"):
        model.attention(picture(0), TEXT, question=QUESTIONS[0])


def test_an_encoded_image_gives_the_same_attention(model):
    found = model.attention(model.encode(picture(2)), TEXT)
    np.testing.assert_array_equal(grids(found), grids(model.attention(picture(2), TEXT)))


# Positions


def attending_to_white(folder: Path, *, resize: str = "squash") -> Captioner:
    """Return a captioner whose attention is at bright cells."""
    model, tokenizer, config = load_checkpoint(folder)
    width = config.model.width
    for layer in model.decoder.layers:
        a = layer.encoder_attn
        nn.init.zeros_(a.q_proj.weight)
        nn.init.constant_(a.q_proj.bias, 5)
        nn.init.eye_(a.k_proj.weight)
        nn.init.zeros_(a.k_proj.bias)

    def extract_views(pixels: Tensor) -> tuple[Tensor, Tensor]:
        bright = nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), SIZE // SIDE)
        features = bright.flatten(2).mT.expand(-1, -1, width).contiguous()
        return features, features

    model.extract_views = extract_views
    model.memory_encoder.forward = lambda features: features
    image = dataclasses.replace(config.image, resize=resize)
    return Captioner.of_model(model, tokenizer, dataclasses.replace(config, image=image))


@pytest.mark.parametrize("row", range(SIDE))
@pytest.mark.parametrize("column", range(SIDE))
@pytest.mark.parametrize("size", [(64, 64), (120, 40), (30, 200)])
def test_weights_are_at_the_bright_cell_of_the_image(folder, row, column, size):
    image = Image.new("RGB", size)
    w, h = size[0] // SIDE, size[1] // SIDE
    image.paste("white", (column * w, row * h, (column + 1) * w, (row + 1) * h))
    for word in attending_to_white(folder).attention(image, TEXT):
        assert word.weights[row, column] > 0.99
        assert word.box == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("size", "box"), [((200, 100), (0.25, 0, 0.75, 1)), ((60, 80), (0, 0.125, 1, 0.875))]
)
def test_a_cropped_image_has_the_box_of_the_crop(folder, size, box):
    image = Image.new("RGB", size)
    left, top, right, bottom = (
        round(x * side) for x, side in zip(box, (*size, *size), strict=True)
    )
    image.paste("white", ((left + right) // 2, (top + bottom) // 2, right, bottom))
    image.paste("white", (0, 0, left, top or size[1]))  # not seen
    model = attending_to_white(folder, resize="crop")
    for word in model.attention(model.encode(image), TEXT):
        assert word.box == box
        assert word.weights[1, 1] > 0.99


def test_positions_without_a_grid_are_rejected(folder):
    model, tokenizer, config = load_checkpoint(folder)
    model.memory_encoder.positions = nn.Parameter(torch.zeros(5, config.model.width))
    model.extract_views = lambda pixels: (torch.zeros(1, 5, config.model.width),) * 2
    model.memory_encoder.forward = lambda features: features
    with pytest.raises(CaptionerError, match="5 positions are no grid over 64 x 64"):
        Captioner.of_model(model, tokenizer, config).attention(picture(0), TEXT)


# Ensembles


def other(folder: Path, *, size: int, resize: str = "squash"):
    """Return a model with other weights and possibly another grid, with its configuration."""
    model, _, config = load_checkpoint(folder)
    torch.manual_seed(1)
    positions = (size // 32) ** 2
    model.memory_encoder.positions = nn.Parameter(torch.randn(positions, config.model.width))
    nn.init.normal_(model.decoder.layers[0].encoder_attn.q_proj.weight, std=0.5)
    image = dataclasses.replace(config.image, size=size, resize=resize)
    return model, dataclasses.replace(config, image=image)


def test_an_ensemble_averages_attention(folder):
    one, tokenizer, config = load_checkpoint(folder)
    parts = [(one, config), other(folder, size=SIZE)]
    singles = [Captioner.of_model(copy.deepcopy(m), tokenizer, c) for m, c in parts]
    alone = [grids(single.attention(picture(5), TEXT)) for single in singles]
    found = Captioner.of_model(one, tokenizer, config, others=parts[1:]).attention(picture(5), TEXT)
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(grids(found), np.mean(alone, 0), atol=1e-6)


def test_different_grids_and_boxes_are_resampled_to_the_finest_grid(folder):
    one, tokenizer, config = load_checkpoint(folder)
    parts = [other(folder, size=96), other(folder, size=SIZE, resize="crop")]
    found = Captioner.of_model(one, tokenizer, config, others=parts).attention(picture(5), TEXT)
    assert grids(found).shape == (len(TEXT.split()), 3, 3)
    assert {word.box for word in found} == {(0, 0, 1, 1)}
    np.testing.assert_allclose(grids(found).sum((1, 2)), 1)


def test_averaged_maps_keep_the_positions_of_weights():
    rng = np.random.default_rng(0)
    whole, middle = (0.0, 0.0, 1.0, 1.0), (0.25, 0.0, 0.75, 1.0)
    fine, coarse = rng.random((3, 4, 4)), rng.random((3, 2, 2))
    found, box = average_maps([fine], [middle])
    np.testing.assert_array_equal(found, fine)
    assert box == middle
    found, box = average_maps([fine, coarse], [whole, whole])
    np.testing.assert_allclose(found, (fine + np.kron(coarse, np.full((2, 2), 0.25))) / 2)
    found, box = average_maps([0 * fine, coarse], [whole, middle])
    assert box == whole
    assert not found[..., [0, 3]].any()  # which the crop has not seen
    np.testing.assert_allclose(found[:, :2, 1:3], coarse[:, :1].repeat(2, 1) / 4)


# Questions


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "add", "multiply"])
def test_question_words_are_left_out_of_the_weights(tmp_path, fusion):
    folder = make_vqa_checkpoint(tmp_path / "best", fusion=fusion)
    model, question = captioner.load(folder), QUESTIONS[0]
    tokens = model.tokenizer.encode("dog")
    weights = expected_weights(folder, picture(1), tokens, question.rstrip("?"))
    assert (weights.shape[1] > SIDE**2) == (fusion == "concat")
    own = weights[:, : SIDE**2] / weights[:, : SIDE**2].sum(-1, keepdim=True)
    (word,) = model.attention(picture(1), "dog", question=question)
    np.testing.assert_allclose(word.weights.flatten(), own.mean(0), atol=1e-5)
    assert word.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("fusion", ["cross_attention", "linear"])
def test_a_fusion_without_image_positions_is_rejected(tmp_path, fusion):
    model = captioner.load(make_vqa_checkpoint(tmp_path / "best", fusion=fusion))
    with pytest.raises(CaptionerError, match="no positions of the image"):
        model.attention(picture(1), "dog", question=QUESTIONS[0])
    assert model.attention(picture(1), "dog")
