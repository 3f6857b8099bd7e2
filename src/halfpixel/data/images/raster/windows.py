"""Windows of an image: boxes in whole pixels, which may reach over its edges."""

from __future__ import annotations

from halfpixel.data.images.container import TURNED

Window = tuple[int, int, int, int]
"""Left, top, right and bottom; what lies at right and bottom does not belong to it."""


def whole(size_hw: tuple[int, int]) -> Window:
    """All of an image."""
    return 0, 0, size_hw[1], size_hw[0]


def inside(window_xyxy: Window, size_hw: tuple[int, int]) -> Window | None:
    """The part of a window that lies on an image; None where nothing does."""
    (x0, y0, x1, y1), (height, width) = window_xyxy, size_hw
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def as_stored(window_xyxy: Window, size_hw: tuple[int, int], orientation: int) -> Window:
    """Where a window of an upright image lies in the image as it is stored.

    Args:
        window_xyxy: inside of the upright image.
        size_hw: of the upright image.
        orientation: the TIFF and EXIF tag by which `orient` turns the stored image upright.
    """
    (x0, y0, x1, y1), (height, width) = window_xyxy, size_hw
    if orientation in (7, 8):
        y0, y1 = height - y1, height - y0
    if orientation in (6, 7):
        x0, x1 = width - x1, width - x0
    if orientation in TURNED:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (3, 4):
        y0, y1 = height - y1, height - y0
    if orientation in (2, 3):
        x0, x1 = width - x1, width - x0
    return x0, y0, x1, y1
