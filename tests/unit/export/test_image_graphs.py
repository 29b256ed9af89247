"""Graphs from pixels to memory, for convolutional networks, transformers and both together."""

from __future__ import annotations

import re

import pytest
import torch
from graph_export import RESNET, SIZE, SWIN, VIT, Graph, make_model, stored_types

from captioner.checkpoint.graph_files import IMAGE, MEMORY, SMALL_IMAGE
from captioner.config import BackboneConfig, GraphConfig
from captioner.export.onnx_graphs import model_parts

CONVNEXT = BackboneConfig("test_convnext", "none")
BACKBONES = {
    "convolutional": (RESNET,),
    "class token": (VIT,),
    "NHWC": (SWIN,),
    "two": (RESNET, CONVNEXT),
}


def pixels(images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(images)
    return torch.randn(images, 3, SIZE, SIZE, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKBONES)
def test_features_equal_those_of_the_backbone(kind, tmp_path):
    graph = Graph(make_model(tmp_path / "best", *BACKBONES[kind]), tmp_path / "best", IMAGE)
    for images in (1, 2, 5):
        graph.check_outputs(pixels=pixels(images))
    # timm's models keep a norm before the classifier that `forward_features` does not use.
    assert all(".head.norm." in name for name in graph.check_weights())
    _, positions, channels = graph.session.get_outputs()[0].shape
    assert (positions, channels) == tuple(graph.part.module.shape)


@pytest.mark.slow
def test_the_blind_baseline_needs_no_weights_for_its_features(tmp_path):
    graph = Graph(make_model(tmp_path / "best", blind=True), tmp_path / "best", IMAGE)
    for images in (1, 4):
        graph.check_outputs(pixels=pixels(images))
        (features,) = graph.run(pixels=pixels(images))
        assert not features.any()
    assert [x for x in graph.proto.graph.initializer if x.external_data] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_memory_equals_that_of_torch_for_each_stored_type(dtype, tmp_path):
    folder = tmp_path / "best"
    model = make_model(folder, save_dtype=dtype)
    assert stored_types(folder) == {getattr(torch, dtype)}
    graph = Graph(model, folder, MEMORY)
    channels = model.memory_encoder.projection.in_features
    for images in (1, 3):
        features = torch.randn(images, len(model.memory_encoder.positions), channels)
        graph.check_outputs(features=features)
    assert graph.check_weights() == set()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["gcn", "gat", "gatv2"])
def test_memory_of_graph_layers_equals_that_of_torch(layer, tmp_path):
    folder = tmp_path / "best"
    tokens = BackboneConfig("test_vit", "none", (), {"img_size": 64, "patch_size": 8})
    model = make_model(folder, tokens, graph=GraphConfig(layer=layer, layers=2, neighbors=5))
    graph = Graph(model, folder, MEMORY)
    for images in (1, 3):
        graph.check_outputs(features=torch.randn(images, 64, 64))
    # The edges of the grid, and a self-loop of each position in each layer.
    assert graph.check_weights(constants=1500 + 3 * 64**2) == set()


def test_smaller_views_depend_on_the_backbone(tmp_path):
    fixed = BackboneConfig("test_vit", "none", (), VIT.args | {"dynamic_img_size": False})
    found = []
    for number, backbone in enumerate((RESNET, fixed)):
        model = make_model(tmp_path / str(number), backbone)
        found.append(SMALL_IMAGE in dict(model_parts(model, (3, SIZE, SIZE))))
    # A grid of 2 x 2 becomes one of 1 x 1; the transformer takes images of one size.
    assert found == [True, False]


class Unsupported(torch.nn.Module):
    """Features with an operator that ONNX does not have."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(pixels[:, :1, :2, :48].flatten(1, 2))


def test_an_unsupported_operator_is_one_line_and_leaves_no_graph(tmp_path, monkeypatch, capsys):
    from captioner.cli import export
    from captioner.export import onnx_graphs

    folder = tmp_path / "best"
    make_model(folder)
    load = onnx_graphs.load_checkpoint

    def load_changed(name, **options):
        model, *rest = load(name, **options)
        model.backbone = Unsupported()
        return model, *rest

    monkeypatch.setattr(onnx_graphs, "load_checkpoint", load_changed)
    assert export.main([str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    progress, problem = err.splitlines()
    assert progress == "captioner export: tracing image"
    assert re.fullmatch(r".*: the graph 'image' cannot be exported: .*bessel_j0.*", problem)
    assert list(folder.glob("*.onnx")) == []
