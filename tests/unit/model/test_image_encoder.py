"""Test the features of timm models of every kind, in reading order, and the memory encoder."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captioner.build import build_backbone, feature_shape
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import BackboneConfig, Config, ImageConfig, ModelConfig
from captioner.errors import ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.image_encoder import Backbones, MemoryEncoder

timm = pytest.importorskip("timm")

SIZE = 64
# name, arguments, side of the grid, channels (both from the definitions of the architectures)
FAMILIES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "vit": ("test_vit", {"img_size": SIZE}, 4, 64),
    "vit with four registers": ("test_vit", {"img_size": SIZE, "reg_tokens": 4}, 4, 64),
    "vit without a class": (
        "test_vit",
        {"img_size": SIZE, "class_token": False, "global_pool": "avg"},
        4,
        64,
    ),
    "distilled deit": (
        "deit_tiny_distilled_patch16_224",
        {"img_size": SIZE, "depth": 1, "embed_dim": 48},
        4,
        48,
    ),
    "resnet": ("test_resnet", {}, 2, 96),
    "convnext": ("test_convnext", {}, 2, 64),
    "efficientnet": ("test_efficientnet", {}, 2, 256),
    "mobilenetv3": ("mobilenetv3_small_050", {}, 2, 288),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": SIZE, "window_size": 2, "embed_dim": 24, "depths": (1, 1, 1, 1)},
        2,
        192,
    ),
    "mambaout": ("test_mambaout", {}, 2, 64),
}


def make(name: str, **args: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=0, **args).eval()


def pixels(n: int = 2, size: int = SIZE) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_positions_of_the_grid(family: str) -> None:
    name, args, side, channels = FAMILIES[family]
    features = Backbones([make(name, **args)])(pixels())
    assert features.shape == (2, side * side, channels)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_features_match_what_timm_pools(family: str) -> None:
    """Return timm's own feature grid, (B, C, H, W)."""
    name, args, side, channels = FAMILIES[family]
    model = make(name, **args)
    raw = model.forward_features(pixels())
    if raw.ndim == 3:
        grid = raw[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    elif raw.shape == (2, side, side, channels):
        grid = raw.permute(0, 3, 1, 2)
    else:
        grid = raw
    features = Backbones([model])(pixels())
    for row in range(side):
        for column in range(side):
            place = features[:, row * side + column]
            torch.testing.assert_close(place, grid[:, :, row, column])


@torch.no_grad()
@pytest.mark.parametrize("family", ["resnet", "convnext", "mambaout"])
def test_a_change_in_a_corner_affects_that_position_most(family: str) -> None:
    """Positions are ordered by rows from the top, each from the left, as the pixels show."""
    name, args, side, _ = FAMILIES[family]
    backbone = Backbones([make(name, **args)])
    size = 2 * SIZE
    side *= 2
    before = pixels(1, size)
    for corner, (top, left) in {
        0: (0, 0),
        side - 1: (0, size - 32),
        side * (side - 1): (size - 32, 0),
        side * side - 1: (size - 32, size - 32),
    }.items():
        after = before.clone()
        after[..., top : top + 32, left : left + 32] += 3
        moved = (backbone(after) - backbone(before)).norm(dim=-1)[0]
        assert moved.argmax() == corner


@torch.no_grad()
def test_class_and_register_tokens_are_removed() -> None:
    model = make("test_vit", img_size=SIZE, reg_tokens=4)
    tokens = model.forward_features(pixels())
    assert tokens.shape[1] == 16 + 5
    assert torch.equal(Backbones([model])(pixels()), tokens[:, 5:])


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_mambaout", "test_resnet"])
def test_the_layout_does_not_depend_on_the_number_of_channels(name: str) -> None:
    """A model without its last stage has another number of channels than timm reports."""
    remove = {"test_mambaout": "stages.3", "test_resnet": "layer4"}[name]
    backbone, _ = build_backbone(tiny((name, {}), remove=(remove,)))
    channels = {"test_mambaout": 48, "test_resnet": 192}[name]
    assert backbone.eval()(pixels()).shape == (2, 16, channels)


@torch.no_grad()
def test_features_of_several_backbones_are_concatenated() -> None:
    models = [make("test_resnet"), make("test_mambaout"), make("test_efficientnet")]
    together = Backbones(models)(pixels())
    parts = [Backbones([m])(pixels()) for m in models]
    assert torch.equal(together, torch.cat(parts, -1))
    assert together.shape == (2, 4, 96 + 64 + 256)


def tiny(
    *models: tuple[str, dict[str, Any]], size: int = SIZE, remove: tuple[str, ...] = ()
) -> Config:
    backbones = tuple(
        BackboneConfig(name, weights="none", remove=remove, args=args) for name, args in models
    )
    image = ImageConfig(size=size)
    return dataclasses.replace(Config(), image=image, model=ModelConfig(backbones=backbones))


def shape(config: Config) -> tuple[int, int]:
    backbone, config = build_backbone(config)
    return feature_shape(backbone, pixel_spec(config))


@pytest.mark.parametrize("family", FAMILIES)
def test_feature_shape_is_that_of_the_model_family(family: str) -> None:
    name, args, side, channels = FAMILIES[family]
    assert shape(tiny((name, args))) == (side * side, channels)


def test_feature_shape_does_not_change_the_backbone() -> None:
    backbone = Backbones([make("test_resnet")])
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    for training in (True, False):
        backbone.train(training)
        feature_shape(backbone, PixelSpec((SIZE, SIZE), (0.5,) * 3, (0.5,) * 3))
        assert backbone.training is training
        assert all(m.training is training for m in backbone.modules())
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_different_grids_are_an_error() -> None:
    with pytest.raises(ConfigError, match="64 pixels") as caught:
        shape(tiny(("test_resnet", {}), ("test_vit", {"img_size": SIZE})))
    assert "\n" not in str(caught.value)


def test_an_unsupported_input_size_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"image\.size"):
        shape(tiny(("vit_tiny_patch16_224", {"depth": 1, "embed_dim": 48}), size=96))


