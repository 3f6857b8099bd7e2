"""What a mask branch should predict: a mask sampled onto the grid of a region."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halfpixel.ops.interpolate import linear_weights
from halfpixel.ops.paste import Alignment


def mask_targets(
    crop: Bool[Tensor, "h w"],
    offset_xy: tuple[int, int],
    boxes_xyxy: Float[Tensor, "n 4"],
    size_hw: tuple[int, int],
    output_size: int,
    alignment: Alignment = "half_pixel",
) -> Float[Tensor, "n s s"]:
    """Share of each grid cell that the mask covers, for regions that all belong to one object.

    This is RoIAlign with adaptive sampling on the mask. Being separable, it is two matrix products on the crop:
    nothing of the canvas's size is made.

    Args:
        crop: the object's mask.
        offset_xy: the crop's first pixel on the canvas.
        boxes_xyxy: the regions, in pixels of the canvas.
        size_hw: the canvas; beyond its edge the edge's value goes on for one pixel.
        output_size: cells along each side of the grid.
        alignment: `torchvision` repeats its legacy coordinates, half a pixel off.

    Returns:
        Values in 0..1.
    """
    boxes_xyxy = boxes_xyxy.detach().float()
    legacy = alignment == "torchvision"
    columns = _axis_weights(boxes_xyxy[:, 0::2], offset_xy[0], crop.shape[1], size_hw[1], output_size, legacy)
    rows = _axis_weights(boxes_xyxy[:, 1::2], offset_xy[1], crop.shape[0], size_hw[0], output_size, legacy)
    return rows @ crop.to(rows.dtype) @ columns.transpose(1, 2)


def _axis_weights(
    sides: Tensor, offset: int, length: int, canvas: int, output_size: int, legacy: bool
) -> Float[Tensor, "n s length"]:
    """How much every pixel of the crop's axis adds to every bin."""
    low, high = (sides - (0.0 if legacy else 0.5)).unbind(1)
    extent = (high - low).clamp(min=1.0) if legacy else high - low
    bins = extent / output_size
    grid = bins.ceil().clamp(min=1)
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
