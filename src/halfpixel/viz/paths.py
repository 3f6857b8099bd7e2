"""Where a film's objects came from, and the lines that count them, drawn over an overlay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from halfpixel.viz.overlay import Picture
from halfpixel.viz.palette import Colours

Path = npt.NDArray[np.float64]
"""`[k, 2]` points (x, y) in pixels of the image."""

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_paths(
    overlay: Picture, paths: Sequence[Path], colours: Colours, lines: Sequence[tuple[float, ...]] = (), zoom: int = 1
) -> Picture:
    """Draw the way of each object in its colour, and counting lines in white with an arrow to their inner side.

    Args:
        overlay: `[h, w, 3]`, the image or an enlarged one with objects drawn in.
        paths: of each object, the latest point last; fewer than two points are no way.
        colours: `[n, 3]`, of each object.
        lines: x1, y1, x2, y2 each, in pixels of the image.
        zoom: how many times the image's resolution `overlay` has.

    Returns:
        A picture of the same size.
    """
    picture = Image.fromarray(overlay)
    draw = ImageDraw.Draw(picture)
    thick = max(round(max(picture.size) / 500), 1)
    for path, colour in zip(paths, colours.tolist(), strict=True):
        if len(path) > 1:
            points = [(x * zoom, y * zoom) for x, y in path.tolist()]
            draw.line(points, BLACK, thick + 2, "curve")
            draw.line(points, tuple(colour), thick, "curve")
    for number, line in enumerate(lines, start=1):
        _draw_line(draw, number, [value * zoom for value in line], thick)
    return np.array(picture)


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
