"""The shuffled images of the baselines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from captioner.evaluation import baselines


@given(st.lists(st.text(max_size=3)), st.integers())
def test_shuffle_maps_each_image_to_another(images, seed):
    others = baselines.shuffle_images(images, seed=seed)
    if len(set(images)) < 2:
        assert others == {}
        return
    assert set(others) == set(others.values()) == set(images)
    assert all(image != other for image, other in others.items())
    assert others == baselines.shuffle_images(images + images[:3], seed=seed)


def test_shuffle_depends_on_the_seed():
    drawn = {tuple(baselines.shuffle_images(map(str, range(9)), seed=s).items()) for s in range(20)}
    assert len(drawn) == 20
