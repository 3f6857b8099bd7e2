"""What a mask branch should predict: masks sampled onto the grids of regions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.crop_stacks import crop_stacks
from halfpixel.ops.interpolate import linear_weights
from halfpixel.ops.paste import Alignment

Row = tuple[float, float, float]
"""One row of an affine map: how x, y and 1 add to a coordinate."""

AS_IT_IS: tuple[Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

SAMPLES_AT_ONCE = 1 << 20
"""Points of turned masks that are looked at together: memory does not grow with the number of regions."""


def mask_targets(
    crops: Sequence[Bool[Tensor, "_ _"]],
    offsets_xy: Int[Tensor, "n 2"],
    boxes_xyxy: Float[Tensor, "n 4"],
    size_hw: tuple[int, int],
    output_size: int,
    alignment: Alignment = "half_pixel",
    to_source: Float64[Tensor, "2 3"] | None = None,
) -> Float[Tensor, "n s s"]:
    """Share of each grid cell that a mask covers, for a region of each mask.

    This is RoIAlign on the mask with as many samples in a cell as it has pixels of the mask's image along each side.
    Maps that keep the axes (scaling, mirroring, quarter turns) are separable: two matrix products on the crops.
    Others sample the crops point by point. Nothing of the canvas's size is made.

    Args:
        crops: the masks, in the image that they come from; on the CPU.
        offsets_xy: each crop's first pixel in that image.
        boxes_xyxy: the regions, in pixels of the network's input.
        size_hw: the image that the masks come from; beyond its edge the edge's value goes on for one pixel.
        output_size: cells along each side of the grids.
        alignment: `torchvision` repeats its legacy coordinates, half a pixel off.
        to_source: from the network's input to that image; None where they are the same.

    Returns:
        Values in 0..1.
    """
    boxes_xyxy = boxes_xyxy.detach().float()
    grids, device = boxes_xyxy.new_zeros(len(crops), output_size, output_size), boxes_xyxy.device
    for rows, stack in crop_stacks(crops, cells_per_side=output_size):
        of = torch.tensor(rows, device=device)
        some = _Masks(stack.to(device, grids.dtype), offsets_xy.to(device)[of], size_hw)
        grids[of] = some.on(boxes_xyxy[of], output_size, alignment == "torchvision", to_source)
    return grids


def centres_of_mass(grids: Float[Tensor, "n s s"], boxes_xyxy: Float[Tensor, "n 4"]) -> Float[Tensor, "n 2"]:
    """Centres of mass (x, y) of masks sampled on the grids of boxes; an empty one has its box's corner."""
    steps = (torch.arange(grids.shape[1], device=grids.device) + 0.5) / grids.shape[1]
    total = grids.sum((1, 2)).clamp(min=1e-6)
    share = torch.stack([(grids.sum(1) * steps).sum(1), (grids.sum(2) * steps).sum(1)], 1) / total[:, None]
    return boxes_xyxy[:, :2] + share * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])


