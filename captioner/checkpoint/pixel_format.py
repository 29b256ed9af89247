"""The input format of a checkpoint's image encoder."""

from __future__ import annotations

from captioner.config import Config
from captioner.images.transforms import PixelSpec


def pixel_spec(config: Config) -> PixelSpec:
    """Return the format of a configuration in which size, mean and deviation are set.

    `captioner.build.build_backbone` sets them, and checkpoints store them.
    """
    image = config.image
    assert image.size is not None
    assert image.mean is not None
    assert image.std is not None
    return PixelSpec((image.size, image.size), image.mean, image.std, image.resize)
