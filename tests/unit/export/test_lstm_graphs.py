"""Graphs of an LSTM decoder: its first state, and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_export import TOLERANCE, Graph, make_model

from captioner.checkpoint.graph_files import ANSWER, CAPTION, START, list_graph_names
from captioner.config import QuestionConfig
from captioner.export.quantization import quantize_linear_layers
from captioner.model.decoder import Decoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import BOS

pytestmark = pytest.mark.slow
WIDTH, LAYERS = 16, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoders") / "best"


@pytest.fixture(scope="module")
def model(folder) -> Seq2Seq:
    """A model with a separate decoder for answers, which shares the embedding of tokens."""
    question = QuestionConfig(fusion="add", decoder_layers=LAYERS)
    return make_model(folder, question=question, save_dtype="float16", decoder="lstm")


@pytest.fixture(scope="module", params=[CAPTION, ANSWER])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def decoder(model, name) -> Decoder:
    return model.decoder_for(answers=name == ANSWER)


@pytest.fixture(scope="module")
def start(model, folder, name) -> Graph:
    return Graph(model, folder, f"{name}_{START}")


@pytest.fixture(scope="module")
def step(model, folder, name) -> Graph:
    return Graph(model, folder, name)


def random_memory(images: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(images + 10 * positions)
    mask = torch.rand(images, positions, generator=generator) < 0.7
    mask[:, 0] = True
    return torch.randn(images, positions, WIDTH, generator=generator), mask


def test_a_checkpoint_needs_two_graphs_of_each_decoder(model, folder):
    names = {"caption", "caption_start", "answer", "answer_start", "image", "memory", "question"}
    assert set(list_graph_names(folder)) == names


def test_weights_are_in_the_weights_file(start, step):
    begins, steps = start.check_weights(), step.check_weights()
    assert not begins & steps
    read = ("decoder.initial.", "decoder.soft_attention.memory.")
    assert steps == {f"{prefix}{kind}" for prefix in read for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("images", "rows", "positions"), [(1, 1, 1), (1, 4, 9), (3, 1, 2), (2, 3, 7)]
)
@torch.no_grad()
def test_steps_equal_the_decoder(decoder, start, step, images, rows, positions):
    memory, mask = random_memory(images, positions)
    tokens = torch.randint(4, 200, (images, rows, 6), generator=torch.Generator().manual_seed(1))
    tokens[..., 0] = BOS
    expected = decoder(memory, tokens, mask).reshape(images, rows, 6, -1)
    attention = decoder.attention(memory, tokens, mask)
    start.check_outputs(memory=memory, mask=mask)
    first, keys = map(torch.from_numpy, start.run(memory=memory, mask=mask))
    assert first.shape == (images, 1, 2 * LAYERS, WIDTH)
    state, given = first.repeat(1, rows, 1, 1), {"keys": keys, "memory": memory, "mask": mask}
    for position in range(6):
        inputs = {"tokens": tokens[..., position], "state": state} | given
        logits, found, weights = step.run(**inputs)
        np.testing.assert_allclose(logits, expected[:, :, position], atol=TOLERANCE)
        np.testing.assert_allclose(weights, attention[:, :, position], atol=TOLERANCE)
        state = torch.from_numpy(found)


def test_linear_layers_are_quantized(step):
    """The gates of each layer, the gate of the context, the query, the output and the logits."""
    copied = onnx.ModelProto()
    copied.CopyFrom(step.proto)
    assert quantize_linear_layers(copied) == LAYERS + 4
