"""Compare MobileNet with timm's, before and after folding the batch norms."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captioner.build import build_backbone, build_model, feature_shape, load_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import BackboneConfig, Config, ImageConfig, ModelConfig, save_config
from captioner.errors import CheckpointError
from captioner.model.cpu.mobilenet import MobileNet, is_supported_mobilenet
from captioner.tokenizer import Tokenizer

timm = pytest.importorskip("timm")

SAME = {"pad_type": "same"}
V1 = BackboneConfig(
    "mobilenetv1_100", weights="none", remove=("blocks.4.1",), args={**SAME, "bn_eps": 1e-3}
)
V2 = BackboneConfig("mobilenetv2_100", weights="none", args=SAME)
WHOLE_V1 = dataclasses.replace(V1, remove=(), args=SAME)
LITE2 = BackboneConfig("tf_efficientnet_lite2", weights="none")
KINDS = {"v1 without its last block": V1, "v1": WHOLE_V1, "v2": V2, "lite2": LITE2}


def randomise(model: nn.Module) -> None:
    """Set batch norms far from the identity, with scales that preserve the signal."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, mean=0.2, std=0.3)
        elif isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)


def make_twin(config: BackboneConfig) -> MobileNet:
    args = {k: v for k, v in config.args.items() if k != "pad_type"}
    return MobileNet(config.name, remove=config.remove, **args).eval()


@cache
def pair(kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return timm's model in float64 and its weights."""
    torch.manual_seed(0)
    config = KINDS[kind]
    backbone, _ = build_backbone(dataclasses.replace(Config(), model=ModelConfig((config,))))
    [theirs] = backbone.models
    randomise(theirs)
    return theirs.double().eval(), theirs.state_dict()


def twin(kind: str) -> MobileNet:
    model = make_twin(KINDS[kind]).double()
    model.load_state_dict(pair(kind)[1])
    return model


def pixels(*size: int) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    return torch.randn(1, 3, *size, generator=rng, dtype=torch.float64)


def close(one: Tensor, two: Tensor) -> None:
    """Compare in float64, because random norms amplify rounding errors by thousands."""
    assert one.shape == two.shape
    assert two.std() > 0.1
    assert (one - two).abs().max() < 1e-8 * two.std()


@torch.no_grad()
@pytest.mark.parametrize("size", [(224, 224), (160, 160), (97, 97), (65, 130), (33, 31)])
@pytest.mark.parametrize("kind", KINDS)
def test_features_match_timm(kind: str, size: tuple[int, int]) -> None:
    x = pixels(*size)
    close(twin(kind).forward_features(x), pair(kind)[0].forward_features(x))


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_names_and_shapes_match_timm(kind: str) -> None:
    theirs, state = pair(kind)
    own = make_twin(KINDS[kind]).state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in state.items()}
    with torch.no_grad():
        features = twin(kind).forward_features(pixels(64, 64))
    assert features.shape == (1, theirs.num_features, 2, 2)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_folding_batch_norms_does_not_change_features(kind: str) -> None:
    model, x = twin(kind), pixels(97, 65)
    before = model.forward_features(x)
    model.fold_batch_norms()
    close(model.forward_features(x), before)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_epsilon_changes_features(kind: str) -> None:
    """The comparison above can distinguish 1e-3 from 1e-5."""
    config = KINDS[kind]
    eps = 1e-3 if kind in ("v1", "v2") else 1e-5
    other = dataclasses.replace(config, args={**SAME, "bn_eps": eps})
    model = make_twin(other).double()
    model.load_state_dict(pair(kind)[1])
    x = pixels(64, 64)
    with torch.no_grad(), pytest.raises(AssertionError):
        close(model.forward_features(x), pair(kind)[0].forward_features(x))


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("mobilenetv1_100", SAME, True),
        ("mobilenetv1_100", {**SAME, "bn_eps": 1e-3}, True),
        ("mobilenetv2_100", SAME, True),
        ("mobilenetv2_100", {}, False),
        ("mobilenetv2_100", {"pad_type": ""}, False),
        ("mobilenetv2_100", {**SAME, "output_stride": 16}, False),
        ("mobilenetv2_140", SAME, False),
        ("tf_efficientnet_lite2", {}, True),
        ("tf_efficientnet_lite2", {"bn_eps": 1e-5}, True),
        ("tf_efficientnet_lite2", {"output_stride": 16}, False),
        ("tf_efficientnet_lite1", {}, False),
        ("test_resnet", {}, False),
    ],
)
def test_only_exactly_known_models_are_supported(
    name: str, args: dict[str, Any], expected: bool
) -> None:
    assert is_supported_mobilenet(name, args) is expected


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint as training does: timm's models, a small decoder, random weights."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    model = ModelConfig(
        (V1, V2), width=16, heads=2, ffn=24, encoder_layers=1, decoder_layers=1, max_length=30
    )
    config = dataclasses.replace(Config(), model=model, image=ImageConfig(size=64))
    backbone, config = build_backbone(config)
    randomise(backbone)
    positions, channels = feature_shape(backbone, pixel_spec(config))
    tokenizer = Tokenizer.train(["a dog runs", "two cats sit on a mat"] * 5, vocab_size=300)
    whole = build_model(
        config.model, backbone, tokenizer=tokenizer, channels=channels, positions=positions
    )
    state = {k: v for k, v in whole.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, folder / "model.safetensors")
    save_config(config, folder / "config.yaml")
    (folder / "tokenizer.model").write_bytes(tokenizer.model)
    return folder


