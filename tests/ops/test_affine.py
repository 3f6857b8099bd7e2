"""Affine maps against 3 x 3 matrices and by hand."""

import math

import pytest
import torch
from torch import Tensor

from halfpixel.ops import affine


def random_map(seed: int) -> Tensor:
    return torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def full(to_there: Tensor) -> Tensor:
    return torch.cat([to_there, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])


def test_composition_is_the_matrix_product() -> None:
    maps = [random_map(seed) for seed in range(3)]
    product = full(maps[0]) @ full(maps[1]) @ full(maps[2])
    torch.testing.assert_close(full(affine.compose(*maps)), product)
    torch.testing.assert_close(full(affine.invert(maps[0])), torch.linalg.inv(full(maps[0])))
    points = torch.rand(4, 5, 2, dtype=torch.float64)
    one_by_one = affine.apply(maps[0], affine.apply(maps[1], affine.apply(maps[2], points)))
    torch.testing.assert_close(affine.apply(affine.compose(*maps), points), one_by_one)
    assert affine.area_factor(maps[0]) == pytest.approx(abs(float(torch.linalg.det(full(maps[0])))))


def test_what_the_constructors_do_to_a_point() -> None:
    point = torch.tensor([3.0, 1.0])
    assert affine.apply(affine.shift(2, -5), point).tolist() == [5, -4]
    assert affine.apply(affine.scale(-1, 2), point).tolist() == [-3, 2]
    # clockwise as seen: what points right then points down
    assert affine.apply(affine.rotate(90), torch.tensor([1.0, 0.0])).tolist() == [0, 1]
    half = math.sqrt(0.5)
    assert affine.apply(affine.rotate(45), torch.tensor([1.0, 0.0])).tolist() == pytest.approx([half, half])


@pytest.mark.parametrize("degrees", [-270, -180, -90, 0, 90, 180, 270, 360, 450])
def test_quarter_turns_are_exact(degrees: int) -> None:
    assert set(affine.rotate(degrees)[:, :2].abs().ravel().tolist()) == {0, 1}
    near = affine.rotate(degrees + 1e-9)
    torch.testing.assert_close(affine.rotate(degrees), near, atol=1e-9, rtol=0)


def test_the_window_holds_every_pixel_that_interpolation_asks_for_and_little_more() -> None:
    generator = torch.Generator().manual_seed(0)
    source_hw, frame_hw = (200, 260), (24, 37)
    y, x = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(37) + 0.5, indexing="ij")
    for _ in range(50):
        angle, zoom, dx, dy = (torch.rand(4, generator=generator) * torch.tensor([360, 2, 260, 200])).tolist()
        to_source = affine.compose(affine.shift(dx, dy), affine.rotate(angle), affine.scale(zoom + 0.2, zoom + 0.2))
        points = affine.apply(to_source, torch.stack([x, y], -1)).reshape(-1, 2)
        rows, columns = affine.source_window(to_source, frame_hw, source_hw)
        for along, side, length in ((points[:, 1], rows, 200), (points[:, 0], columns, 260)):
            asked = torch.cat([(along - 0.5).floor(), (along - 0.5).floor() + 1])
            asked = asked[(asked >= 0) & (asked < length)]
            assert 0 <= side.start < side.stop <= length
            if len(asked):
                assert side.start <= asked.min()
                assert side.stop > asked.max()
                assert side.start >= asked.min() - zoom - 3 or side.start == length - 1
                assert side.stop <= asked.max() + 1 + zoom + 3 or side.stop == 1


def test_the_window_of_whole_pixels_is_exact() -> None:
    assert affine.source_window(affine.shift(7, 3), (10, 20), (50, 50)) == (slice(3, 13), slice(7, 27))
    thirds = affine.compose(affine.shift(7, 3), affine.scale(3, 3))
    assert affine.source_window(thirds, (10, 12), (50, 50)) == (slice(3, 33), slice(7, 43))
    # nothing of the source in sight: a pixel all the same
    assert affine.source_window(affine.shift(500, -500), (10, 20), (50, 50)) == (slice(0, 1), slice(49, 50))
