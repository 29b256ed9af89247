"""Build graph layers from a configuration."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from captioner.config import GraphConfig, ModelConfig
from captioner.config.model_section import GraphLayerKind
from captioner.model.graph_layers import (
    GraphAttention,
    GraphAttentionV2,
    GraphConvolution,
    GraphLayer,
)
from captioner.model.position_graph import PositionGraph


def build_position_graph(config: ModelConfig, graph: GraphConfig) -> PositionGraph:
    """Build the graph layers between the positions of an image."""
    layers = build_graph_layers(config, graph.layer, layers=graph.layers, heads=graph.heads)
    return PositionGraph(layers, neighbors=graph.neighbors)


def build_graph_layers(
    config: ModelConfig, kind: GraphLayerKind, *, layers: int, heads: int
) -> list[GraphLayer]:
    """Build graph layers with the width, feed-forward width and dropout of the model."""
    width = config.width
    builders: dict[str, Callable[[], nn.Module]] = {
        "gcn": lambda: GraphConvolution(width),
        "gat": lambda: GraphAttention(width, heads),
        "gatv2": lambda: GraphAttentionV2(width, heads),
    }
    return [
        GraphLayer(builders[kind](), width=width, ffn=config.ffn, dropout=config.dropout)
        for _ in range(layers)
    ]
