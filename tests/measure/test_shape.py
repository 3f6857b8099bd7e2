import math

import numpy as np
import pytest
from masked import disc
from scipy.special import ellipe
from skimage.measure import regionprops

from halfpixel.measure.shape import NO_SHAPE, shape_of


def ellipse(long: float, short: float, degrees: float, side: int = 61) -> np.ndarray:
    """`degrees` counter-clockwise from the horizontal, as one sees it."""
    y, x = np.mgrid[:side, :side] + 0.5
    y, x = y - 30.37, x - 30.21
    turn = math.radians(degrees)
    along, aside = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    return (along / long) ** 2 + (aside / short) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 15, 45, 80, 90, 110, 135, 172])
def test_an_ellipse_is_measured_as_it_was_drawn(degrees: float) -> None:
    shape = shape_of(ellipse(22, 10, degrees))
    turn = abs(shape.orientation_deg - degrees)
    assert min(turn, 180 - turn) < 1
    assert 0 <= shape.orientation_deg < 180
    assert shape.centroid_x == pytest.approx(30.21, abs=0.2)
    assert shape.centroid_y == pytest.approx(30.37, abs=0.2)
    assert shape.area == pytest.approx(math.pi * 220, rel=0.02)
    assert shape.major_axis == pytest.approx(44, rel=0.02)
    assert shape.minor_axis == pytest.approx(20, rel=0.02)
    assert shape.eccentricity == pytest.approx(math.sqrt(1 - (10 / 22) ** 2), abs=0.005)
    assert shape.perimeter == pytest.approx(4 * 22 * ellipe(1 - (10 / 22) ** 2), rel=0.02)
    assert 0.95 < shape.solidity <= 1


@pytest.mark.parametrize("radius", [5, 10, 20, 40])
def test_the_perimeter_of_discs_is_right_within_one_percent(radius: int) -> None:
    rng = np.random.default_rng(radius)
    side = 2 * radius + 6
    discs = [disc(radius, tuple(side / 2 + rng.uniform(-0.5, 0.5, 2)), (side, side)) for _ in range(30)]
    perimeters = [shape_of(mask).perimeter for mask in discs]
    assert np.mean(perimeters) == pytest.approx(2 * math.pi * radius, rel=0.01)


def test_a_place_in_the_crop_is_that_of_pixel_centres() -> None:
    mask = np.zeros((7, 9), dtype=bool)
    mask[2, 5] = True
    shape = shape_of(mask)
    assert (shape.centroid_x, shape.centroid_y, shape.area) == (5.5, 2.5, 1)
    assert shape.equivalent_diameter == pytest.approx(math.sqrt(4 / math.pi))
    assert (shape.major_axis, shape.minor_axis, shape.eccentricity, shape.solidity) == (0, 0, 0, 1)
    assert math.isnan(shape.orientation_deg)


def test_what_is_round_has_no_orientation() -> None:
    assert math.isnan(shape_of(np.ones((6, 6), dtype=bool)).orientation_deg)
    assert math.isnan(shape_of(disc(9, (20, 20))).orientation_deg)
    assert shape_of(np.ones((6, 7), dtype=bool)).orientation_deg == 0
    assert shape_of(np.ones((7, 6), dtype=bool)).orientation_deg == 90


def test_a_line_is_an_ellipse_without_width() -> None:
    shape = shape_of(np.eye(9, dtype=bool)[::-1])
    assert shape.orientation_deg == pytest.approx(45)
    assert shape.minor_axis == pytest.approx(0, abs=1e-6)
    assert shape.eccentricity == pytest.approx(1)


def test_a_mask_without_pixels_has_no_shape() -> None:
    assert shape_of(np.zeros((3, 4), dtype=bool)) is NO_SHAPE
    assert shape_of(np.zeros((0, 4), dtype=bool)) is NO_SHAPE
    assert all(math.isnan(value) for value in NO_SHAPE)


def test_pieces_are_measured_as_one_and_margins_change_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = rng.random(rng.integers(1, 25, 2)) < rng.uniform(0.05, 0.9)
        mask[0, 0] = True
        shape, padded = shape_of(mask), shape_of(np.pad(mask, 3))
        moved = padded._replace(centroid_x=padded.centroid_x - 3, centroid_y=padded.centroid_y - 3)
        assert np.allclose(moved, shape, equal_nan=True)
        canvas = np.zeros((60, 70), dtype=np.uint8)
        canvas[20 : 20 + mask.shape[0], 31 : 31 + mask.shape[1]][mask] = 1
        (region,) = regionprops(canvas)
        assert (shape.centroid_y + 20, shape.centroid_x + 31) == pytest.approx(np.add(region.centroid, 0.5))
        assert shape.solidity == pytest.approx(region.solidity)
        assert shape.area == region.num_pixels
