"""Where a film's objects came from, and the lines that count them, drawn over a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from halfpixel.viz.palette import Colours

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Ways(NamedTuple):
    """Where a film's objects came from, and what counts them.

    Attributes:
        paths: of each object `[k, 2]` points (x, y) in pixels of the image, the latest one last.
        lines: x1, y1, x2, y2 each, likewise.
    """

    paths: Sequence[npt.NDArray[np.float64]]
    lines: Sequence[tuple[float, float, float, float]] = ()


def draw_ways(picture: Image.Image, ways: Ways, colours: Colours, zoom: int = 1) -> None:
    """Draw each object's path in its colour, and the lines in white with an arrow to where it is `in`.

    Args:
        picture: the image or an enlarged one; it is changed.
        ways: what to draw. A path of one point is none.
        colours: `[n, 3]`, of each object.
        zoom: how many times the image's resolution the picture has.
    """
    draw = ImageDraw.Draw(picture)
    thick = max(round(max(picture.size) / 500), 1)
    for path, colour in zip(ways.paths, colours.tolist(), strict=True):
        if len(path) > 1:
            points = [(x * zoom, y * zoom) for x, y in path.tolist()]
            draw.line(points, BLACK, thick + 2, "curve")
            draw.line(points, tuple(colour), thick, "curve")
    for number, line in enumerate(ways.lines, start=1):
        _draw_line(draw, number, [value * zoom for value in line], thick)


def _draw_line(draw: ImageDraw.ImageDraw, number: int, line: Sequence[float], thick: int) -> None:
    x1, y1, x2, y2 = line
    length = math.hypot(x2 - x1, y2 - y1)
    right = (y1 - y2) / length, (x2 - x1) / length  # on the right hand of who walks along the line
    x, y, reach = (x1 + x2) / 2, (y1 + y2) / 2, 8 * thick
    tip = x + reach * right[0], y + reach * right[1]
    barbs = [
        (tip[0] - 3 * thick * (right[0] + side * right[1]), tip[1] - 3 * thick * (right[1] - side * right[0]))
        for side in (-1, 1)
    ]
    for colour, width in ((BLACK, thick + 2), (WHITE, thick)):
        draw.line([(x1, y1), (x2, y2)], colour, width)
        draw.line([(x, y), tip], colour, width)
        draw.line([barbs[0], tip, barbs[1]], colour, width)
    where = x - 2 * reach * right[0], y - 2 * reach * right[1]
    draw.text(where, str(number), WHITE, anchor="mm", font_size=12 * thick, stroke_width=2, stroke_fill=BLACK)
