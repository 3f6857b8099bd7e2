"""Masks as they were annotated, and how the network's input looks at them: never resampled, sampled where asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.mask_extent import covers, pixel_centres, visible_extents
from halfpixel.ops.mask_targets import mask_targets
from halfpixel.ops.paste import Alignment
from halfpixel.ops.point_sample import point_sample


@dataclass(frozen=True, eq=False)
class SourceMask:
    """An object's mask as it was annotated, and how the network's input looks at it.

    Attributes:
        crop: the mask, in pixels of the image it comes from.
        offset_xy: the crop's first pixel in that image.
        size_hw: that image.
        to_source: from the network's input to that image (see `halfpixel.ops.affine`).
        hidden_by: masks that were pasted on top.
    """

    crop: Bool[Tensor, "h w"]
    offset_xy: tuple[int, int]
    size_hw: tuple[int, int]
    to_source: Float64[Tensor, "2 3"]
    hidden_by: tuple[SourceMask, ...] = ()

    @property
    def to_crop(self) -> Float64[Tensor, "2 3"]:
        """From the network's input to the crop."""
        return affine.compose(affine.shift(-self.offset_xy[0], -self.offset_xy[1]), self.to_source)

    def at(self, points_xy: Float[Tensor, "k 2"]) -> Float[Tensor, "k"]:
        """How much of points in the network's input is the visible mask's, interpolated between its pixels' centres."""
        device = points_xy.device
        points = affine.apply(self.to_source.to(device), points_xy)
        size_wh = points.new_tensor([self.size_hw[1], self.size_hw[0]])
        inside = ((points >= 0) & (points <= size_wh)).all(1)  # beyond the image there is nothing
        points = points.clamp(min=0.5).minimum(size_wh - 0.5) - points.new_tensor(self.offset_xy) + 1
        around = torch.nn.functional.pad(self.crop.to(device, points_xy.dtype), (1, 1, 1, 1))
        near = inside & ((points > 0) & (points < points.new_tensor(around.shape).flip(0))).all(1)
        found = points_xy.new_zeros(len(points_xy))
        found[near] = point_sample(around[None, None], points[None, near])[0, 0]
        for mask in self.hidden_by:
            found = found * (1 - mask.at(points_xy))
        return found

    def within(self, rows: slice, columns: slice) -> SourceMask:
        """The part of it in a window of its image."""
        (x, y), (height, width) = self.offset_xy, self.crop.shape
        left, top = min(max(columns.start - x, 0), width), min(max(rows.start - y, 0), height)
        crop = self.crop[top : max(rows.stop - y, top), left : max(columns.stop - x, left)]
        return replace(self, crop=crop, offset_xy=(x + left, y + top))

    def unhidden(self, pieces: int) -> Bool[Tensor, "h w"]:
        """What others leave of it, each pixel in so many pieces along its sides."""
        crop = self.crop.repeat_interleave(pieces, 0).repeat_interleave(pieces, 1)
        to_pieces = affine.compose(affine.scale(pieces, pieces), self.to_crop)
        points = affine.apply(affine.invert(to_pieces), pixel_centres(crop))
        hidden = [covers(mask.crop, affine.apply(mask.to_crop, points)) for mask in self.hidden_by]
        crop[crop.clone()] = ~torch.stack(hidden).any(0)
        return crop


def grids_of(
    masks: Sequence[SourceMask], regions_xyxy: Float[Tensor, "n 4"], output_size: int, alignment: Alignment
) -> Float[Tensor, "n s s"]:
    """Share of each grid cell that the visible mask covers, for a region of each mask.

    An object that the input's edge cuts goes on beyond it as it does in its own image.

    Args:
        masks: one of them may be there several times.
        regions_xyxy: in pixels of the network's input.
        output_size: cells along each side of the grids.
        alignment: see `halfpixel.ops.mask_targets`.

    Returns:
        Values in 0..1.
    """
    regions_xyxy = regions_xyxy.detach().float()
    found = regions_xyxy.new_zeros(len(masks), output_size, output_size)
    for rows in _alike(masks):
        some, one = [masks[k] for k in rows], masks[rows[0]]
        crops, offsets_xy = [mask.crop for mask in some], torch.tensor([mask.offset_xy for mask in some])
        with torch.autocast(found.device.type, enabled=False):  # coordinates do not survive half precision
            found[rows] = mask_targets(
                crops, offsets_xy, regions_xyxy[rows], one.size_hw, output_size, alignment, one.to_source
            )
    for k in range(max((len(mask.hidden_by) for mask in masks), default=0)):
        rows = [row for row, mask in enumerate(masks) if len(mask.hidden_by) > k]
        hiding = [masks[row].hidden_by[k] for row in rows]
        found[rows] *= 1 - grids_of(hiding, regions_xyxy[rows], output_size, alignment)
    return found


def extents_of(
    masks: Sequence[SourceMask], frame_hw: tuple[int, int]
) -> tuple[Float[Tensor, "n 4"], Float64[Tensor, "n"]]:
    """The tight boxes around what a frame shows of masks and their areas, both in pixels of the frame."""
    boxes, areas = torch.zeros(len(masks), 4), torch.zeros(len(masks), dtype=torch.float64)
    for rows in _alike(masks):
        one = masks[rows[0]]
        window = affine.source_window(one.to_source, frame_hw, one.size_hw)
        seen = [masks[k].within(*window) for k in rows]
        # pieces no larger than the frame's pixels, since others' outlines cross the masks' own
        pieces = math.ceil(affine.area_factor(one.to_source) ** -0.5) if one.hidden_by else 1
        crops = [mask.unhidden(pieces) if mask.hidden_by else mask.crop for mask in seen]
        offsets_xy = torch.tensor([mask.offset_xy for mask in seen]) * pieces
        to_pieces = affine.compose(affine.scale(pieces, pieces), one.to_source)
        found, areas[rows] = visible_extents(crops, offsets_xy, to_pieces, frame_hw)
        boxes[rows] = found.float()
    return boxes, areas


def _alike(masks: Sequence[SourceMask]) -> Iterator[list[int]]:
    """Which masks are of one image, looked at through one map, and all or none of them hidden by others."""
    rows: dict[object, list[int]] = {}
    for k, mask in enumerate(masks):
        alike = mask.size_hw, bool(mask.hidden_by), *mask.to_source.ravel().tolist()
        rows.setdefault(alike, []).append(k)
    yield from rows.values()
