"""The bundled checkpoint flags images that are no photographs, and few photographs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from unseen_images import RENDERERS, draw_unseen

import captioner
from captioner.checkpoint import PRETRAINED
from captioner.cli.recipes import RECIPES
from captioner.config import Config, load_config
from captioner.data.splits import read_splits
from captioner.images import ImageInput
from captioner.images.kinds import PHOTOGRAPH
from captioner.predict import Captioner

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
IMAGES, BATCH = 20, 20
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not load_config(PRETRAINED / "config.yaml").model.kinds,
        reason="the bundled checkpoint has no kind head",
    ),
]


@pytest.fixture(scope="module")
def model() -> Captioner:
    return captioner.load()


def list_held_out(root: str) -> list[str]:
    """Return photographs that the recipe of the bundled checkpoint does not train on.

    Only one of its data sets is read: those over the same photographs hold out the same ones.
    """
    data = load_config(RECIPES / "bundled.yaml").data
    source = next(source for source in data.sources if source.root == root)
    config = Config(data=replace(data, sources=(source,)))
    *_, val, _ = read_splits(config, all_validation_rows=True)
    return sorted(set(val["image"]))


def flag(model: Captioner, images: Sequence[ImageInput]) -> list[bool]:
    """Return whether each image is taken for something else than a photograph."""
    flagged = []
    for start in range(0, len(images), BATCH):
        for encoded in model.encode_batch(images[start : start + BATCH]):
            assert not isinstance(encoded, Exception)
            flagged.append(encoded.kind != PHOTOGRAPH)
    return flagged


@pytest.mark.parametrize("kind", RENDERERS)
def test_kinds_that_are_not_rendered_for_training_are_flagged(model, kind):
    flagged = flag(model, [draw_unseen(kind, i) for i in range(IMAGES)])
    assert sum(flagged) >= 0.95 * IMAGES


def test_the_drawings_of_the_examples_are_flagged(model):
    assert flag(model, sorted((ROOT / "examples").glob("*.jpg"))) == [True, True]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")
@pytest.mark.parametrize("root", ["../shared/flickr8k", "../shared/coco/tags.jsonl"])
def test_few_held_out_photographs_are_flagged(model, root, monkeypatch):
    monkeypatch.chdir(ROOT)  # roots of data sets are relative to it
    photographs = list_held_out(root)
    assert sum(flag(model, photographs)) <= 0.01 * len(photographs)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_screenshots_of_the_page_are_flagged(model):
    pytest.importorskip("gradio")
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    from serving import start_process

    with start_process() as server, api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        images = []
        for width, height in ((1280, 720), (390, 844)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(server.url)
            page.get_by_role("heading", name="Captioner").wait_for()
            images.append(page.screenshot())
        browser.close()
    assert flag(model, images) == [True, True]
