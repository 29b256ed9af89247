"""The example pictures are what their script draws, today as when they were committed."""

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


def test_every_picture_is_drawn_by_the_script() -> None:
    assert sorted(script().PICTURES) == NAMES
    assert sorted(path.name for path in EXAMPLES.glob("*.jpg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_drawing_again_gives_the_committed_picture(name: str) -> None:
    drawn = script().PICTURES[name]()
    committed = load_image(EXAMPLES / name)
    assert drawn.size == committed.size == (640, 480)
    assert (EXAMPLES / name).stat().st_size < 120_000
    # JPEG and another Pillow's blur may move a pixel, but neither the grain's mean nor a shape
    error = np.abs(np.asarray(drawn, int) - np.asarray(committed, int))
    assert error.mean() < 4
    small = [picture.resize((64, 48), Image.Resampling.BOX) for picture in (drawn, committed)]
    assert np.abs(np.asarray(small[0], int) - np.asarray(small[1], int)).max() <= 6


@pytest.mark.slow
def test_a_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    draw = script()
    assert draw.beach().tobytes() == draw.beach().tobytes()
    assert draw.beach(1).tobytes() != draw.beach().tobytes()
