import numpy as np
from skimage.color import rgb2lab

from halfpixel.viz.palette import distinct_colours, neighbour_colours, shade


def lab(colours: np.ndarray) -> np.ndarray:
    return rgb2lab(colours[None] / 255.0)[0]


def test_distinct_colours_are_far_apart_and_vivid() -> None:
    colours = lab(distinct_colours(12))
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(12)
    assert apart.min() > 12
    assert np.hypot(colours[:, 1], colours[:, 2]).min() > 30
    assert 50 < colours[:, 0].min() < colours[:, 0].max() < 95


def test_a_longer_series_starts_with_the_shorter_one() -> None:
    assert np.array_equal(distinct_colours(40)[:7], distinct_colours(7))
    assert distinct_colours(0).shape == (0, 3)


def test_touching_objects_look_clearly_different() -> None:
    side = 12
    y, x = np.mgrid[:side, :side] * 10.0
    boxes = np.stack([x, y, x + 10, y + 10], axis=-1).reshape(-1, 4)
    order = np.random.default_rng(0).permutation(len(boxes))
    colours = np.empty((len(boxes), 3), dtype=np.uint8)
    colours[order] = neighbour_colours(boxes[order])
    grid = lab(colours).reshape(side, side, 3)
    beside = np.linalg.norm(np.diff(grid, axis=1), axis=-1)
    below = np.linalg.norm(np.diff(grid, axis=0), axis=-1)
    assert min(beside.min(), below.min()) > 20
    assert len(np.unique(colours, axis=0)) > 12


def test_neighbour_colours_of_few() -> None:
    assert neighbour_colours(np.zeros((0, 4))).shape == (0, 3)
    same_place = neighbour_colours(np.zeros((2, 4)))
    assert np.linalg.norm(np.diff(lab(same_place), axis=0)) > 60


def test_shade_keeps_the_hue() -> None:
    colours = distinct_colours(9)
    before, after = lab(colours), lab(shade(colours, 0.3, 0.6))
    assert after[:, 0].max() < 35
    turned = np.arctan2(before[:, 2], before[:, 1]) - np.arctan2(after[:, 2], after[:, 1])
    # CIELAB bends blue hues, so allow a third of a right angle
    assert np.abs((turned + np.pi) % (2 * np.pi) - np.pi).max() < np.radians(30)
