"""Rendered images that are not photographs."""

from __future__ import annotations

import pytest
from tiny import picture
from unseen_images import RENDERERS as UNSEEN
from unseen_images import draw_unseen

from captioner.data.rendered_images import RENDERERS, WITH_PHOTOGRAPH, render_image


@pytest.mark.parametrize("kind", RENDERERS)
def test_images_depend_on_kind_seed_and_number_only(kind):
    photograph = picture(0)
    images = [render_image(kind, i, photograph=photograph) for i in range(12)]
    assert all(image.mode == "RGB" and min(image.size) >= 60 for image in images)
    assert len({image.tobytes() for image in images}) >= 10  # two may be white
    assert render_image(kind, 3, photograph=photograph).tobytes() == images[3].tobytes()
    other = [render_image(kind, i, seed=1, photograph=photograph) for i in range(12)]
    assert [i.tobytes() for i in other] != [i.tobytes() for i in images]


@pytest.mark.parametrize("kind", RENDERERS)
def test_only_some_images_of_some_kinds_contain_the_photograph(kind):
    count = 20 if kind in WITH_PHOTOGRAPH else 3
    red = [render_image(kind, i, photograph=picture(0)).tobytes() for i in range(count)]
    other = picture(1) if kind in WITH_PHOTOGRAPH else None
    blue = [render_image(kind, i, photograph=other).tobytes() for i in range(count)]
    different = sum(a != b for a, b in zip(red, blue, strict=True))
    assert 0 < different < count if kind in WITH_PHOTOGRAPH else different == 0


def test_kinds_of_the_test_are_not_rendered_for_training():
    assert UNSEEN.keys().isdisjoint(RENDERERS)
    assert len({draw_unseen(kind, 0).tobytes() for kind in UNSEEN}) == len(UNSEEN)
