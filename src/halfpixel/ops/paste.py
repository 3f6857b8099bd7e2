"""Write small mask maps as pixels, each inside its own box."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Alignment = Literal["half_pixel", "torchvision"]
"""Where coordinates point: `half_pixel` is exact, `torchvision` repeats that library's truncations."""

Pasted = tuple[Float[Tensor, "h w"], tuple[int, int]]

BLOCK_PX = 1 << 16
"""Large masks are pasted in row blocks of about so many pixels: no probabilities of a whole one are ever held."""

AT_ONCE = 64
"""Masks whose places are worked out together."""


def paste_mask(
    mask: Float[Tensor, "i j"],
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
    maps, rows, columns = _plan(mask[None], torch.tensor([box_xyxy], dtype=torch.float64), size_hw, alignment)
    (down,), (across,) = rows.places(maps.shape[1], maps), columns.places(maps.shape[2], maps)
    return _between(_between(maps[0], 1, across), 0, down), (int(columns.first[0]), int(rows.first[0]))


def paste_masks(
    masks: Float[Tensor, "n i j"],
    boxes_xyxy: Float[Tensor, "n 4"],
    size_hw: tuple[int, int],
    threshold: float,
    alignment: Alignment = "half_pixel",
) -> tuple[list[Bool[Tensor, "_ _"]], Int[Tensor, "n 2"]]:
    """Resample mask maps into the pixels of their boxes, as `paste_mask` does, and keep those above a threshold.

    Returns:
        The crops and their first pixels `(x, y)`.
    """
    crops: list[Tensor] = []
    offsets_xy = torch.zeros(len(masks), 2, dtype=torch.int64)
    for k in range(0, len(masks), AT_ONCE):
        some = slice(k, k + AT_ONCE)
        maps, rows, columns = _plan(masks[some], boxes_xyxy[some].double(), size_hw, alignment)
        offsets_xy[some] = torch.stack([columns.first, rows.first], dim=1)
        height, width = maps.shape[1:]
        for one, down, across in zip(maps, rows.places(height, maps), columns.places(width, maps), strict=True):
            wide = _between(one, 1, across)
            crop = torch.empty(len(down.weight), wide.shape[1], dtype=torch.bool, device=masks.device)
            step = max(BLOCK_PX // max(wide.shape[1], 1), 1)
            for top in range(0, len(crop), step):
                block = _Places(*(each[top : top + step] for each in down))
                torch.gt(_between(wide, 0, block), threshold, out=crop[top : top + step])
            crops.append(crop)
    return crops, offsets_xy


class _Places(NamedTuple):
    """Pixels along one axis of a mask: the two cells of its map around each, and how far it is on the way between."""

    low: Int[Tensor, "pixels"]
    high: Int[Tensor, "pixels"]
    weight: Float[Tensor, "pixels"]


class _Axis(NamedTuple):
    """Where masks lie along one axis: in pixels `first` to `last`; their maps cover `length` from `start` on."""

    first: Int[Tensor, "n"]
    last: Int[Tensor, "n"]
    start: Float[Tensor, "n"]
    length: Float[Tensor, "n"]

    def places(self, side: int, maps: Tensor) -> list[_Places]:
        """Of the pixels of each mask, whose maps have so many cells along this axis."""
        counts = (self.last - self.first).numpy()
        whose = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        number = torch.arange(len(whose)) - torch.from_numpy(counts.cumsum() - counts)[whose]
        centres = (self.first[whose] + number).to(self.start) + 0.5 - self.start[whose]
        cells = torch.tensor(side) / self.length  # a plain number would be multiplied by the reciprocal
        positions = (centres * cells[whose] - 0.5).to(maps).clamp(0, side - 1)
        low = positions.long()
        high = (low + 1).clamp(max=side - 1)
        parts = (one.split(counts.tolist()) for one in (low, high, positions - low))
        return [_Places(*one) for one in zip(*parts, strict=True)]


def _between(values: Tensor, dim: int, places: _Places) -> Tensor:
    """Linear interpolation along one axis. No product of matrices: for small ones threads cost more than they save."""
    first, second = values.index_select(dim, places.low), values.index_select(dim, places.high)
    return torch.lerp(first, second, places.weight if dim else places.weight[:, None])


def _plan(
    masks: Tensor, boxes_xyxy: Tensor, size_hw: tuple[int, int], alignment: Alignment
) -> tuple[Tensor, _Axis, _Axis]:
    """The maps as they are to be resampled, and where their rows and columns lie."""
    boxes_xyxy = boxes_xyxy.cpu()
    if alignment == "half_pixel":
        rows = _exact(boxes_xyxy[:, 1], boxes_xyxy[:, 3], size_hw[0])
        return masks, rows, _exact(boxes_xyxy[:, 0], boxes_xyxy[:, 2], size_hw[1])
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    # float32 throughout, as torchvision does it: another precision would truncate to another pixel
    low, high = boxes_xyxy.float().split(2, dim=1)
    sides = torch.tensor([(padded.shape[k] / masks.shape[k]) for k in (2, 1)])
    half = (high - low) * 0.5 * sides
    centre = (high + low) * 0.5
    low, high = (centre - half).to(torch.int64), (centre + half).to(torch.int64)
    return padded, _truncated(low[:, 1], high[:, 1], size_hw[0]), _truncated(low[:, 0], high[:, 0], size_hw[1])


def _exact(low: Tensor, high: Tensor, canvas: int) -> _Axis:
    """The pixels whose centres are in [low, high)."""
    first = (low - 0.5).ceil().clamp(0, canvas).long()
    last = torch.maximum((high - 0.5).ceil().clamp(0, canvas).long(), first)
    return _Axis(first, last, low, (high - low).clamp(min=1e-9))


def _truncated(low: Tensor, high: Tensor, canvas: int) -> _Axis:
    first = low.clamp(0, canvas)
    last = torch.maximum((high + 1).clamp(max=canvas), first)
    return _Axis(first, last, low.float(), (high - low + 1).clamp(min=1).float())
