"""Read images in the input formats of the members of a backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.backends.base import Pixels
from captioner.images import ImageInput, fit, is_blank, load_image
from captioner.images.transforms import PixelSpec, normalize


class PixelReader:
    """Reads images once for each distinct format of `specs`, the formats of the members."""

    def __init__(self, specs: Sequence[PixelSpec]) -> None:
        self.specs = specs
        self._inputs = list(dict.fromkeys(specs))

    def read(self, image: ImageInput) -> Pixels:
        """Read one image and resize it; raise ImageError."""
        # A large photograph decodes several times as fast at a reduced scale; twice the encoder's
        # size is enough for the resizing filter.
        size = 2 * max(max(spec.size) for spec in self._inputs)
        loaded = load_image(image, min_size=size)
        fitted = [fit(loaded, s.size, crop=s.resize == "crop") for s in self._inputs]
        arrays = tuple(map(normalize, fitted, self._inputs))
        return Pixels(arrays, loaded.size, is_blank(loaded, fitted[0]))

    def stack(self, images: Sequence[Pixels]) -> list[np.ndarray]:
        """Return each member's batch, float32 (B, 3, H, W); members may share one array."""
        batches = list(map(np.stack, zip(*(image.arrays for image in images), strict=True)))
        return [batches[self._inputs.index(spec)] for spec in self.specs]
