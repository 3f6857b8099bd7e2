"""By how much levels were reduced, and boxes in images that are turned."""

import numpy as np
import pytest

from halfpixel.data.images.container import TURNED, orient
from halfpixel.data.images.raster.levels import downsample
from halfpixel.data.images.raster.windows import as_stored, inside


@pytest.mark.parametrize(
    ("size_hw", "smaller_hw", "expected"),
    [
        ((100_003, 80_001), (25_000, 20_000), 4),  # rounded down; the sizes alone say 4.0001
        ((100_003, 80_001), (25_001, 20_001), 4),
        ((100_003, 80_001), (97, 78), 1024),
        ((2967, 2220), (768, 574), pytest.approx(3.866, abs=0.01)),
        ((150, 201), (30, 40), 5),
        ((4, 5), (1, 1), 4),
        ((7, 7), (7, 7), 1),
        ((100, 100), (50, 60), None),
        ((100, 100), (100, 50), None),
        ((100, 100), (200, 200), None),
    ],
)
def test_by_how_much(size_hw, smaller_hw, expected):
    assert downsample(size_hw, smaller_hw) == expected


@pytest.mark.parametrize("how", [lambda n: n // 2, lambda n: -(-n // 2), lambda n: round(n / 2)])
def test_halved_again_and_again(how):
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = whole = tuple(int(n) for n in rng.integers(5_000, 200_000, 2))
        for k in range(1, 9):
            size = how(size[0]), how(size[1])
            assert downsample(whole, size) == 2**k


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_turned_images(orientation):
    stored = np.arange(20 * 30).reshape(20, 30)
    upright = orient(stored, orientation)
    size_hw = (30, 20) if orientation in TURNED else (20, 30)
    assert upright.shape == size_hw
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = np.sort(rng.integers(0, size_hw[1] + 1, 2)), np.sort(rng.integers(0, size_hw[0] + 1, 2))
        window = int(x[0]), int(y[0]), int(x[1]), int(y[1])
        x0, y0, x1, y1 = as_stored(window, size_hw, orientation)
        np.testing.assert_array_equal(orient(stored[y0:y1, x0:x1], orientation), upright[y[0] : y[1], x[0] : x[1]])


def test_the_part_inside():
    assert inside((-5, -5, 10, 10), (8, 6)) == (0, 0, 6, 8)
    assert inside((1, 2, 3, 4), (8, 6)) == (1, 2, 3, 4)
    for beyond in ((6, 0, 9, 9), (-3, 0, 0, 9), (0, 8, 2, 9), (0, -2, 2, 0)):
        assert inside(beyond, (8, 6)) is None
