"""Rendered images that are not photographs."""

from __future__ import annotations

import pytest
from tiny import picture
from unseen_images import RENDERERS as UNSEEN
from unseen_images import draw_unseen

from captioner.data.rendered_images import RENDERERS, render_image


@pytest.mark.parametrize("kind", RENDERERS)
def test_images_depend_on_kind_seed_and_number_only(kind):
    photograph = picture(0)
    images = [render_image(kind, i, photograph=photograph) for i in range(12)]
    assert all(image.mode == "RGB" and min(image.size) >= 60 for image in images)
    assert len({image.tobytes() for image in images}) >= 10  # two may be white
    assert render_image(kind, 3, photograph=photograph).tobytes() == images[3].tobytes()
    other = [render_image(kind, i, seed=1, photograph=photograph) for i in range(12)]
    assert [i.tobytes() for i in other] != [i.tobytes() for i in images]


def test_screenshots_may_contain_the_photograph():
    red = [render_image("screenshot", i, photograph=picture(0)).tobytes() for i in range(20)]
    blue = [render_image("screenshot", i, photograph=picture(1)).tobytes() for i in range(20)]
    assert 0 < sum(a != b for a, b in zip(red, blue, strict=True)) < 20


def test_kinds_of_the_test_are_not_rendered_for_training():
    assert UNSEEN.keys().isdisjoint(RENDERERS)
    assert len({draw_unseen(kind, 0).tobytes() for kind in UNSEEN}) == len(UNSEEN)
