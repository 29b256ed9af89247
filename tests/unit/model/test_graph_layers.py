"""Test graph layers against torch_geometric, and what their outputs depend on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.graph_layers import (
    GraphAttention,
    GraphAttentionV2,
    GraphConvolution,
    GraphLayer,
)

WIDTH, LENGTHS = 12, (9, 1, 5, 4)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: GraphConvolution(WIDTH),
    "gat, 1 head": lambda: GraphAttention(WIDTH, 1),
    "gat, 3 heads": lambda: GraphAttention(WIDTH, 3),
    "gatv2, 1 head": lambda: GraphAttentionV2(WIDTH, 1),
    "gatv2, 4 heads": lambda: GraphAttentionV2(WIDTH, 4),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name: str) -> nn.Module:
    """Return a layer without default weights, so that every weight affects the result."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    return layer


def make_graphs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return states of padded graphs, directed edges with some self-loops, and the mask.

    Some nodes have no edges: the only node of graph 1, and node 2 of the others.
    """
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    edges = torch.rand(len(LENGTHS), max(LENGTHS), max(LENGTHS)) < 0.4
    edges &= mask[:, None] & mask[:, :, None]
    edges[1] = edges[:, 2] = edges[:, :, 2] = False
    return torch.randn(*mask.shape, WIDTH, dtype=dtype), edges, mask


def make_reference(layer: nn.Module) -> nn.Module:
    """Return torch_geometric's layer with the same weights."""
    library = pytest.importorskip("torch_geometric.nn")
    if isinstance(layer, GraphConvolution):
        theirs = library.GCNConv(WIDTH, WIDTH)
        theirs.lin.weight = layer.projection.weight
    elif isinstance(layer, GraphAttention):
        heads = len(layer.source)
        theirs = library.GATConv(WIDTH, WIDTH // heads, heads)
        theirs.lin.weight = layer.projection.weight
        theirs.att_src = nn.Parameter(layer.source[None])
        theirs.att_dst = nn.Parameter(layer.target[None])
    else:
        heads = len(layer.attention)
        theirs = library.GATv2Conv(WIDTH, WIDTH // heads, heads)
        theirs.lin_l, theirs.lin_r = layer.source, layer.target
        theirs.att = nn.Parameter(layer.attention[None])
    theirs.bias = layer.bias
    return theirs


@pytest.mark.slow
@every_layer
@torch.no_grad()
def test_layers_equal_those_of_torch_geometric(name: str) -> None:
    layer, (x, edges, mask) = make(name), make_graphs()
    found, reference = layer(x, edges), make_reference(layer)
    for one, states, adjacency, n in zip(found, x, edges, LENGTHS, strict=True):
        target, source = adjacency[:n, :n].nonzero().T
        expected = reference(states[:n], torch.stack([source, target]))
        torch.testing.assert_close(one[:n], expected, rtol=0, atol=1e-5)
    assert torch.isfinite(found[~mask]).all()


@pytest.mark.slow
@torch.no_grad()
def test_a_convolution_with_weights_equals_that_of_torch_geometric() -> None:
    layer, (x, edges, _) = make("gcn"), make_graphs()
    weights = edges * torch.rand(edges.shape)
    found, reference = layer(x, weights), make_reference(layer)
    for one, states, graph, n in zip(found, x, weights, LENGTHS, strict=True):
        target, source = graph[:n, :n].nonzero().T
        expected = reference(states[:n], torch.stack([source, target]), graph[target, source])
        torch.testing.assert_close(one[:n], expected, rtol=0, atol=1e-5)


@every_layer
@torch.no_grad()
def test_permuted_nodes_have_permuted_states(name: str) -> None:
    layer, (x, edges, _) = make(name).double(), make_graphs(torch.float64)
    order = torch.randperm(x.shape[1])
    found = layer(x[:, order], edges[:, order][:, :, order])
    torch.testing.assert_close(found, layer(x, edges)[:, order])


@every_layer
@torch.no_grad()
def test_padding_and_the_batch_do_not_change_states(name: str) -> None:
    layer, (x, edges, mask) = make(name).double(), make_graphs(torch.float64)
    together = layer(x, edges)
    other = torch.where(mask[..., None], x, 9 * torch.randn_like(x))
    longer = layer(F.pad(other, (0, 0, 0, 3), value=5), F.pad(edges, (0, 3, 0, 3)))
    torch.testing.assert_close(longer[:, : x.shape[1]][mask], together[mask])
    for i, n in enumerate(LENGTHS):
        alone = layer(x[i : i + 1, :n], edges[i : i + 1, :n, :n])
        torch.testing.assert_close(alone[0], together[i, :n])


@every_layer
@torch.no_grad()
def test_a_node_depends_on_itself_and_its_neighbors_only(name: str) -> None:
    layer, (x, edges, _) = make(name).double(), make_graphs(torch.float64)
    other = x.clone()
    other[0, 3] += 1
    changed = (layer(other, edges) - layer(x, edges)).abs().amax(-1)[0] > 1e-9
    assert changed.tolist() == [j == 3 or bool(edges[0, j, 3]) for j in range(x.shape[1])]


@every_layer
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer, (x, edges, _) = make(name).double(), make_graphs(torch.float64)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        weights = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, weights, (x, edges[:, :5, :5]))

    inputs = (x[:, :5].requires_grad_(), *values)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@every_layer
@torch.no_grad()
def test_half_precision_is_close_to_float32(name: str) -> None:
    layer, (x, edges, _) = make(name), make_graphs()
    expected = layer(x, edges)
    found = layer.bfloat16()(x.bfloat16(), edges)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).std() < 0.02 * expected.std()


@pytest.mark.parametrize("name", ["gcn", "gat, 3 heads", "gatv2, 4 heads"])
def test_a_block_adds_to_its_input(name: str) -> None:
    """With zero output weights, a block is the identity; with others, all parameters matter."""
    torch.manual_seed(0)
    block = GraphLayer(LAYERS[name](), width=WIDTH, ffn=20, dropout=0.0)
    x, edges, _ = make_graphs()
    y = block(x, edges)
    (y * torch.randn_like(y)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in block.parameters())
    conv = block.conv
    values = conv.source if isinstance(conv, GraphAttentionV2) else conv.projection
    for layer in (values, block.fc2):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    torch.testing.assert_close(block(x, edges), x)
