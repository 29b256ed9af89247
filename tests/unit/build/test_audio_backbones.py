"""Backbones of spectrograms: one input channel, and grids that are not square."""

from __future__ import annotations

import dataclasses

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_audio import audio_config

from captioner.build import build_audio_backbone, feature_shape
from captioner.checkpoint.audio_format import audio_spec, first_spec, second_spec
from captioner.config import AudioEncoderConfig, BackboneConfig, Config, ModelConfig
from captioner.errors import CaptionerError, ConfigError

pytestmark = pytest.mark.slow  # timm


def with_backbone(name: str, weights: str = "none") -> Config:
    """Return the configuration of a model of recordings with this backbone."""
    config = audio_config()
    audio = AudioEncoderConfig((BackboneConfig(name, weights),))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, audio=audio))


@pytest.mark.parametrize(("name", "positions"), [("test_efficientnet", 2), ("test_vit", 8)])
def test_the_grid_is_that_of_the_spectrogram(name, positions):
    config = with_backbone(name)
    backbone = build_audio_backbone(config)
    assert feature_shape(backbone, audio_spec(config))[0] == positions  # of 32 x 64


def test_weights_of_the_first_convolution_are_summed_over_the_channels(tmp_path):
    image_model = timm.create_model("test_efficientnet", num_classes=0)
    save_file(image_model.state_dict(), tmp_path / "weights.safetensors")
    config = with_backbone("test_efficientnet", str(tmp_path / "weights.safetensors"))
    backbone = build_audio_backbone(config).eval()
    gray = torch.randn(2, 1, 32, 64)
    expected = image_model.eval().forward_features(gray.expand(-1, 3, -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(backbone(gray), expected.flatten(2).transpose(1, 2))


def test_position_embeddings_of_an_image_model_are_interpolated(tmp_path):
    image_model = timm.create_model("test_vit", num_classes=0)
    save_file(image_model.state_dict(), tmp_path / "weights.safetensors")
    model = build_audio_backbone(
        with_backbone("test_vit", str(tmp_path / "weights.safetensors"))
    ).models[0]
    assert model.patch_embed.grid_size == (2, 4)
    for name, value in model.state_dict().items():
        if name not in ("pos_embed", "patch_embed.proj.weight"):
            assert torch.equal(value, image_model.state_dict()[name])


def test_a_grid_that_does_not_fit_is_a_config_error():
    config = with_backbone("test_vit")
    config = dataclasses.replace(config, audio=dataclasses.replace(config.audio, mels=33))
    with pytest.raises(ConfigError, match=r"model\.audio\.backbones.* 33 x 64"):
        feature_shape(build_audio_backbone(config), audio_spec(config))


def test_the_first_encoder_takes_recordings_only_without_images():
    sounds, both = audio_config(), audio_config(images=True)
    assert (first_spec(sounds), second_spec(sounds)) == (audio_spec(sounds), None)
    assert first_spec(both).shape == (3, 64, 64)
    assert second_spec(both) == audio_spec(both)
    assert second_spec(dataclasses.replace(both, model=ModelConfig())) is None


def test_a_model_needs_an_encoder():
    with pytest.raises(CaptionerError, match=r"model\.backbones is empty"):
        ModelConfig(backbones=())
