"""Masks that live as one crop per object, never as N x H x W canvases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from skimage.measure import find_contours
from torch import Tensor

from halfpixel.ops import rle
from halfpixel.ops.interpolate import linear_weights
from halfpixel.ops.paste import Alignment, paste_masks

Ring = npt.NDArray[np.float64]
"""A closed outline: `[k, 2]` points (x, y) in pixels, the first not repeated."""


class CocoRle(TypedDict):
    """A compressed COCO run-length mask."""

    size: list[int]
    counts: str


Index = Tensor | slice | int | Sequence[int] | Sequence[bool]
"""What objects are selected by: booleans or integers (a tensor or a list), a slice, or one number."""


def rows_of(index: Index, n: int) -> Int[Tensor, "k"]:
    """The numbers of the selected rows out of `n`; one number selects one row.

    Raises:
        IndexError: a number out of range, or a boolean tensor of another length.
    """
    if isinstance(index, slice):
        return torch.arange(n)[index]
    if isinstance(index, Sequence) and not index:
        return torch.arange(0)  # an empty list has no type
    return torch.arange(n)[torch.as_tensor(index)].reshape(-1)


@dataclass(frozen=True, eq=False)
class SoftMasks:
    """What a network predicted for each mask: kept so that thresholds and area intervals derive on demand.

    Attributes:
        maps: `n` maps `[h, w]` of any shape, in 0..1, each covering its box exactly.
        boxes_xyxy: `[n, 4]` float pixels of the canvas (before any translation).
        alignment: how the maps become pixels.
    """

    maps: tuple[Float[Tensor, "_ _"], ...]
    boxes_xyxy: Float[Tensor, "n 4"]
    alignment: Alignment = "half_pixel"

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.boxes_xyxy):
            raise ValueError(f"{len(self.maps)} maps but {len(self.boxes_xyxy)} boxes")

    @classmethod
    def concatenate(cls, parts: Sequence[SoftMasks]) -> SoftMasks:
        """The maps of several, one after the other; at least one part.

        Raises:
            ValueError: they become pixels in different ways.
        """
        alignments = {one.alignment for one in parts}
        if len(alignments) > 1:
            raise ValueError(f"maps of different alignments: {sorted(alignments)}")
        maps = tuple(each for one in parts for each in one.maps)
        return cls(maps, torch.cat([one.boxes_xyxy for one in parts]), parts[0].alignment)

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Tensor) -> SoftMasks:
        rows = rows_of(index, len(self))
        return replace(self, maps=tuple(self.maps[k] for k in rows.tolist()), boxes_xyxy=self.boxes_xyxy[rows])

    def translate(self, dx: int, dy: int) -> SoftMasks:
        """The same maps with their boxes moved."""
        return replace(self, boxes_xyxy=self.boxes_xyxy + torch.tensor([dx, dy, dx, dy]))

    def paste(self, size_hw: tuple[int, int], threshold: float) -> tuple[list[Tensor], Int[Tensor, "n 2"]]:
        """The pixels of a canvas above a threshold: a crop of each mask, and its first pixel `(x, y)`."""
        crops: dict[int, Tensor] = {}
        offsets_xy = torch.zeros(len(self), 2, dtype=torch.int64)
        rows_by_shape: dict[torch.Size, list[int]] = {}
        for k, one in enumerate(self.maps):
            rows_by_shape.setdefault(one.shape, []).append(k)
        for rows in rows_by_shape.values():
            maps = torch.stack([self.maps[k] for k in rows])
            pasted, first_xy = paste_masks(maps, self.boxes_xyxy[rows], size_hw, threshold, self.alignment)
            crops |= zip(rows, pasted, strict=True)
            offsets_xy[rows] = first_xy
        return [crops[k] for k in range(len(self))], offsets_xy


@dataclass(frozen=True, eq=False)
class CropMasks:
    """`n` binary masks on one canvas, each a crop and the place of its first pixel.

    Attributes:
        crops: `n` boolean crops `[h, w]`; a crop may be empty (0 pixels high or wide).
        offsets_xy: `[n, 2]` integers, each crop's first pixel (x, y) before `origin_xy` is added.
        size_hw: the canvas. Parts of a crop outside of it (after `translate`) are cut off on output.
        origin_xy: a shift common to all masks.
        soft: the network's probability maps where the masks come from one.
    """

    crops: tuple[Bool[Tensor, "_ _"], ...]
    offsets_xy: Int[Tensor, "n 2"]
    size_hw: tuple[int, int]
    origin_xy: tuple[int, int] = (0, 0)
    soft: SoftMasks | None = None

    def __post_init__(self) -> None:
        if len(self.crops) != len(self.offsets_xy):
            raise ValueError(f"{len(self.crops)} crops but {len(self.offsets_xy)} offsets")
        if self.soft is not None and len(self.soft) != len(self.crops):
            raise ValueError(f"{len(self.crops)} crops but {len(self.soft)} probability maps")
        if any(crop.dtype != torch.bool or crop.ndim != 2 for crop in self.crops):
            raise ValueError("crops must be two-dimensional and boolean")

    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> CropMasks:
        """No masks on a canvas."""
        return cls((), torch.zeros(0, 2, dtype=torch.int64), size_hw)

    @classmethod
    def from_soft(cls, soft: SoftMasks, size_hw: tuple[int, int], threshold: float = 0.5) -> CropMasks:
        """Paste probability maps and keep the pixels above `threshold`."""
        crops, offsets_xy = soft.paste(size_hw, threshold)
        return cls(tuple(crops), offsets_xy, size_hw, soft=soft)

    @classmethod
    def from_dense(cls, masks: Bool[Tensor, "n h w"]) -> CropMasks:
        """Crop each of `n` full-canvas masks to its object."""
        crops, offsets = [], []
        for mask in masks:
            rows, columns = torch.nonzero(mask.any(1)).ravel().tolist(), torch.nonzero(mask.any(0)).ravel().tolist()
            top, bottom, left, right = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if rows else (0, 0, 0, 0)
            crops.append(mask[top:bottom, left:right].clone())
            offsets.append((left, top))
        size_hw = (masks.shape[1], masks.shape[2])
        return cls(tuple(crops), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2), size_hw)

    @classmethod
    def from_rle(cls, counts: Sequence[rle.Counts], size_hw: tuple[int, int]) -> CropMasks:
        """Masks from COCO run lengths (see `halfpixel.ops.rle.decompress` for strings)."""
        return cls.from_crops(rle.decode_to_crops(counts, size_hw), size_hw)

    @classmethod
    def from_crops(cls, crops: Sequence[tuple[rle.Crop, tuple[int, int]]], size_hw: tuple[int, int]) -> CropMasks:
        """Masks from boolean arrays and the place `(x, y)` of each one's first pixel on the canvas."""
        offsets = torch.tensor([offset_xy for _, offset_xy in crops], dtype=torch.int64).reshape(-1, 2)
        return cls(tuple(torch.from_numpy(crop) for crop, _ in crops), offsets, size_hw)

    @classmethod
    def from_label_image(cls, labels: Int[Tensor, "h w"]) -> CropMasks:
        """One mask for each positive number in a label image, in ascending order of the numbers."""
        values = labels.numpy()
        numbers, flat = np.unique(values, return_inverse=True)
        rows, columns = np.divmod(np.argsort(flat, axis=None, kind="stable"), values.shape[1])
        bounds = np.concatenate([[0], np.cumsum(np.bincount(flat.ravel()))])
        crops, offsets = [], []
        for k, number in enumerate(numbers.tolist()):
            if number <= 0:
                continue
            y, x = rows[bounds[k] : bounds[k + 1]], columns[bounds[k] : bounds[k + 1]]
            crop = torch.zeros(int(y[-1] - y[0]) + 1, int(x.max() - x.min()) + 1, dtype=torch.bool)
            crop.numpy()[y - y[0], x - x.min()] = True
            crops.append(crop)
            offsets.append((int(x.min()), int(y[0])))
        size_hw = (labels.shape[0], labels.shape[1])
        return cls(tuple(crops), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2), size_hw)

    @classmethod
    def concatenate(cls, parts: Sequence[CropMasks]) -> CropMasks:
        """The masks of several, one after the other, on the canvas that they share; at least one part.

        Raises:
            ValueError: they are on canvases of different sizes.
        """
        size_hw = parts[0].size_hw
        if any(one.size_hw != size_hw for one in parts):
            raise ValueError(f"masks on canvases of different sizes: {sorted({one.size_hw for one in parts})}")
        offsets = torch.cat([one.offsets_xy + torch.tensor(one.origin_xy) for one in parts])
        soft = [one.soft.translate(*one.origin_xy) for one in parts if one.soft is not None and len(one)]
        kept = len(soft) == sum(len(one) > 0 for one in parts) > 0 and len({one.alignment for one in soft}) == 1
        together = SoftMasks.concatenate(soft) if kept else None
        return cls(tuple(crop for one in parts for crop in one.crops), offsets, size_hw, soft=together)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: Index) -> CropMasks:
        """Select by a boolean or integer tensor, a slice or one number."""
        chosen = rows_of(index, len(self))
        crops = tuple(self.crops[k] for k in chosen.tolist())
        soft = None if self.soft is None else self.soft[chosen]
        return replace(self, crops=crops, offsets_xy=self.offsets_xy[chosen], soft=soft)

    def placed(self) -> Iterator[tuple[Bool[Tensor, "h w"], tuple[int, int]]]:
        """Each crop, cut to the canvas, and the canvas position (x, y) of its first pixel."""
        height, width = self.size_hw
        for crop, (x, y) in zip(self.crops, self.offsets_xy.tolist(), strict=True):
            x, y = x + self.origin_xy[0], y + self.origin_xy[1]
            h, w = crop.shape
            if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
                yield crop, (x, y)
                continue
            left, top = min(max(x, 0), width), min(max(y, 0), height)
            right = max(min(x + w, width), left)
            bottom = max(min(y + h, height), top)
            yield crop[top - y : bottom - y, left - x : right - x], (left, top)

    def translate(self, dx: int, dy: int, size_hw: tuple[int, int] | None = None) -> CropMasks:
        """The same masks moved by whole pixels, on another canvas if given. Takes O(1): nothing is copied."""
        origin_xy = (self.origin_xy[0] + dx, self.origin_xy[1] + dy)
        return replace(self, origin_xy=origin_xy, size_hw=size_hw or self.size_hw)

    def at_threshold(self, threshold: float) -> CropMasks:
        """The masks pasted again, keeping the pixels above another probability.

        Raises:
            ValueError: the masks do not come from a network, or the threshold is not between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"a mask threshold lies between 0 and 1, got {threshold}")
        if self.soft is None:
            raise ValueError("these masks carry no probabilities: they do not come from a network")
        # the probabilities' boxes are from before any translation: paste there, as far as the canvas shows
        (height, width), (dx, dy) = self.size_hw, self.origin_xy
        pasted = CropMasks.from_soft(self.soft, (height - min(dy, 0), width - min(dx, 0)), threshold)
        return replace(pasted, origin_xy=self.origin_xy, size_hw=self.size_hw)

    def resize(self, size_hw: tuple[int, int]) -> CropMasks:
        """The masks scaled with their canvas: bilinear between pixel centres, kept from one half upwards."""
        scale_y, scale_x = size_hw[0] / self.size_hw[0], size_hw[1] / self.size_hw[1]
        crops, offsets = [], []
        for crop, (x, y) in self.placed():
            rows, top = _resize_axis(y, crop.shape[0], scale_y, size_hw[0], self.size_hw[0])
            columns, left = _resize_axis(x, crop.shape[1], scale_x, size_hw[1], self.size_hw[1])
            crops.append(rows @ crop.float() @ columns.T >= 0.5)
            offsets.append((left, top))
        return CropMasks(tuple(crops), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2), size_hw)

    def areas_px(self) -> Int[Tensor, "n"]:
        """Pixels of each mask on the canvas."""
        return self._areas_px.clone()

    @cached_property
    def _areas_px(self) -> Int[Tensor, "n"]:
        return torch.tensor([np.count_nonzero(crop.numpy()) for crop, _ in self.placed()], dtype=torch.int64)

    def boxes_xyxy(self) -> Float[Tensor, "n 4"]:
        """The tight box around each mask's pixels, in pixels (an empty mask gives a box of zero size)."""
        boxes = []
        for crop, (x, y) in self.placed():
            pixels = crop.numpy()
            rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
            if len(rows) == 0:
                boxes.append([x, y, x, y])
                continue
            boxes.append([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1])
        return torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4)

    def dense(self) -> Bool[Tensor, "n h w"]:
        """The full canvases. Mind the memory: n x height x width bytes."""
        canvas = torch.zeros(len(self), *self.size_hw, dtype=torch.bool)
        for full, (crop, (x, y)) in zip(canvas, self.placed(), strict=True):
            full[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return canvas

    def label_image(self, order: Sequence[int] | None = None) -> Int[Tensor, "h w"]:
        """One int32 canvas: 0 is background, k + 1 the k-th mask.

        Args:
            order: the order in which masks are painted, the last on top. Default: the first mask on top, as
                detections are sorted by descending score.
        """
        canvas = torch.zeros(self.size_hw, dtype=torch.int32)
        placed = list(self.placed())
        for k in reversed(range(len(self))) if order is None else order:
            crop, (x, y) = placed[k]
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]][crop] = k + 1
        return canvas

    def rles(self) -> list[CocoRle]:
        """Each mask as a compressed COCO run-length encoding of the canvas."""
        size = list(self.size_hw)
        counts = rle.encode_crops([(crop.numpy(), offset_xy) for crop, offset_xy in self.placed()], self.size_hw)
        return [{"size": size, "counts": text} for text in rle.compress(counts)]

    def polygons(self) -> list[list[list[Ring]]]:
        """Each mask's outlines, halfway between the centres of its outermost pixels and their neighbours.

        Returns:
            For each mask its parts, for each part its rings: the outer one, then the holes. Filling the outlines by
            the pixel-centre rule gives the mask back.
        """
        return [_outlines(crop.numpy(), offset_xy) for crop, offset_xy in self.placed()]


