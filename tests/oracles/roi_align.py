"""RoIAlign one sample at a time, in plain Python.

Written from the paper (He et al. 2017, section 3) and from what `torchvision.ops.roi_align` documents: bilinear samples
at regular places of every bin, averaged; nothing beyond one cell outside of the map; with `aligned=False` no shift by
half a cell and no region narrower than one cell.
"""

import math

Map = list[list[float]]


def sample_slowly(values: Map, y: float, x: float) -> float:
    """The map's bilinear value at (y, x), where the value of cell k sits at k."""
    height, width = len(values), len(values[0])
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            if weight > 0:
                total += weight * values[row][column]
    return total


def roi_align_slowly(
    values: Map,
    box_xyxy: tuple[float, float, float, float],
    stride: float,
    output_size: int,
    sampling: int,
    aligned: bool,
) -> Map:
    """One channel of one region."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (side / stride - shift for side in box_xyxy)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    bin_h, bin_w = height / output_size, width / output_size
    rows = sampling if sampling > 0 else math.ceil(bin_h)
    columns = sampling if sampling > 0 else math.ceil(bin_w)
    crop = []
    for i in range(output_size):
        line = []
        for j in range(output_size):
            total = 0.0
            for p in range(rows):
                for q in range(columns):
                    y = y1 + (i + (p + 0.5) / rows) * bin_h
                    x = x1 + (j + (q + 0.5) / columns) * bin_w
                    total += sample_slowly(values, y, x)
            line.append(total / (rows * columns) if rows > 0 and columns > 0 else 0.0)
        crop.append(line)
    return crop
