"""Mask targets of one object at a time, and of turned masks one region at a time. Slow and simple."""

import math

import torch
from torch import Tensor

from halfpixel.ops.interpolate import linear_weights
from halfpixel.ops.paste import Alignment

Row = tuple[float, float, float]
"""One row of an affine map: how x, y and 1 add to a coordinate."""

AS_IT_IS: tuple[Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def mask_targets(
    crop: Tensor,
    offset_xy: tuple[int, int],
    boxes_xyxy: Tensor,
    size_hw: tuple[int, int],
    output_size: int,
    alignment: Alignment = "half_pixel",
    to_source: Tensor | None = None,
) -> Tensor:
    """Share of each grid cell that the mask covers, for regions that all belong to one object.

    This is RoIAlign on the mask with as many samples in a cell as it has pixels of the mask's image along each side.
    Maps that keep the axes (scaling, mirroring, quarter turns) are separable: two matrix products on the crop.
    Others sample the crop point by point. Nothing of the canvas's size is made.

    Args:
        crop: the object's mask, in the image that it comes from.
        offset_xy: the crop's first pixel in that image.
        boxes_xyxy: the regions, in pixels of the network's input.
        size_hw: the image that the mask comes from; beyond its edge the edge's value goes on for one pixel.
        output_size: cells along each side of the grid.
        alignment: `torchvision` repeats its legacy coordinates, half a pixel off.
        to_source: from the network's input to that image; None where they are the same.

    Returns:
        Values in 0..1.
    """
    boxes_xyxy = boxes_xyxy.detach().float()
    legacy = alignment == "torchvision"
    (a, b, c), (d, e, f) = AS_IT_IS if to_source is None else to_source.tolist()
    # from input coordinates to sample numbers of the image; legacy coordinates name a pixel's corner for its centre
    start = 0.5 if legacy else 0.0
    across, down = (a, b, (a + b) * start + c - 0.5), (d, e, (d + e) * start + f - 0.5)
    nothing = 1e-12 * max(abs(a), abs(b), abs(d), abs(e))
    if max(abs(b), abs(d)) <= nothing:
        return _separable(crop, offset_xy, boxes_xyxy, size_hw, output_size, legacy, (a, across[2]), (e, down[2]))
    if max(abs(a), abs(e)) <= nothing:  # a quarter turn: the transposed mask
        turned = (offset_xy[1], offset_xy[0]), (size_hw[1], size_hw[0])
        return _separable(crop.T, turned[0], boxes_xyxy, turned[1], output_size, legacy, (d, down[2]), (b, across[2]))
    return _sampled(crop, offset_xy, boxes_xyxy, size_hw, output_size, legacy, across, down)


def _separable(
    crop: Tensor,
    offset_xy: tuple[int, int],
    boxes_xyxy: Tensor,
    size_hw: tuple[int, int],
    output_size: int,
    legacy: bool,
    across: tuple[float, float],
    down: tuple[float, float],
) -> Tensor:
    """Factor and shift of each axis: `sample = factor * coordinate + shift`."""
    columns = _axis_weights(boxes_xyxy[:, 0::2], offset_xy[0], crop.shape[1], size_hw[1], output_size, legacy, *across)
    rows = _axis_weights(boxes_xyxy[:, 1::2], offset_xy[1], crop.shape[0], size_hw[0], output_size, legacy, *down)
    return rows @ crop.to(rows.dtype) @ columns.transpose(1, 2)


def _axis_weights(
    sides: Tensor,
    offset: int,
    length: int,
    canvas: int,
    output_size: int,
    legacy: bool,
    factor: float,
    shift: float,
) -> Tensor:
    """How much every pixel of the crop's axis adds to every bin."""
    low, high = (sides * factor + shift).unbind(1)
    extent = (high - low) * math.copysign(1, factor)
    if legacy:
        extent = extent.clamp(min=abs(factor))
    bins = extent / output_size
    grid = bins.ceil().clamp(min=1)
    bins = bins * math.copysign(1, factor)
    most = int(grid.max()) if len(grid) else 1
    sample = torch.arange(most, device=sides.device, dtype=sides.dtype)
    within = (sample + 0.5) / grid[:, None]
    steps = torch.arange(output_size, device=sides.device, dtype=sides.dtype)
    positions = low[:, None, None] + (steps[:, None] + within[:, None, :]) * bins[:, None, None]
    used = (sample < grid[:, None])[:, None, :] & (positions >= -1) & (positions <= canvas)
    positions = positions.clamp(0, canvas - 1) - offset + 1
    # one cell of background on either side of the crop, which the weights then leave out
    weights = linear_weights(positions, length + 2)[..., 1:-1] * used[..., None]
    return weights.sum(dim=2) / grid[:, None, None]


def _sampled(
    crop: Tensor,
    offset_xy: tuple[int, int],
    boxes_xyxy: Tensor,
    size_hw: tuple[int, int],
    output_size: int,
    legacy: bool,
    across: Row,
    down: Row,
) -> Tensor:
    """The same for any map: `sample = row . (x, y, 1)`; one region after the other, so that memory stays small."""
    grids = boxes_xyxy.new_zeros(len(boxes_xyxy), output_size, output_size)
    if crop.numel() == 0:
        return grids
    values = crop.to(grids.dtype)[None, None]
    for grid, (x0, y0, x1, y1) in zip(grids, boxes_xyxy.tolist(), strict=True):
        width, height = (max(x1 - x0, 1.0), max(y1 - y0, 1.0)) if legacy else (x1 - x0, y1 - y0)
        # a cell's two sides, in samples of the source
        right = across[0] * width / output_size, down[0] * width / output_size
        below = across[1] * height / output_size, down[1] * height / output_size
        columns, rows = (max(math.ceil(math.hypot(*side)), 1) for side in (right, below))
        i = (torch.arange(output_size * columns, device=grids.device) + 0.5) / columns
        j = (torch.arange(output_size * rows, device=grids.device)[:, None] + 0.5) / rows
        x = (across[0] * x0 + across[1] * y0 + across[2]) + right[0] * i + below[0] * j
        y = (down[0] * x0 + down[1] * y0 + down[2]) + right[1] * i + below[1] * j
        used = (x >= -1) & (x <= size_hw[1]) & (y >= -1) & (y <= size_hw[0])
        x, y = x.clamp(0, size_hw[1] - 1) - offset_xy[0], y.clamp(0, size_hw[0] - 1) - offset_xy[1]
        # grid_sample wants -1..1 from edge to edge; beyond the crop there is background
        points = torch.stack([(2 * x + 1) / crop.shape[1] - 1, (2 * y + 1) / crop.shape[0] - 1], dim=-1)
        found = torch.nn.functional.grid_sample(values, points[None], padding_mode="zeros", align_corners=False)
        grid.copy_((found[0, 0] * used).reshape(output_size, rows, output_size, columns).mean(dim=(1, 3)))
    return grids
