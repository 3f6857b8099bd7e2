import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from halfpixel.plots.score_curves import draw_reliability, draw_sweep

COUNTS = [{"threshold": 0.3, "found": 120}, {"threshold": 0.5, "found": 100}, {"threshold": 0.9, "found": 4}]
ACCURACY = {"true": 100, "precision": 0.8, "recall": 0.9, "f1": 0.85, "accuracy": 0.74, "count_mae": 2.0}
IOU = "mask IoU 0.5"
ROWS = [row | ACCURACY | {"count_bias": bias} for row, bias in zip(COUNTS, (2.0, 0.0, -9.0), strict=True)]
BINS = {"scores": [(0.1, 0.05, 30), (0.9, 0.7, 200)], "probabilities": [(0.06, 0.05, 30), (0.72, 0.7, 200)]}


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_annotations_add_two_parts() -> None:
    alone, together = pixels(draw_sweep(COUNTS, IOU)), pixels(draw_sweep(ROWS, IOU))
    assert alone.shape[1] == together.shape[1]
    assert together.shape[0] > 2 * alone.shape[0]


def test_a_recommendation_is_marked() -> None:
    plain, marked = pixels(draw_sweep(ROWS, IOU)), pixels(draw_sweep(ROWS, IOU, 0.7, "count"))
    other = pixels(draw_sweep(ROWS, IOU, 0.4, "count"))
    assert (plain != marked).any()
    assert (marked != other).any()


def test_the_same_numbers_the_same_picture() -> None:
    assert draw_sweep(ROWS, IOU) == draw_sweep(ROWS, IOU)
    assert draw_sweep(ROWS, IOU) != draw_sweep(ROWS[:2], IOU)
    assert draw_reliability(BINS) == draw_reliability(BINS)


@pytest.mark.parametrize("rows", [ROWS[:1], [dict.fromkeys(ROWS[0]) | COUNTS[0]] * 3, ROWS * 20], ids=len)
def test_one_threshold_nothing_defined_and_many(rows: list[dict[str, float | None]]) -> None:
    pixels(draw_sweep(rows, IOU))


def test_reliability() -> None:
    described = pixels(draw_reliability(BINS, ["(error 0.1)", "(error 0.01)"]))
    assert (described.shape, (described != 255).any()) == ((885, 780, 3), True)
    pixels(draw_reliability({"scores": [], "probabilities": []}))


def test_small_bins_are_not_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, **how: (lines.append(list(x)), plot(self, x, y, **how)))
    draw_reliability({"scores": [(0.1, 0.05, 30), (0.4, 1.0, 9), (0.6, 0.5, 10)], "probabilities": [(0.5, 0.0, 1)]})
    assert lines[1:] == [[0.1, 0.6], []]  # the first is the diagonal