def test_several_feature_maps_are_an_error() -> None:
    class Pyramid(nn.Linear):
        def forward_features(self, x: Tensor) -> list[Tensor]:
            return [x, x]

    with pytest.raises(ConfigError, match="Pyramid returns several"):
        feature_shape(Backbones([Pyramid(1, 1)]), PixelSpec((8, 8), (0.5,) * 3, (0.5,) * 3))


def test_the_pixel_spec_is_that_of_the_first_backbone() -> None:
    config = tiny(("test_vit", {}))
    config = dataclasses.replace(config, image=ImageConfig())
    _, completed = build_backbone(config)
    own = timm.create_model("test_vit", pretrained=False).pretrained_cfg
    assert completed.image.size == own["input_size"][-1]
    assert completed.image.mean == tuple(own["mean"])
    assert completed.image.std == tuple(own["std"])


def test_unknown_backbone_names_are_errors_with_their_key() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbones\.0.*'test_vitt'.*test_vit"):
        build_backbone(tiny(("test_vitt", {})))
    with pytest.raises(ConfigError, match=r"model\.backbones\.0\.remove.*'layer9'"):
        build_backbone(tiny(("test_resnet", {}), remove=("layer9",)))


def make_encoder(**options: Any) -> MemoryEncoder:
    torch.manual_seed(0)
    sizes = {"width": 12, "heads": 3, "ffn": 20, "layers": 2}
    return MemoryEncoder(10, 7, **sizes, **options)


def test_memory_has_the_positions_of_the_features() -> None:
    assert make_encoder()(torch.randn(2, 7, 10)).shape == (2, 7, 12)


@torch.no_grad()
def test_memory_does_not_depend_on_other_images() -> None:
    encoder, x = make_encoder().double().eval(), torch.randn(3, 7, 10, dtype=torch.float64)
    alone = torch.cat([encoder(row[None]) for row in x])
    torch.testing.assert_close(encoder(x), alone)


@torch.no_grad()
def test_memory_depends_on_position_only_through_embeddings() -> None:
    encoder, x = make_encoder().double().eval(), torch.randn(1, 7, 10, dtype=torch.float64)
    order = torch.randperm(7)
    assert not torch.allclose(encoder(x[:, order]), encoder(x)[:, order])
    expected = encoder(x)[:, order]
    encoder.positions.copy_(encoder.positions[order])
    torch.testing.assert_close(encoder(x[:, order]), expected)


@torch.no_grad()
def test_resized_position_embeddings_keep_their_layout() -> None:
    """Resized embeddings still increase with row and column, and stay within the same range."""
    sizes = {"width": 12, "heads": 3, "ffn": 20, "layers": 2}
    encoder = MemoryEncoder(10, 16, **sizes)
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    encoder.positions.zero_()
    encoder.positions[:, 0], encoder.positions[:, 1] = rows.flatten(), columns.flatten()
    encoder.resize(64)
    found = encoder.positions.unflatten(0, (8, 8))
    expected = (torch.arange(8.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(
        found[2:-2, :, 0], expected[2:-2, None].expand(-1, 8), atol=0.2, rtol=0
    )
    torch.testing.assert_close(found[..., 0], found[..., 1].T)
    assert (found[1:, :, 0] > found[:-1, :, 0]).all()
    assert not found[..., 2:].any()
    assert encoder(torch.randn(2, 64, 10)).shape == (2, 64, 12)


@pytest.mark.parametrize(("before", "after"), [(7, 16), (16, 7)])
def test_only_square_grids_are_resized(before: int, after: int) -> None:
    encoder = MemoryEncoder(10, before, width=12, heads=3, ffn=20, layers=1)
    with pytest.raises(ValueError, match="square"):
        encoder.resize(after)


@torch.no_grad()
def test_memory_does_not_depend_on_the_scale_of_features() -> None:
    encoder, x = make_encoder().double().eval(), torch.randn(1, 7, 10, dtype=torch.float64)
    torch.testing.assert_close(encoder(x), encoder(50 * x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dropout", "feature_dropout"])
def test_dropout_is_active_only_in_training(kind: str) -> None:
    encoder, x = make_encoder(**{kind: 0.5}), torch.randn(2, 7, 10)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    torch.testing.assert_close(encoder(x), make_encoder().eval()(x))
