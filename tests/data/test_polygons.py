import math
import random

import numpy as np
import pytest
from skimage.draw import polygon2mask

from halfpixel.data.formats.polygons import (
    check_numbers,
    crossing,
    lies_outside,
    overhang_px,
    polygon_area_px,
    rasterise,
)

SIZE_HW = (30, 40)
SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]
BOW = [5, 5, 15, 15, 15, 5, 5, 15]


def flat(points):
    return [value for point in points for value in point]


def star(n, seed, reach=12.0):
    """A polygon around (20, 15) that does not cross itself."""
    rng = random.Random(seed)
    angles = [2 * math.pi * k / n for k in range(n)]
    radii = [rng.uniform(0.3, 1) * reach for _ in angles]
    return [(20 + r * math.cos(a), 15 + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]


def crosses_slowly(points):
    """Each pair of edges, by solving for the place where they meet."""
    n = len(points)
    for i in range(n):
        for j in range(i + 1, n):
            (ax, ay), (bx, by), (cx, cy), (dx, dy) = points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]
            turn = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
            if turn == 0:
                continue
            s = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / turn
            t = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / turn
            if 1e-9 < s < 1 - 1e-9 and 1e-9 < t < 1 - 1e-9:
                return True
    return False


def test_rasterised_polygons_agree_with_skimage_inside():
    """The two rules differ on the outline itself only."""
    points = star(12, 1)
    crop, (x, y) = rasterise([flat(points)], SIZE_HW)
    ours = np.zeros(SIZE_HW, dtype=bool)
    ours[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    theirs = polygon2mask(SIZE_HW, np.array(points)[:, ::-1] - 0.5)
    differing = np.argwhere(ours ^ theirs)
    ring = np.concatenate([np.linspace(a, b, 50) for a, b in zip(points, points[1:] + points[:1], strict=True)])
    for row, column in differing:
        assert np.abs(ring - [column + 0.5, row + 0.5]).max(1).min() <= 1
    assert ours.sum() > 100


@pytest.mark.parametrize("n", [4, 9, 40])
def test_crossings_agree_with_a_slow_search(n):
    rng = random.Random(n)
    outcomes = set()
    for seed in range(20):
        points = star(n, seed)
        if seed % 2:  # two corners change places
            i, j = rng.sample(range(n), 2)
            points[i], points[j] = points[j], points[i]
        outcomes.add(expected := crosses_slowly(points))
        assert (crossing(flat(points)) is not None) == expected
    assert outcomes == {True, False}


def test_where_a_polygon_crosses_itself():
    assert crossing(BOW) == (10, 10)
    assert crossing(SQUARE) is None


def test_crossings_are_found_in_every_block_of_a_long_polygon():
    n = 1500
    points = [(20 + 10 * math.cos(2 * math.pi * k / n), 15 + 10 * math.sin(2 * math.pi * k / n)) for k in range(n)]
    assert crossing(flat(points)) is None
    for k in (0, 511, 512, 1300, n - 1):
        twisted = list(points)
        twisted[k], twisted[(k + 1) % n] = points[(k + 1) % n], points[k]
        assert crossing(flat(twisted)) is not None


@pytest.mark.parametrize(
    "polygon",
    [
        [*SQUARE, 5, 5],  # closed
        [5, 5, 5, 5, 15, 5, 15, 15, 5, 15],  # a point twice
        [5, 5, 15, 5, 25, 5, 15, 5, 15, 15, 5, 15],  # out and back on one line
        [5, 5, 10, 10, 15, 5, 15, 15, 10, 10, 5, 15],  # touches itself in a point
        [5, 5, 9, 9],
        [5, 5],
    ],
)
def test_touching_is_not_crossing(polygon):
    assert crossing(polygon) is None


def test_areas():
    assert polygon_area_px(SQUARE) == polygon_area_px(SQUARE[::-1]) == 100
    assert polygon_area_px([100_005, 5, 100_015, 5, 100_015, 15]) == 50
    assert polygon_area_px(BOW) == polygon_area_px([1, 1, 5, 5, 9, 9]) == polygon_area_px([1, 1]) == 0


def test_what_reaches_outside():
    assert overhang_px(SQUARE, (15, 15)) == 0
    assert overhang_px(SQUARE, (15, 12)) == 3
    assert overhang_px(SQUARE, (11, 12)) == 4
    assert overhang_px([-2.5, 1, 5, 1, 5, 5], SIZE_HW) == 2.5
    assert overhang_px([2.5, -7, 5, 1, 5, 5], SIZE_HW) == 7
    assert not lies_outside([-2.5, 1, 5, 1, 5, 5], SIZE_HW)
    for x, y in ((-15, 0), (0, -15), (35, 0), (0, 25)):
        moved = [value + (x, y)[k % 2] for k, value in enumerate(SQUARE)]
        assert lies_outside(moved, SIZE_HW)
        assert rasterise([moved], SIZE_HW)[0].size == 0


@pytest.mark.parametrize("values", [[1, 2], [1, 2, float("nan")], [1, 2, True], [1, 2, "3"], None, 3, [1, 2, 10**400]])
def test_numbers_that_are_none(values):
    with pytest.raises(ValueError, match="'it' must be 3 finite numbers"):
        check_numbers("it", values, 3)
    check_numbers("it", [1, 2.5, -3], 3)
