"""Mask pasting and linear interpolation, pixel by pixel, in plain Python."""

import math


def interpolate_slowly(samples: list[float], position: float) -> float:
    """Value at a position in index units, linear between samples and constant beyond the ends."""
    if position <= 0:
        return samples[0]
    if position >= len(samples) - 1:
        return samples[-1]
    k = math.floor(position)
    part = position - k
    return samples[k] * (1 - part) + samples[k + 1] * part


def paste_slowly(
    mask: list[list[float]], box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]
) -> list[list[float | None]]:
    """A full canvas with the mask's value at each pixel whose centre lies in the box, None elsewhere."""
    x1, y1, x2, y2 = box_xyxy
    canvas: list[list[float | None]] = [[None] * size_hw[1] for _ in range(size_hw[0])]
    for i in range(size_hw[0]):
        for j in range(size_hw[1]):
            x, y = j + 0.5, i + 0.5
            if not (x1 <= x < x2 and y1 <= y < y2):
                continue
            u = (x - x1) / (x2 - x1) * len(mask[0]) - 0.5
            v = (y - y1) / (y2 - y1) * len(mask) - 0.5
            canvas[i][j] = interpolate_slowly([interpolate_slowly(row, u) for row in mask], v)
    return canvas
