"""Test the edges between positions, and memory encoders with graph layers on them."""

from __future__ import annotations

import pytest
import torch
from small_models import small_model, train_small_tokenizer
from torch import nn

from captioner.build.graphs import build_position_graph
from captioner.config import GraphConfig, ModelConfig
from captioner.model.cpu.packed import pack_linear_layers
from captioner.model.layer_units import list_units
from captioner.model.position_graph import grid_edges, nearest_edges, position_edges

SIZES = ModelConfig(width=12, heads=3, ffn=20)
KINDS = ("gcn", "gat", "gatv2")


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (3, 3), (2, 4), (4, 2)])
def test_grid_edges_join_positions_that_touch(grid: tuple[int, int]) -> None:
    height, width = grid
    places = [(row, column) for row in range(height) for column in range(width)]
    expected = [
        [max(abs(one[0] - two[0]), abs(one[1] - two[1])) <= 1 for two in places] for one in places
    ]
    assert grid_edges(grid).tolist() == expected


def test_nearest_edges_join_the_most_similar_positions() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 4)
    found = nearest_edges(x, 2)
    for image, edges in zip(x, found, strict=True):
        similarity = torch.cosine_similarity(image[:, None], image[None], dim=-1)
        chosen = set()
        for i in range(7):
            others = sorted((j for j in range(7) if j != i), key=lambda j: -similarity[i, j])
            chosen |= {(i, j) for j in others[:2]}
        expected = chosen | {(j, i) for i, j in chosen} | {(i, i) for i in range(7)}
        assert {tuple(pair) for pair in edges.nonzero().tolist()} == expected


def test_equally_similar_positions_are_all_neighbors() -> None:
    x = torch.eye(3)[[0, 1, 1, 1, 2]][None]
    x[0, 0, 2] = 0.5  # 0 and 4 are the nearest of each other
    edges = nearest_edges(x, 1)[0]
    groups = torch.tensor([0, 1, 1, 1, 0])
    assert torch.equal(edges, groups[:, None] == groups)
    order = torch.tensor([3, 4, 0, 2, 1])
    assert torch.equal(nearest_edges(x[:, order], 1)[0], edges[order][:, order])


@pytest.mark.parametrize(
    ("positions", "grid", "expected"),
    [(9, None, (3, 3)), (8, None, (1, 8)), (8, (2, 4), (2, 4)), (9, (1, 9), (1, 9))],
)
def test_the_grid_is_given_or_a_square_or_a_row(positions, grid, expected) -> None:
    x = torch.randn(2, positions, 4)
    assert torch.equal(position_edges(x, 0, grid), grid_edges(expected).expand(2, -1, -1))


@pytest.mark.parametrize("neighbors", [1, 3, 4, 99])
def test_edges_are_those_of_the_grid_and_the_nearest(neighbors: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6)
    edges = position_edges(x, neighbors)
    assert torch.equal(edges, edges.mT)
    assert edges.diagonal(dim1=1, dim2=2).all()
    assert torch.equal(edges, grid_edges((1, 5)) | nearest_edges(x, min(neighbors, 4)))
    if neighbors >= 4:
        assert edges.all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_encoder_with_graph_layers_keeps_its_other_parameters(kind: str) -> None:
    tokenizer = train_small_tokenizer()
    plain, model = small_model(tokenizer), small_model(tokenizer, graph=GraphConfig(kind, heads=2))
    names = [name for name, _ in plain.named_parameters()]
    added = [name for name, _ in model.named_parameters() if name not in names]
    assert [name for name, _ in model.named_parameters() if name in names] == names
    assert all(name.startswith("memory_encoder.graph.layers.0.") for name in added)
    assert "memory_encoder.graph.layers.0.ffn" in list_units(model)
    images = torch.randn(2, 3, 16, 16)
    loss = model(images, torch.tensor([[[2, 9, 8]]]).expand(2, 1, 3)).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert name.endswith("k_proj.bias") or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("int8", [False, True])
@torch.inference_mode()
def test_packed_graph_layers_equal_unpacked_ones(int8: bool) -> None:
    torch.manual_seed(0)
    layers = [build_position_graph(SIZES, GraphConfig(kind, heads=2)).eval() for kind in KINDS]
    x = torch.randn(3, 9, 12)
    for encoder in layers:
        expected = encoder(x)
        pack_linear_layers(encoder, int8=int8)
        assert not any(type(layer) is nn.Linear for layer in encoder.modules())
        assert (encoder(x) - expected).abs().max() < (0.1 if int8 else 1e-5) * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_states_reach_one_more_neighborhood_with_each_layer(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 25, 12, dtype=torch.float64)
    for layers in (1, 2):
        graph = GraphConfig(layer=kind, layers=layers, neighbors=0, heads=2)
        encoder = build_position_graph(SIZES, graph).double().eval()
        assert len(encoder.layers) == layers
        other = x.clone()
        other[0, 0, 0] += 1  # the upper left corner of 5 x 5
        changed = ((encoder(other) - encoder(x)).abs().amax(-1)[0] > 1e-9).view(5, 5)
        expected = torch.zeros(5, 5, dtype=torch.bool)
        expected[: layers + 1, : layers + 1] = True
        assert torch.equal(changed, expected)
