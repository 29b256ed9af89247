"""Test that the example images are those that their script draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from captioner.images import load_image

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["beach.jpg", "dog.jpg"]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_examples", EXAMPLES / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_draws_all_example_images() -> None:
    assert sorted(script().PICTURES) == NAMES
    assert sorted(path.name for path in EXAMPLES.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_drawing_again_gives_the_committed_image(name: str) -> None:
    drawn = script().PICTURES[name]()
    committed = load_image(EXAMPLES / name)
    assert drawn.size == committed.size == (640, 480)
    assert (EXAMPLES / name).stat().st_size < 120_000
    # JPEG and other versions of Pillow change single pixels, but not averages or shapes.
    error = np.abs(np.asarray(drawn, int) - np.asarray(committed, int))
    assert error.mean() < 4
    small = [picture.resize((64, 48), Image.Resampling.BOX) for picture in (drawn, committed)]
    assert np.abs(np.asarray(small[0], int) - np.asarray(small[1], int)).max() <= 6


@pytest.mark.slow
def test_pixels_depend_on_the_seed() -> None:
    draw = script()
    assert draw.beach().tobytes() == draw.beach().tobytes()
    assert draw.beach(1).tobytes() != draw.beach().tobytes()
