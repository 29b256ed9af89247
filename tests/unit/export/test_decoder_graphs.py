"""Graphs of both decoders: what they compute from memory once, their steps, attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_export import TOLERANCE, Graph, make_model

from captioner.checkpoint.graph_files import (
    ANSWER,
    ATTENTION,
    CAPTION,
    CROSS,
    START,
    list_graph_names,
)
from captioner.config import QuestionConfig
from captioner.export.quantization import quantize_linear_layers
from captioner.model.decoder import Decoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS, PAD

pytestmark = pytest.mark.slow
WIDTH, LAYERS, LONGEST = 16, 2, 12
FORBIDDEN = -1e9
lstm = pytest.mark.parametrize("architecture", ["lstm"], indirect=True)


@pytest.fixture(scope="module")
def architecture(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "transformer")


@pytest.fixture(scope="module")
def folder(architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(architecture) / "best"


@pytest.fixture(scope="module")
def model(folder, architecture) -> Seq2Seq:
    """A model with a separate decoder for answers, which shares the embedding of tokens."""
    question = QuestionConfig(fusion="add", decoder_layers=LAYERS, decoder_ffn=40)
    return make_model(folder, question=question, save_dtype="float16", decoder=architecture)


@pytest.fixture(scope="module", params=[CAPTION, ANSWER])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def decoder(model, name) -> Decoder:
    return model.decoder_for(answers=name == ANSWER)


@pytest.fixture(scope="module")
def step(model, folder, name) -> Graph:
    return Graph(model, folder, name)


@pytest.fixture(scope="module")
def cross(model, folder, name) -> Graph:
    return Graph(model, folder, f"{name}_{CROSS}")


@pytest.fixture(scope="module")
def attention(model, folder, name) -> Graph:
    return Graph(model, folder, f"{name}_{ATTENTION}")


@pytest.fixture(scope="module")
def start(model, folder, name) -> Graph:
    return Graph(model, folder, f"{name}_{START}")


def project(cross: Graph, memory: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the keys and values of memory, by the names of the inputs of other graphs."""
    names = [output.name for output in cross.session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, cross.run(memory=memory)), strict=True))