class _Masks(NamedTuple):
    """Masks of one image, and where they are in it."""

    stack: Float[Tensor, "n h w"]
    offsets_xy: Int[Tensor, "n 2"]
    size_hw: tuple[int, int]

    def on(self, boxes_xyxy: Tensor, output_size: int, legacy: bool, to_source: Tensor | None) -> Tensor:
        """See `mask_targets`."""
        (a, b, c), (d, e, f) = AS_IT_IS if to_source is None else to_source.tolist()
        # from input coordinates to sample numbers of the image; legacy coordinates name a pixel's corner for its centre
        start = 0.5 if legacy else 0.0
        across, down = (a, b, (a + b) * start + c - 0.5), (d, e, (d + e) * start + f - 0.5)
        nothing = 1e-12 * max(abs(a), abs(b), abs(d), abs(e))
        if max(abs(b), abs(d)) <= nothing:
            return self._products(boxes_xyxy, output_size, legacy, (a, across[2]), (e, down[2]))
        if max(abs(a), abs(e)) <= nothing:  # a quarter turn: the transposed masks
            turned = _Masks(self.stack.transpose(1, 2), self.offsets_xy.flip(1), self.size_hw[::-1])
            return turned._products(boxes_xyxy, output_size, legacy, (d, down[2]), (b, across[2]))
        return self._sampled(boxes_xyxy, output_size, legacy, across, down)

    def _products(
        self, boxes_xyxy: Tensor, output_size: int, legacy: bool, across: tuple[float, float], down: tuple[float, float]
    ) -> Float[Tensor, "n s s"]:
        """Factor and shift of each axis: `sample = factor * coordinate + shift`."""
        rows, columns = (
            _axis_weights(
                boxes_xyxy[:, axis::2],
                self.offsets_xy[:, axis],
                self.stack.shape[2 - axis],
                self.size_hw[1 - axis],
                output_size,
                legacy,
                *along,
            )
            for axis, along in ((1, down), (0, across))
        )
        return rows @ self.stack @ columns.transpose(1, 2)

    def _sampled(
        self, boxes_xyxy: Tensor, output_size: int, legacy: bool, across: Row, down: Row
    ) -> Float[Tensor, "n s s"]:
        """The same for any map: `sample = row . (x, y, 1)`."""
        corners = boxes_xyxy.double()
        sides = corners[:, 2:] - corners[:, :2]
        if legacy:
            sides = sides.clamp(min=1.0)
        to_samples = corners.new_tensor([across, down])
        first = affine.apply(to_samples, corners[:, :2])
        # a cell's two sides, in samples of the source: [n, right or below, x or y]
        cells = sides[:, :, None] * to_samples[:, :2].T / output_size
        finer = torch.hypot(cells[..., 0], cells[..., 1]).ceil().clamp(min=1).long()
        grids = boxes_xyxy.new_zeros(len(boxes_xyxy), output_size, output_size)
        for columns, rows in finer.unique(dim=0).tolist():
            members = torch.nonzero((finer == finer.new_tensor([columns, rows])).all(1)).ravel()
            for some in members.split(max(SAMPLES_AT_ONCE // (output_size**2 * columns * rows), 1)):
                part = _Masks(self.stack[some], self.offsets_xy[some], self.size_hw)
                grids[some] = part._means(first[some], cells[some], output_size, columns, rows)
        return grids

    def _means(
        self,
        first_xy: Float64[Tensor, "n 2"],
        cells: Float64[Tensor, "n 2 2"],
        size: int,
        columns: int,
        rows: int,
    ) -> Float[Tensor, "n s s"]:
        """Of so many samples in each cell, along its two sides."""
        first, right, below = (one.to(self.stack.dtype)[..., None, None] for one in (first_xy, *cells.unbind(1)))
        i = (torch.arange(size * columns, device=first.device) + 0.5) / columns
        j = (torch.arange(size * rows, device=first.device)[:, None] + 0.5) / rows
        points = first + right * i + below * j  # [n, x or y, down, across]
        canvas = first.new_tensor([self.size_hw[1], self.size_hw[0]])[:, None, None]
        used = ((points >= -1) & (points <= canvas)).all(1)
        points = points.clamp(min=torch.zeros_like(canvas), max=canvas - 1) - self.offsets_xy[..., None, None]
        # grid_sample wants -1..1 from edge to edge; beyond the crop there is background
        crop = first.new_tensor([self.stack.shape[2], self.stack.shape[1]])[:, None, None]
        places = ((2 * points + 1) / crop - 1).permute(0, 2, 3, 1)
        sample = torch.nn.functional.grid_sample
        (found,) = sample(self.stack[:, None], places, padding_mode="zeros", align_corners=False).unbind(1)
        return (found * used).reshape(-1, size, rows, size, columns).mean(dim=(2, 4))


def _axis_weights(
    sides: Tensor,
    offsets: Tensor,
    length: int,
    canvas: int,
    output_size: int,
    legacy: bool,
    factor: float,
    shift: float,
) -> Float[Tensor, "n s length"]:
    """How much every pixel of the crops' axis adds to every bin."""
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
    positions = positions.clamp(0, canvas - 1) - offsets[:, None, None] + 1
    # one cell of background on either side of the crops, which the weights then leave out
    weights = linear_weights(positions, length + 2)[..., 1:-1] * used[..., None]
    return weights.sum(dim=2) / grid[:, None, None]
