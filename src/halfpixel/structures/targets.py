"""What a network should have predicted on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.paste import Alignment
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import Index, rows_of
from halfpixel.structures.source_masks import SourceMask, extents_of, grids_of

SMALLEST_VISIBLE_PX = 4
"""Objects of which a view shows less, in square pixels of the network's input, are ignored like crowd regions."""

SMALLEST_VISIBLE_SHARE = 0.1
"""Nor is an object kept of which pasted objects leave less than this."""


SIDES_STEP = 8
"""Masks are drawn together on grids whose sides are multiples of so many cells."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Annotated objects in the frame of the network's input; their masks stay crops in the images they come from.

    Attributes:
        size_hw: the input's true size inside the padding, in pixels.
        boxes_xyxy: `[n, 4]` tight boxes around what the input shows of each object, in its pixels.
        labels: `[n]` classes; 0 is the first real one.
        masks: of each object.
        ignored_xyxy: `[m, 4]` boxes of crowd regions and of objects of which hardly anything is seen: what lies in
            them is neither an object nor background.
        seed: decides which anchors and regions of this image are trained on.
    """

    size_hw: tuple[int, int]
    boxes_xyxy: Float[Tensor, "n 4"]
    labels: Int[Tensor, "n"]
    masks: tuple[SourceMask, ...]
    ignored_xyxy: Float[Tensor, "m 4"]
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.boxes_xyxy) == len(self.labels) == len(self.masks):
            raise ValueError(f"{len(self.boxes_xyxy)} boxes, {len(self.labels)} labels, {len(self.masks)} masks")

    @classmethod
    def from_instances(
        cls, objects: Instances, ignored_xyxy: Float[Tensor, "m 4"] | None = None, seed: int = 0
    ) -> Targets:
        """Objects on an image that is the network's input as it is; boxes stay as given."""
        assert objects.masks is not None, "training needs masks"
        as_it_is = affine.shift(0, 0)
        masks = tuple(SourceMask(crop, xy, objects.size_hw, as_it_is) for crop, xy in objects.masks.placed())
        ignored_xyxy = torch.zeros(0, 4) if ignored_xyxy is None else ignored_xyxy
        return cls(objects.size_hw, objects.boxes_xyxy, objects.labels, masks, ignored_xyxy, seed)

    @classmethod
    def seen(
        cls,
        objects: Instances,
        ignored: Instances,
        to_source: Float64[Tensor, "2 3"],
        size_hw: tuple[int, int],
        seed: int = 0,
    ) -> Targets:
        """What an input of `size_hw` shows of an annotated image through a map from the one to the other."""
        masks, rows = _source_masks(objects, to_source, size_hw)
        boxes, areas = extents_of(masks, size_hw)
        kept = torch.nonzero(areas >= SMALLEST_VISIBLE_PX).ravel()
        slivers = boxes[(areas > 0) & (areas < SMALLEST_VISIBLE_PX)]
        crowds, crowd_areas = extents_of(_source_masks(ignored, to_source, size_hw)[0], size_hw)
        crowds = torch.cat([crowds[crowd_areas >= SMALLEST_VISIBLE_PX], slivers])
        labels, visible = objects.labels[rows][kept], tuple(masks[k] for k in kept.tolist())
        return cls(size_hw, boxes[kept], labels, visible, crowds, seed)

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: Index) -> Targets:
        """Some of the objects, all of the crowd regions."""
        rows = rows_of(index, len(self))
        masks = tuple(self.masks[k] for k in rows.tolist())
        return replace(self, boxes_xyxy=self.boxes_xyxy[rows], labels=self.labels[rows], masks=masks)

    def pasted_over(self, pasted: Targets) -> Targets:
        """The objects of both, those here losing what the pasted ones hide; (almost) wholly hidden ones are gone."""
        low = torch.maximum(self.boxes_xyxy[:, None, :2], pasted.boxes_xyxy[:, :2])
        high = torch.minimum(self.boxes_xyxy[:, None, 2:], pasted.boxes_xyxy[:, 2:])
        over = (low < high).all(2)
        rows = torch.nonzero(over.any(1)).ravel()
        below, hidden = [self.masks[k] for k in rows.tolist()], []
        for mask, hiding in zip(below, over[rows], strict=True):
            on_top = tuple(pasted.masks[j] for j in torch.nonzero(hiding).ravel().tolist())
            hidden.append(replace(mask, hidden_by=mask.hidden_by + on_top))
        boxes, masks, kept = self.boxes_xyxy.clone(), list(self.masks), torch.ones(len(self), dtype=torch.bool)
        (boxes[rows], left), (_, whole) = extents_of(hidden, self.size_hw), extents_of(below, self.size_hw)
        kept[rows] = left >= (SMALLEST_VISIBLE_SHARE * whole).clamp(min=SMALLEST_VISIBLE_PX)
        for k, mask in zip(rows.tolist(), hidden, strict=True):
            masks[k] = mask
        own = replace(self, boxes_xyxy=boxes, masks=tuple(masks))[kept]
        return replace(
            own,
            boxes_xyxy=torch.cat([own.boxes_xyxy, pasted.boxes_xyxy]),
            labels=torch.cat([own.labels, pasted.labels]),
            masks=own.masks + pasted.masks,
        )

    def generator(self, purpose: int) -> torch.Generator:
        """The source of one random choice on this image, the same whenever it is asked for."""
        return torch.Generator().manual_seed(self.seed * 1_009 + purpose)

    def masks_on(self, grid_hw: tuple[int, int], input_hw: tuple[int, int]) -> Float[Tensor, "n h w"]:
        """Share of each cell of a grid that each object's visible mask covers.

        Args:
            grid_hw: cells of the grid.
            input_hw: what the grid covers: the network's input with its padding, in pixels.
        """
        (rows, columns), side = grid_hw, max(grid_hw)
        square = torch.tensor([[0.0, 0.0, input_hw[1] * side / columns, input_hw[0] * side / rows]])
        return grids_of(self.masks, square.expand(len(self), 4), side, "half_pixel")[:, :rows, :columns]

    def masks_at(self, points_xy: Float[Tensor, "k 2"]) -> Float[Tensor, "n k"]:
        """How much of each point, in pixels of the network's input, is each object's visible mask; in 0..1."""
        found = [mask.at(points_xy) for mask in self.masks]
        return torch.stack(found) if found else points_xy.new_zeros(0, len(points_xy))

    def label_map(self) -> Int[Tensor, "h w"]:
        """Which object each pixel of the input shows: 0 for none, k + 1 for the k-th (the last, where several do)."""
        canvas = torch.zeros(self.size_hw, dtype=torch.int64)
        low, high = self.boxes_xyxy[:, :2].floor(), self.boxes_xyxy[:, 2:].ceil()
        sides = (high - low).amax(1).clamp(min=1).long()
        drawn: dict[int, Tensor] = {}
        for side in (rounded := -(-sides // SIDES_STEP) * SIDES_STEP).unique().tolist():  # few sizes
            rows = torch.nonzero(rounded == side).ravel()
            some, regions = [self.masks[k] for k in rows.tolist()], torch.cat([low[rows], low[rows] + side], 1)
            drawn |= zip(rows.tolist(), grids_of(some, regions, side, "half_pixel") >= 0.5, strict=True)
        for k, ((x, y), side) in enumerate(zip(low.long().tolist(), sides.tolist(), strict=True)):
            window = canvas[y : y + side, x : x + side]
            window[drawn[k][: window.shape[0], : window.shape[1]]] = k + 1
        return canvas

    def mask_grids(
        self,
        matches: Int[Tensor, "n"],
        regions_xyxy: Float[Tensor, "n 4"],
        output_size: int,
        alignment: Alignment = "half_pixel",
    ) -> Float[Tensor, "n s s"]:
        """What the mask branch should predict in each region.

        Args:
            matches: the object that each region answers for.
            regions_xyxy: in pixels of the network's input.
            output_size: cells along each side of the grid.
            alignment: see `halfpixel.ops.mask_targets`.

        Returns:
            Values in 0..1.
        """
        return grids_of([self.masks[k] for k in matches.tolist()], regions_xyxy, output_size, alignment)

    def masks_in_points(self, matches: Int[Tensor, "n"], points_xy: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p"]:
        """How much of each point is the visible mask of the object that its row answers for; in 0..1.

        Args:
            matches: the object of each row.
            points_xy: in pixels of the network's input.
        """
        found = points_xy.new_zeros(points_xy.shape[:2])
        for k in sorted(set(matches.tolist())):
            rows = torch.nonzero(matches == k).ravel()
            found[rows] = self.masks[k].at(points_xy[rows].flatten(0, 1)).unflatten(0, (len(rows), -1))
        return found

    def seen_on(self, regions_xyxy: Float[Tensor, "n 4"], points: int) -> Bool[Tensor, "n p p"]:
        """Which points of a grid on each region lie in the input: of what is beyond its edge nothing can be known.

        Args:
            regions_xyxy: in pixels of the network's input.
            points: along each side of the grid.
        """
        steps = (torch.arange(points, device=regions_xyxy.device) + 0.5) / points
        places = regions_xyxy[:, :2, None] + steps * (regions_xyxy[:, 2:] - regions_xyxy[:, :2])[..., None]
        inside = (places >= 0) & (places < places.new_tensor(self.size_hw).flip(0)[:, None])
        return inside[:, 1, :, None] & inside[:, 0, None]

    def other_grids(
        self, matches: Int[Tensor, "n"], regions_xyxy: Float[Tensor, "n 4"], output_size: int
    ) -> Float[Tensor, "n s s"]:
        """What objects show in each region that it does not answer for.

        Args:
            matches: the object that each region answers for.
            regions_xyxy: in pixels of the network's input.
            output_size: cells along each side of the grid.

        Returns:
            The share of each cell that they cover together, in 0..1.
        """
        objects = self.boxes_xyxy.to(regions_xyxy)
        low = torch.maximum(regions_xyxy[:, None, :2], objects[:, :2])
        high = torch.minimum(regions_xyxy[:, None, 2:], objects[:, 2:])
        seen = (low < high).all(2)
        seen[torch.arange(len(matches)), matches] = False
        rows, others = torch.nonzero(seen, as_tuple=True)
        found = torch.zeros(len(matches), output_size, output_size, device=regions_xyxy.device)
        return found.index_add(0, rows, self.mask_grids(others, regions_xyxy[rows], output_size)).clamp(max=1)


def _source_masks(
    objects: Instances, to_source: Float64[Tensor, "2 3"], frame_hw: tuple[int, int]
) -> tuple[Sequence[SourceMask], Int[Tensor, "k"]]:
    """Masks of the objects that a frame may show, and which objects they are.

    Most objects of a large image are outside of a view: their crops' corners tell so without a look at the masks.
    """
    masks = objects.masks
    assert masks is not None, "training needs masks"
    if len(masks) == 0:
        return [], torch.zeros(0, dtype=torch.int64)
    low = masks.offsets_xy + torch.tensor(masks.origin_xy)
    high = low + torch.tensor([(crop.shape[1], crop.shape[0]) for crop in masks.crops])
    window = affine.source_window(to_source, frame_hw, masks.size_hw)
    near = (high[:, 1] > window[0].start) & (low[:, 1] < window[0].stop)
    near &= (high[:, 0] > window[1].start) & (low[:, 0] < window[1].stop)
    rows = torch.nonzero(near).ravel()
    return [SourceMask(crop, xy, masks.size_hw, to_source) for crop, xy in masks[rows].placed()], rows
