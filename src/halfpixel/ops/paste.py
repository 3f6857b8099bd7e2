"""Write small mask maps as pixels, each inside its own box."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from halfpixel.ops.interpolate import linear_weights

Alignment = Literal["half_pixel", "torchvision"]
"""Where coordinates point: `half_pixel` is exact, `torchvision` repeats that library's truncations."""

Pasted = tuple[Float[Tensor, "h w"], tuple[int, int]]


def paste_mask(
    mask: Float[Tensor, "s s"],
    box_xyxy: tuple[float, float, float, float],
    size_hw: tuple[int, int],
    alignment: Alignment = "half_pixel",
) -> Pasted:
    """Resample one mask map into the pixels of its box.

    Args:
        mask: probabilities (or logits), covering the box exactly.
        box_xyxy: in pixels of the canvas, pixel j covering [j, j + 1).
        size_hw: the canvas; what lies outside is cut off.
        alignment: `half_pixel` samples at each pixel's centre, the map's edge value continuing to the edge of the
            box; a pixel belongs to the box when its centre does. `torchvision` pads the map by one zero cell, grows
            the box to match, truncates it to integers and resizes, as torchvision 0.13 and later do.

    Returns:
        The values of a crop `[h, w]` (either may be 0) and the crop's first pixel `(x, y)`.
    """
    if alignment == "torchvision":
        return _paste_truncated(mask, box_xyxy, size_hw)
    rows, top = _exact_positions(box_xyxy[1], box_xyxy[3], size_hw[0], mask)
    columns, left = _exact_positions(box_xyxy[0], box_xyxy[2], size_hw[1], mask)
    return _resample(mask, rows, columns), (left, top)


def _resample(mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return linear_weights(rows, mask.shape[0]) @ mask @ linear_weights(columns, mask.shape[1]).T


def _exact_positions(low: float, high: float, canvas: int, mask: Tensor) -> tuple[Tensor, int]:
    """Map positions of the pixel centres in [low, high), and the first such pixel."""
    first = min(max(-int(-(low - 0.5) // 1), 0), canvas)  # ceil: the first pixel whose centre is inside
    last = min(max(-int(-(high - 0.5) // 1), first), canvas)
    centres = torch.arange(first, last, dtype=torch.float64, device=mask.device) + 0.5
    positions = (centres - low) / max(high - low, 1e-9) * mask.shape[0] - 0.5
    return positions.to(mask.dtype), first


def _paste_truncated(mask: Tensor, box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]) -> Pasted:
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))
    # float32 throughout, as torchvision does it: another precision would truncate to another pixel
    box = torch.tensor(box_xyxy, dtype=torch.float32)
    growth = padded.shape[0] / mask.shape[0]
    half = (box[2:] - box[:2]) * 0.5 * growth
    centre = (box[2:] + box[:2]) * 0.5
    left, top = (centre - half).to(torch.int64).tolist()
    right, bottom = (centre + half).to(torch.int64).tolist()
    rows, first_row = _truncated_positions(top, bottom, size_hw[0], padded)
    columns, first_column = _truncated_positions(left, right, size_hw[1], padded)
    return _resample(padded, rows, columns), (first_column, first_row)


def _truncated_positions(low: int, high: int, canvas: int, padded: Tensor) -> tuple[Tensor, int]:
    length = max(high - low + 1, 1)
    first = min(max(low, 0), canvas)
    last = max(min(high + 1, canvas), first)
    indices = torch.arange(first - low, last - low, dtype=padded.dtype, device=padded.device)
    return (indices + 0.5) * (padded.shape[0] / length) - 0.5, first
