"""Graphs from memory and questions to fused memory, for each fusion and question encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graph_export import TOLERANCE, Graph, make_model
from tiny import make_text_encoder

from captioner.checkpoint.graph_files import QUESTION
from captioner.config import QuestionConfig

pytestmark = pytest.mark.slow
LONGEST = 12
SIZES = ((1, 1, 1), (1, 3, LONGEST), (4, 2, 7), (3, 1, 2), (2, 6, 5))
"""Images, questions, and tokens of the longest question."""


def inputs(model, images: int, questions: int, length: int) -> dict[str, torch.Tensor]:
    """Return random memory and questions of different lengths, the first of which is longest."""
    generator = torch.Generator().manual_seed(images * 100 + questions * 10 + length)
    encoder = model.memory_encoder
    shape = (images, len(encoder.positions), encoder.projection.out_features)
    ids = torch.randint(4, 20, (questions, length), generator=generator)
    lengths = torch.randint(1, length + 1, (questions, 1), generator=generator)
    lengths[0] = length
    return {
        "memory": torch.randn(shape, generator=generator),
        "owners": torch.randint(images, (questions,), generator=generator),
        "questions": ids.where(torch.arange(length) < lengths, model.pad),
    }


def check(model, folder) -> Graph:
    """Compare the graph with the model at all sizes; return the graph."""
    graph = Graph(model, folder, QUESTION)
    for sizes in SIZES:
        given = inputs(model, *sizes)
        with torch.no_grad():
            state, mask = model.fuse_questions(given["memory"], given["questions"], given["owners"])
        found, *masks = graph.run(**given)
        # Positions of padding are ignored, and may differ.
        rows = torch.ones(state.shape[:2], dtype=torch.bool) if mask is None else mask
        np.testing.assert_allclose(found[rows.numpy()], state[rows], atol=TOLERANCE)
        assert [x.tolist() for x in masks] == ([] if mask is None else [mask.tolist()])
    return graph


@pytest.mark.parametrize(
    ("fusion", "layers", "memory"),
    [
        ("concat", 2, "token"),
        ("cross_attention", 0, "token"),
        ("cross_attention", 2, "token"),
        ("graph", 2, "token"),
        ("add", 0, "token"),
        ("multiply", 2, "token"),
        ("linear", 0, "token"),
        ("linear", 2, "each"),
    ],
)
def test_fused_memory_equals_that_of_torch(fusion, layers, memory, tmp_path):
    question = QuestionConfig(
        graph_neighbors=2,
        encoder_layers=layers,
        fusion=fusion,
        fusion_layers=2,
        linear_memory=memory,
        max_length=LONGEST,
    )
    folder = tmp_path / "best"
    model = make_model(folder, question=question, save_dtype="float16")
    assert check(model, folder).check_weights() == set()


@pytest.mark.parametrize(
    ("encoder", "fusion", "layer"),
    [("lstm", "concat", "gcn"), ("gru", "graph", "gatv2"), ("lstm", "graph", "gcn")],
)
def test_a_recurrent_encoder_is_part_of_the_graph(encoder, fusion, layer, tmp_path):
    question = QuestionConfig(encoder=encoder, fusion=fusion, graph_layer=layer, max_length=LONGEST)
    folder = tmp_path / "best"
    model = make_model(folder, question=question, save_dtype="float16")
    assert check(model, folder).check_weights() == set()


def test_a_hugging_face_encoder_is_part_of_the_graph(tmp_path):
    encoder = str(make_text_encoder(tmp_path / "words"))
    question = QuestionConfig(encoder=encoder, fusion="multiply", max_length=LONGEST)
    folder = tmp_path / "best"
    model = make_model(folder, question=question)
    assert model.pad != 0
    unused = check(model, folder).check_weights()
    # The output of BERT's pooler is not used, and no token of captions.
    assert {name.removeprefix("question_encoder.model.") for name in unused} == {
        *("pooler.dense.weight", "pooler.dense.bias", "embed_tokens.weight"),
    }
