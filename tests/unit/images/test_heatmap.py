"""Test that heat maps are bright exactly where the weights are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny import picture

from captioner.images.heatmap import overlay


def brightness(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=float)


@pytest.mark.parametrize("size", [(70, 70), (160, 90), (31, 200)])
@pytest.mark.parametrize("base", [picture(3), Image.new("RGB", (8, 8), "white")])
def test_the_heat_map_is_brightest_at_the_weight(size, base):
    image = base.resize(size)
    for row in range(3):
        for column in range(5):
            weights = np.zeros((3, 5))
            weights[row, column] = 0.4
            found = overlay(image, weights)
            assert (found.mode, found.size) == ("RGB", size)
            y, x = np.unravel_index(brightness(found).argmax(), size[::-1])
            assert (y * 3 // size[1], x * 5 // size[0]) == (row, column)


def test_brightness_depends_on_relative_weights():
    image, weights = Image.new("RGB", (90, 30), "grey"), np.array([[0.1, 0.2, 0.3]])
    found = overlay(image, weights)
    left, middle, right = brightness(found)[15, [5, 45, 85]]
    assert left < middle < right
    assert np.array_equal(found, overlay(image, 1000 * weights))


def test_heat_is_limited_to_the_box():
    image = picture(2, size=(100, 50))
    dark = np.asarray(overlay(image, np.zeros((2, 2))))
    found = np.asarray(overlay(image, np.ones((2, 2)), (0.25, 0, 0.75, 1)))
    changed = (found != dark).any(-1)
    assert changed[:, 25:75].all()
    assert not changed[:, :25].any()
    assert not changed[:, 75:].any()


def test_zero_weights_give_a_dark_gray_image():
    found = np.asarray(overlay(picture(2), np.zeros((7, 7))))
    assert (found == found[..., :1]).all()
    assert 0 < found.max() < 128


def test_overlay_does_not_change_its_input():
    image = picture(2)
    before = image.tobytes()
    overlay(image, np.ones((1, 1)), (0.499, 0.499, 0.5, 0.5))
    assert image.tobytes() == before


@pytest.mark.parametrize(
    "weights", [np.ones(3), np.ones((0, 2)), [[-1.0, 2.0]], [[np.nan]], [[np.inf]]]
)
def test_invalid_weights_are_rejected(weights):
    with pytest.raises(ValueError, match="weights"):
        overlay(picture(0), weights)
