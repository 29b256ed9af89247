"""Test that test-time augmentation averages the features of all views, position by position."""

from __future__ import annotations

import pytest
import torch
from tiny import Grid
from torch import Tensor, nn

from captioner.model import tta
from captioner.model.tta import view_sizes

SIZE = (32, 32)  # Grid returns 4 x 4 positions for it, and 3 x 3 for the next size


def backbone() -> nn.Module:
    torch.manual_seed(0)
    return Grid().eval()


def views(count: int, inner: nn.Module) -> tta.TestTimeAugmentation:
    return tta.TestTimeAugmentation(dict.fromkeys(view_sizes(SIZE, 16, count), inner))


def pictures() -> Tensor:
    return torch.randn(3, 3, *SIZE)


def mirrored(features: Tensor) -> Tensor:
    """Reverse the columns of the 4 x 4 grid in features (B, 16, C)."""
    order = [row * 4 + column for row in range(4) for column in reversed(range(4))]
    return features[:, order]


@torch.no_grad()
def test_two_views_average_the_image_and_its_mirror_image() -> None:
    inner, pixels = backbone(), pictures()
    expected = (inner(pixels) + mirrored(inner(pixels.flip(3)))) / 2
    torch.testing.assert_close(views(2, inner)(pixels), expected)
    assert not torch.allclose(expected, inner(pixels), atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_mirrored_image_has_mirrored_features(count: int) -> None:
    found, pixels = views(count, backbone()), pictures()
    torch.testing.assert_close(found(pixels.flip(3)), mirrored(found(pixels)))


@torch.no_grad()
def test_four_views_include_a_smaller_scale() -> None:
    inner, pixels = backbone(), pictures()
    small = tta.TestTimeAugmentation({(24, 24): inner})(
        nn.functional.interpolate(pixels, (24, 24), mode="bicubic", antialias=True)
    )
    grid = small.transpose(1, 2).unflatten(2, (3, 3))
    grid = nn.functional.interpolate(grid, (4, 4), mode="bilinear").flatten(2).transpose(1, 2)
    expected = (views(2, inner)(pixels) + grid) / 2
    torch.testing.assert_close(views(4, inner)(pixels), expected)


@torch.no_grad()
def test_all_views_of_a_plain_image_are_equal() -> None:
    inner, pixels = backbone(), torch.full((1, 3, *SIZE), 0.3)
    torch.testing.assert_close(views(4, inner)(pixels), inner(pixels))


@torch.no_grad()
def test_each_size_uses_its_own_backbone() -> None:
    seen = []

    class Sized(nn.Module):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__()
            self.size, self.inner = size, backbone()

        def forward(self, pixels: Tensor) -> Tensor:
            assert pixels.shape[2:] == self.size
            seen.append(self.size)
            return self.inner(pixels)

    sizes = view_sizes(SIZE, 16, 4)
    tta.TestTimeAugmentation({size: Sized(size) for size in sizes})(pictures())
    assert sorted(seen) == sorted(sizes * 2)


@torch.no_grad()
def test_features_are_averaged_in_float32() -> None:
    inner, pixels = backbone().bfloat16(), pictures().bfloat16()
    found = views(4, inner)(pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, views(4, backbone())(pixels.float()), atol=0.05, rtol=0.05)


def test_each_view_size_is_one_position_smaller() -> None:
    assert view_sizes((384, 384), 144, 4) == [(384, 384), (352, 352)]
    assert view_sizes((384, 384), 144, 2) == [(384, 384)]
    assert view_sizes((64, 64), 4, 4) == [(64, 64), (32, 32)]


@pytest.mark.parametrize(
    ("size", "positions", "count", "message"),
    [
        ((64, 64), 1, 4, "grid of 1 x 1 positions over 64 x 64"),
        ((64, 96), 6, 2, "6 positions are not a square grid"),
        ((100, 100), 9, 2, "grid of 3 x 3 positions over 100 x 100"),
        ((64, 64), 4, 3, "grid of 2 x 2 positions over 64 x 64"),
    ],
)
def test_impossible_view_sizes_are_rejected(
    size: tuple[int, int], positions: int, count: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        view_sizes(size, positions, count)