def _resize_axis(offset: int, length: int, scale: float, canvas_out: int, canvas_in: int) -> tuple[Tensor, int]:
    """Weights `[out, length]` for one axis of a crop, and the first output pixel."""
    first = max(int((offset - 0.5) * scale), 0)
    last = min(int((offset + length + 0.5) * scale) + 2, canvas_out)
    centres = (torch.arange(first, max(last, first), dtype=torch.float32) + 0.5) / scale - 0.5
    # beyond the crop there is background, beyond the canvas the edge goes on
    positions = centres.clamp(0, canvas_in - 1) - offset + 1
    return linear_weights(positions, length + 2)[:, 1:-1], first


def _outlines(crop: npt.NDArray[np.bool_], offset_xy: tuple[int, int]) -> list[list[Ring]]:
    if not crop.any():
        return []
    contours = find_contours(np.pad(crop, 1).astype(np.float32), 0.5, fully_connected="low")
    # find_contours gives (row, column) of pixel centres in the padded crop, holes the other way round
    rings = [contour[:-1, ::-1] - 0.5 + np.array(offset_xy) for contour in contours]
    outers = [ring for ring in rings if _signed_area(ring) > 0]
    holes = [ring for ring in rings if _signed_area(ring) <= 0]
    parts = [[outer] for outer in outers]
    for hole in holes:
        inside = [part for part in parts if _contains(part[0], hole[0])]
        min(inside, key=lambda part: abs(_signed_area(part[0]))).append(hole)
    return parts


def _signed_area(ring: Ring) -> float:
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _contains(ring: Ring, point: npt.NDArray[np.float64]) -> bool:
    """Even-odd rule."""
    x, y = ring.T
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    crosses = (y > point[1]) != (y_next > point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        x_cross = x + (point[1] - y) / (y_next - y) * (x_next - x)
    return bool(np.count_nonzero(crosses & (point[0] < x_cross)) % 2)
