from dataclasses import replace

import numpy as np
import pytest
import torch
from masked import disc, masked
from PIL import Image

from halfpixel.viz.overlay import colours_of, draw_overlay
from halfpixel.viz.palette import distinct_colours
from halfpixel.viz.ways import Ways, draw_ways

COLOURS = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)


def drawn(ways: Ways, colours: np.ndarray, zoom: int = 1, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    picture = Image.fromarray(np.full((size_hw[0] * zoom, size_hw[1] * zoom, 3), 128, np.uint8))
    draw_ways(picture, ways, colours, zoom)
    return np.asarray(picture)


@pytest.mark.parametrize("zoom", [1, 4])
def test_paths_are_where_the_objects_were(zoom: int) -> None:
    ways = Ways([np.array([[10.0, 20.0], [50.0, 20.0]]), np.array([[70.0, 50.0]])])
    found = drawn(ways, COLOURS, zoom)
    y, x = np.nonzero((found == COLOURS[0]).all(2))
    assert abs(y.mean() / zoom - 20) < 1
    assert abs(x.min() / zoom - 10) <= 1
    assert abs(x.max() / zoom - 50) <= 1
    assert not (found == COLOURS[1]).all(2).any()  # one point is no path


@pytest.mark.parametrize(
    ("line", "inner"),
    [
        ((10, 30, 70, 30), (40, 36)),
        ((70, 30, 10, 30), (40, 24)),
        ((40, 55, 40, 5), (46, 30)),
        ((40, 5, 40, 55), (34, 30)),
    ],
)
def test_the_arrow_points_to_the_right_hand(line: tuple[float, ...], inner: tuple[int, int]) -> None:
    """The number stands on the other side."""
    white = (drawn(Ways([], [line]), COLOURS[:0]) == 255).all(2)
    assert white[inner[1], inner[0]]
    assert not white[60 - inner[1], 80 - inner[0]]


def test_a_track_has_one_colour_in_all_frames_and_shows_its_number() -> None:
    first = replace(masked(disc(6, (12, 12)), disc(6, (36, 30))), track_ids=torch.tensor([1, 5]))
    second = replace(masked(disc(6, (36, 12))), track_ids=torch.tensor([5]))
    assert np.array_equal(colours_of(first)[1], colours_of(second)[0])
    assert np.array_equal(colours_of(first), distinct_colours(6)[[1, 5]])
    image = np.full((40, 50, 3), 60, np.uint8)
    plain, numbered = (draw_overlay(image, first, labels=labels, zoom=8) for labels in (False, True))
    changed = np.abs(plain.astype(int) - numbered).sum(2) > 0
    assert changed[6 * 8 : 18 * 8, 6 * 8 : 18 * 8].any()
    assert changed.mean() < 0.05
