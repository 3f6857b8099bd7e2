"""Deformable attention one corner at a time, in plain Python, from equation 3 of Zhu et al. 2020 (arXiv:2010.04159)."""

import math

from torch import Tensor


def attend_slowly(
    values: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor, image: int, query: int
) -> list[float]:
    """What one query of one image gathers, over all heads; arguments as in `halfpixel.ops.deformable_attention`."""
    heads, channels = values.shape[2:]
    gathered = []
    for head in range(heads):
        total, start = [0.0] * channels, 0
        for level, (height, width) in enumerate(shapes):
            for point in range(locations.shape[4]):
                x, y = locations[image, query, head, level, point].tolist()
                column, row = x * width - 0.5, y * height - 0.5  # the value of cell k sits at k
                for i in (math.floor(row), math.floor(row) + 1):
                    for j in (math.floor(column), math.floor(column) + 1):
                        if 0 <= i < height and 0 <= j < width:
                            weight = (1 - abs(row - i)) * (1 - abs(column - j))
                            weight *= float(weights[image, query, head, level, point])
                            cell = values[image, start + i * width + j, head].tolist()
                            total = [a + weight * b for a, b in zip(total, cell, strict=True)]
            start += height * width
        gathered += total
    return gathered
