"""Findings of the checks with a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from quality_data import caption

from captioner.data.example import Example
from captioner.errors import CaptionerError, ImageError
from captioner.quality.model_faults import GROUP, check_with_model, measure_gains


class Model:
    """Scores a caption by the words that it shares with the name of the image."""

    def encode_batch(self, paths):
        return [ImageError(path) if "bad" in path else self._encode(path) for path in paths]

    def _encode(self, path):
        kind = "drawing" if "drawn" in path else "photograph"
        return SimpleNamespace(path=path, kind=kind, kind_probability=0.9)

    def score(self, image, texts):
        if not all(texts):
            raise CaptionerError("empty")
        words = set(Path(image.path).stem.split("_"))
        return [SimpleNamespace(score=len(words & set(t.split())) - 3.0) for t in texts]


def example(name: str, *captions: str) -> Example:
    return Example(f"/x/{name}.jpg", name, captions, "train")


def test_wrong_captions_and_other_kinds_are_found():
    things = ["dog", "cat", "cow", "bus", "man", "cup", "hat", "bed", "toy", "car", "pen"]
    examples = [example(thing, f"a {thing} here") for thing in things]
    examples += [example("drawn_sun", "a sun"), example("fox", "a fox", "a boat", "<br>")]
    examples += [example("bad", "a bad one")]
    images = [row.image for row in examples]
    findings = check_with_model(Model(), examples, images)
    assert [(f.kind, f.text, Path(f.image).stem) for f in findings] == [
        ("not-photograph", "", "drawn_sun"),
        ("mismatched-pair", "a boat", "fox"),
    ]
    assert findings == check_with_model(Model(), examples, images)


def test_one_image_cannot_be_compared():
    rows = [example("dog", "a cat")]
    assert check_with_model(Model(), rows, [rows[0].image]) == []
    assert check_with_model(Model(), rows, []) == []
    assert GROUP > 2


def test_gains_are_relative_to_the_other_images():
    scores = np.array([[-1.0, -3.0], [-3.0, -2.0], [-5.0, -1.0]])
    assert measure_gains(scores, [0, 1]) == pytest.approx([3.0, 0.0])


@pytest.mark.slow
def test_the_bundled_checkpoint_checks_photographs(tmp_path):
    import captioner

    examples = Path(__file__).parents[3] / "examples"
    photos = sorted(examples.glob("*.jpg"))
    rows = [Example(str(path), path.name, (caption(i),), "train") for i, path in enumerate(photos)]
    findings = check_with_model(captioner.load(), rows, [row.image for row in rows])
    assert {f.kind for f in findings} <= {"mismatched-pair", "not-photograph"}