@torch.no_grad()
def test_memory_is_equal_with_and_without_timm(checkpoint: Path) -> None:
    light, *_ = load_checkpoint(checkpoint)
    full, *_ = load_checkpoint(checkpoint, for_training=True)
    assert all(isinstance(m, MobileNet) for m in light.backbone.models)
    assert not any(isinstance(m, MobileNet) for m in full.backbone.models)
    assert not light.training
    assert not full.training
    x = torch.randn(2, 3, 64, 64)
    expected = full.encode(x)
    assert expected.shape == (2, 4, 16)
    torch.testing.assert_close(light.encode(x), expected, atol=5e-3, rtol=0)
    tokens = torch.tensor([[[2, 5, 6]], [[2, 7, 0]]])
    torch.testing.assert_close(light(x, tokens), full(x, tokens), atol=5e-3, rtol=0)


@torch.no_grad()
def test_memory_of_pixels_equals_memory_of_their_features(checkpoint: Path) -> None:
    model, *_ = load_checkpoint(checkpoint)
    x = torch.randn(2, 3, 64, 64)
    features = model.backbone(x)
    assert features.shape == (2, 4, 1024 + 1280)
    assert torch.equal(model.encode(features), model.encode(x))
    assert model.encode(features.half()).dtype == torch.float32  # as stored features may be


@pytest.mark.parametrize(
    ("change", "for_training"),
    [
        *((change, False) for change in ("missing", "extra", "shape", "foreign", "torn", "none")),
        ("missing", True),
    ],
)
def test_weights_of_other_shapes_are_one_error(
    checkpoint: Path, tmp_path: Path, change: str, for_training: bool
) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(checkpoint / "model.safetensors")
    name = "backbone.models.0.blocks.0.0.bn1.weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["backbone.models.0.blocks.9.weight"] = torch.zeros(1)
    elif change == "shape":
        state[name] = torch.zeros(3)
    elif change == "foreign":
        state = {"weight": torch.zeros(2)}
    for file in ("config.yaml", "tokenizer.model"):
        (tmp_path / file).write_bytes((checkpoint / file).read_bytes())
    path = tmp_path / "model.safetensors"
    if change != "none":
        save_file(state, path)
    if change == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="test_weights_of_other_shapes") as caught:
        load_checkpoint(tmp_path, for_training=for_training)
    assert "\n" not in str(caught.value)