def text_inputs(tokens: torch.Tensor, memory_mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the inputs for whole texts (B, T), one of each image."""
    images, length = tokens.shape
    causal = torch.full((length, length), FORBIDDEN).triu(1)
    return {
        "tokens": tokens,
        "positions": torch.arange(length).repeat(images, 1),
        "mask": causal.repeat(images, 1, 1),
        "memory_mask": torch.where(memory_mask, 0.0, FORBIDDEN),
    }


def random_text(images: int, positions: int, length: int) -> tuple[torch.Tensor, ...]:
    """Return memory (B, P, D), its mask (B, P) and texts (B, T) that begin with BOS."""
    generator = torch.Generator().manual_seed(images + 10 * positions + 100 * length)
    memory = torch.randn(images, positions, WIDTH, generator=generator)
    mask = torch.rand(images, positions, generator=generator) < 0.7
    mask[:, 0] = True
    tokens = torch.randint(4, 200, (images, length), generator=generator)
    tokens[:, 0] = BOS
    return memory, mask, tokens


@pytest.mark.parametrize(("images", "positions"), [(1, 1), (1, 9), (5, 3), (2, 7)])
def test_keys_and_values_of_memory(cross, images, positions):
    memory, _, _ = random_text(images, positions, 1)
    cross.check_outputs(memory=memory)
    assert all(x.shape == (images, 2, positions, WIDTH // 2) for x in cross.run(memory=memory))


def test_weights_are_in_the_weights_file(cross, step, attention):
    assert {name.split(".")[2] for name in cross.check_weights()} == {"q_proj", "out_proj"}
    # The keys and values of memory are computed by another graph.
    projections = tuple(f"encoder_attn.{x}_proj.{y}" for x in "kv" for y in ("weight", "bias"))
    unused = step.check_weights()
    assert {name.split(".", 2)[2] for name in unused} == set(projections)
    # The attention of the last layer does not depend on what follows it.
    others = attention.check_weights() - unused
    last = f"layers.{len(step.part.module.layers) - 1}."
    assert {"layer_norm.weight", f"{last}fc2.weight"} <= others
    assert all(name.startswith((last, "layer_norm.")) for name in others)


@pytest.mark.parametrize(
    ("images", "positions", "length"), [(1, 1, 1), (1, 5, 2), (3, 1, LONGEST), (4, 8, 7), (2, 7, 4)]
)
def test_whole_texts_equal_the_decoder(decoder, cross, step, attention, images, positions, length):
    memory, mask, tokens = random_text(images, positions, length)
    pairs = project(cross, memory)
    given = text_inputs(tokens, mask) | pairs
    empty = torch.zeros(images, 2, 0, WIDTH // 2)
    cache = {name.replace("cross", "cache"): empty for name in pairs}
    logits, *longer = step.run(**given, **cache)
    with torch.no_grad():
        expected = decoder(memory, tokens[:, None], mask).reshape(images, length, -1)
        weights = decoder.attention(memory, tokens[:, None], mask)[:, 0]
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)
    assert {x.shape for x in longer} == {(images, 2, length, WIDTH // 2)}
    np.testing.assert_allclose(attention.run(**given)[0], weights, atol=TOLERANCE)
    step.check_outputs(**given, **cache)


@pytest.mark.parametrize(("images", "rows"), [(1, 1), (1, 4), (3, 1), (2, 3)])
def test_steps_with_a_cache_equal_whole_texts(decoder, cross, step, images, rows):
    """Each of several rows of an image continues itself, and attends to the cache by a mask."""
    length = 6
    memory, mask, _ = random_text(images, 5, length)
    _, _, tokens = random_text(images * rows, 5, length)
    tokens = tokens.reshape(images, rows, length)
    with torch.no_grad():
        expected = decoder(memory, tokens, mask).reshape(images, rows, length, -1)
    pairs = project(cross, memory)
    names = [name.replace("cross", "cache") for name in pairs]
    cache = [torch.zeros(images, 2, 0, WIDTH // 2) for _ in names]
    visible = torch.zeros(images, rows, 0, dtype=torch.bool)
    for position in range(length):
        own = torch.eye(rows, dtype=torch.bool).repeat(images, 1, 1)
        visible = torch.cat([visible, own], 2)
        logits, *longer = step.run(
            tokens=tokens[..., position],
            positions=torch.full((images, rows), position),
            mask=torch.where(visible, 0.0, FORBIDDEN),
            memory_mask=torch.where(mask, 0.0, FORBIDDEN),
            **pairs,
            **dict(zip(names, cache, strict=True)),
        )
        cache = [torch.from_numpy(x) for x in longer]
        np.testing.assert_allclose(logits, expected[:, :, position], atol=TOLERANCE)


def test_padding_has_the_embedding_of_the_checkpoint(decoder, cross, step):
    """The embedding of PAD is an ordinary row in the graph."""
    memory, mask, tokens = random_text(1, 4, 3)
    tokens[0, 1] = PAD
    pairs = project(cross, memory)
    cache = {name.replace("cross", "cache"): torch.zeros(1, 2, 0, WIDTH // 2) for name in pairs}
    step.check_outputs(**text_inputs(tokens, mask), **pairs, **cache)


@lstm
def test_an_lstm_needs_two_graphs_of_each_decoder(model, folder):
    names = {"caption", "caption_start", "answer", "answer_start", "image", "memory", "question"}
    assert set(list_graph_names(folder)) == names


@lstm
def test_weights_of_an_lstm_are_in_the_weights_file(start, step):
    begins, steps = start.check_weights(), step.check_weights()
    assert not begins & steps
    read = ("decoder.initial.", "decoder.soft_attention.memory.")
    assert steps == {f"{prefix}{kind}" for prefix in read for kind in ("weight", "bias")}


@lstm
@pytest.mark.parametrize(
    ("images", "rows", "positions"), [(1, 1, 1), (1, 4, 9), (3, 1, 2), (2, 3, 7)]
)
@torch.no_grad()
def test_steps_of_an_lstm_equal_the_decoder(decoder, start, step, images, rows, positions):
    length = 6
    memory, mask, _ = random_text(images, positions, length)
    tokens = random_text(images * rows, positions, length)[2].reshape(images, rows, length)
    expected = decoder(memory, tokens, mask).reshape(images, rows, length, -1)
    attention = decoder.attention(memory, tokens, mask)
    start.check_outputs(memory=memory, mask=mask)
    first, keys = map(torch.from_numpy, start.run(memory=memory, mask=mask))
    assert first.shape == (images, 1, 2 * LAYERS, WIDTH)
    state, given = first.repeat(1, rows, 1, 1), {"keys": keys, "memory": memory, "mask": mask}
    for position in range(length):
        logits, next_state, weights = step.run(tokens=tokens[..., position], state=state, **given)
        np.testing.assert_allclose(logits, expected[:, :, position], atol=TOLERANCE)
        np.testing.assert_allclose(weights, attention[:, :, position], atol=TOLERANCE)
        state = torch.from_numpy(next_state)


@lstm
def test_linear_layers_of_an_lstm_are_quantized(step):
    """The gates of each layer, the gate of the context, the query, the output and the logits."""
    copied = onnx.ModelProto()
    copied.CopyFrom(step.proto)
    assert quantize_linear_layers(copied) == LAYERS + 4
