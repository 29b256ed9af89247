"""`train.py` with `train.kinds`: fit, export, resume and fine-tune."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_pairs import load_pair
from drawn_images import make_flickr
from runs import best_of, run

from captioner.config import load_config
from captioner.data.rendered_images import render_image
from captioner.training import finish, kind_fitting

pytestmark = [pytest.mark.usefixtures("fresh_accelerate"), pytest.mark.slow]
ONCE = "train.stages=[{epochs: 1, lr: 1e-3}]"


@pytest.fixture(autouse=True)
def few_images(monkeypatch) -> None:
    monkeypatch.setattr(kind_fitting, "IMAGES_PER_KIND", 4)
    monkeypatch.setattr(kind_fitting, "FEWEST_HELD_OUT", 2)


def test_a_head_is_fitted_exported_resumed_and_dropped(tmp_path, monkeypatch):
    data, output = make_flickr(tmp_path / "data", train=range(4), val=(4, 5)), tmp_path / "run"
    words = (ONCE, "data.val_splits=[dev]", "train.kinds=true", "train.export=float32")
    assert run(data, output, *words) == 0
    check_backends(output / "best")
    whole = output.rename(output.with_name("whole"))
    with monkeypatch.context() as patch:
        patch.setattr(finish, "export_best", interrupt)
        assert run(data, output, *words) == 130
    assert "kind_head.weight" in best_of(output)
    assert run(data, output, *words, resume=True) == 0
    assert read_files(output / "best") == read_files(whole / "best")

    start = f"train.start={output / 'best'}"
    soup = f"train.soup=[{whole / 'best'}]"
    assert run(data, tmp_path / "tuned", start, soup, ONCE) == 0
    assert not [key for key in best_of(tmp_path / "tuned") if key.startswith("kind_head.")]
    assert load_config(tmp_path / "tuned" / "best" / "config.yaml").model.kinds == ()


def check_backends(folder: Path) -> None:
    """Assert that both backends recognize the same kinds, of images rendered for training too."""
    assert load_config(folder / "config.yaml").model.kinds == kind_fitting.KINDS
    images = [render_image(kind, i) for kind in kind_fitting.KINDS[1:] for i in range(2)]
    found, expected = (model.caption(images) for model in load_pair(folder))
    assert [r.kind for r in found] == [r.kind for r in expected]
    assert len({r.kind for r in found}) > 1
    probabilities = [[r.kind_probability for r in results] for results in (found, expected)]
    np.testing.assert_allclose(*probabilities, atol=1e-4)


def interrupt(run: object) -> None:
    raise KeyboardInterrupt


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_too_few_photographs_are_reported_and_fit_no_head(tmp_path, capsys):
    data = make_flickr(tmp_path / "data", train=(0, 1), val=(2,))
    words = (ONCE, "data.val_splits=[dev]", "train.kinds=true")
    assert run(data, tmp_path / "run", *words) == 0
    assert "1 validation photographs are too few (at least 2)" in capsys.readouterr().err
    assert "kind_head.weight" not in best_of(tmp_path / "run")
