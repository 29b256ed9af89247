"""Compare pixels with timm, and test the geometry and the random numbers of augmentation."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.images import fit
from captioner.images.transforms import PixelSpec, augment, normalize, to_pixels

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a smooth image without symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("side", [32, 64, 90, 200])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_pixels_of_a_square_image_match_timm(side, resize):
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform(
        (3, 64, 64), interpolation="bicubic", crop_pct=1.0, crop_mode="center", **IMAGENET
    )
    image = photograph(side, side)
    ours = to_pixels(image, PixelSpec((64, 64), resize=resize, **IMAGENET))
    assert ours.dtype == np.float32
    assert ours.shape == (3, 64, 64)
    np.testing.assert_allclose(ours, theirs(image).numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (300, 80)])
def test_center_crop_matches_timm(size):
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform(
        (3, 64, 64), interpolation="bicubic", crop_pct=1.0, crop_mode="center", **PLAIN
    )
    image = photograph(*size)
    ours = to_pixels(image, PixelSpec((64, 64), resize="crop", **PLAIN))
    # timm resizes before it crops, so it rounds at other positions.
    assert np.abs(ours - theirs(image).numpy()).mean() < 0.02


def test_pixels_match_the_fitted_image():
    for resize in ("crop", "squash"):
        spec = PixelSpec((24, 36), resize=resize, **IMAGENET)
        fitted = fit(photograph(90, 30), spec.size, crop=resize == "crop")
        assert np.array_equal(normalize(fitted, spec), to_pixels(photograph(90, 30), spec))
        assert np.array_equal(to_pixels(fitted, spec), to_pixels(photograph(90, 30), spec))


def test_squash_keeps_the_complete_image_and_crop_its_center():
    image = Image.new("RGB", (90, 30), "blue")
    image.paste((255, 0, 0), (0, 0, 25, 30))
    image.paste((0, 255, 0), (65, 0, 90, 30))
    squash = to_pixels(image, PixelSpec((24, 24), resize="squash", **PLAIN))
    crop = to_pixels(image, PixelSpec((24, 24), resize="crop", **PLAIN))
    assert squash[0, :, :5].min() > 0.9
    assert squash[1, :, -5:].min() > 0.9
    assert crop[2].min() > 0.9
    assert crop[0].max() < 0.1


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_height_is_the_first_dimension(resize):
    spec = PixelSpec((20, 50), resize=resize, **PLAIN)
    assert to_pixels(photograph(40, 40), spec).shape == (3, 20, 50)
    assert augment(photograph(40, 40), spec, random.Random(0)).shape == (3, 20, 50)


@given(value=st.tuples(*[st.integers(0, 255)] * 3), size=st.tuples(*[st.integers(1, 40)] * 2))
def test_a_plain_color_has_its_normalized_value_everywhere(value, size):
    spec = PixelSpec((16, 16), **IMAGENET)
    expected = [(v / 255 - m) / s for v, m, s in zip(value, spec.mean, spec.std, strict=True)]
    image = Image.new("RGB", size, value)
    for pixels in (to_pixels(image, spec), augment(image, spec, random.Random(0), flip=True)):
        for channel, wanted in zip(pixels, expected, strict=True):
            assert np.allclose(channel, wanted, atol=1e-5)


def test_normalize_covers_the_expected_range():
    image = Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8))
    pixels = normalize(image, PixelSpec((1, 2), (0.5,) * 3, (0.5,) * 3))
    assert pixels.tolist() == [[[-1.0, 1.0]]] * 3


SPEC = PixelSpec((48, 48), **PLAIN)


def test_augmentation_depends_only_on_its_rng():
    def view(seed):
        random.seed()
        return augment(photograph(60, 50), SPEC, random.Random(seed), flip=False, jitter=0.3)

    assert np.array_equal(view(1), view(1))
    assert not np.array_equal(view(1), view(2))


def test_flip_mirrors_the_same_crop():
    image = photograph(60, 50)
    plain = augment(image, SPEC, random.Random(3), flip=False)
    assert np.array_equal(augment(image, SPEC, random.Random(3), flip=True), plain[..., ::-1])


@pytest.mark.parametrize("seed", range(5))
def test_the_weakest_augmentation_changes_little(seed):
    image = photograph(64, 64)
    gentle = augment(image, SPEC, random.Random(seed), min_scale=1.0)
    whole = to_pixels(image, SPEC)
    other = to_pixels(photograph(64, 64, seed=9), SPEC)
    # The aspect ratio still varies by a tenth, so the images differ slightly.
    assert np.abs(gentle - whole).mean() < 0.25 * np.abs(other - whole).mean()


@given(
    seed=st.integers(),
    scale=st.floats(0.05, 1),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_a_crop_never_leaves_the_image(seed, scale, size):
    image = Image.new("RGB", size, (200, 100, 50))
    pixels = augment(image, SPEC, random.Random(seed), min_scale=scale, flip=True, jitter=0.0)
    # Pixels from outside would have another color.
    assert np.allclose(pixels, np.array([200, 100, 50])[:, None, None] / 255, atol=1e-5)


def test_min_scale_limits_the_area_of_the_crop():
    """The range of values in a crop of a ramp from 0 to 1 is the kept part of the side."""
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None], (256, 1, 3)))
    spans = []
    for seed in range(200):
        pixels = augment(ramp, SPEC, random.Random(seed), min_scale=0.25)
        spans.append((pixels.max() - pixels.min()).item())
    assert 0.4 < min(spans) < 0.6
    assert max(spans) > 0.95


def test_jitter_changes_colors_within_its_range():
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    values = {
        round(augment(image, SPEC, random.Random(s), jitter=0.2)[0, 0, 0].item() * 255)
        for s in range(60)
    }
    assert min(values) >= 79
    assert max(values) <= 121
    assert len(values) > 10
