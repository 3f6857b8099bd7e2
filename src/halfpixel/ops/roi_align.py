"""RoIAlign: crop regions from feature maps without rounding any coordinate (He et al. 2017, arXiv:1703.06870)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.ops.wide import wide

SAMPLES_AT_ONCE = 1 << 22
"""Interpolated corners handled by one call of the kernel: bounds the memory of adaptive sampling."""


class FeatureTable(NamedTuple):
    """All levels of a pyramid as one table of feature vectors: to be made once where there are several crops."""

    vectors: Float[Tensor, "rows c"]
    cells_hw: Int[Tensor, "levels 2"]
    starts: Int[Tensor, "levels"]
    """The first row of each level."""

    @classmethod
    def of(cls, features: Sequence[Float[Tensor, "b c _ _"]]) -> "FeatureTable":
        """From one map for each level, all with the same images and channels."""
        channels, device = features[0].shape[1], features[0].device
        vectors = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in features])
        cells_hw = torch.tensor([level.shape[2:] for level in features], device=device)
        rows = torch.tensor([0, *(f.shape[0] * f.shape[2] * f.shape[3] for f in features)], device=device)
        return cls(vectors, cells_hw, rows.cumsum(0)[:-1])


def roi_align(
    features: Sequence[Float[Tensor, "b c _ _"]] | FeatureTable,
    boxes_xyxy: Float[Tensor, "n 4"],
    image_index: Int[Tensor, "n"],
    levels: Int[Tensor, "n"],
    strides: Sequence[float],
    output_size: int,
    sampling: int = 2,
    aligned: bool = True,
) -> Float[Tensor, "n c s s"]:
    """Average bilinear samples of the features in every bin of every box, all levels and images in one call.

    Every output bin is a weighted sum of feature vectors, four for each sample. So all levels become one table of
    vectors, channels last, and one `embedding_bag` with per-sample weights does the whole job, backward included.

    Args:
        features: one map per pyramid level, all with the same images and channels; or their table.
        boxes_xyxy: in pixels of the network's input. No gradient flows to them.
        image_index: which image of the batch each box is on.
        levels: which of `features` each box is cropped from.
        strides: input pixels per feature cell of each level.
        output_size: bins along each side.
        sampling: samples along each side of a bin; 0 takes as many as a bin covers cells (adaptive).
        aligned: pixel centres lie at half-integers. False repeats the legacy operator, half a cell off, which also
            stretches boxes narrower than a cell to one cell.

    Returns:
        The crops. Samples further than one cell outside of the map count as zero.
    """
    table, cells_hw, starts = features if isinstance(features, FeatureTable) else FeatureTable.of(features)
    if table.requires_grad:  # its gradient is a sum of hundreds of terms
        table = wide(table)
    boxes_xyxy, cells_hw = boxes_xyxy.detach(), cells_hw[levels]
    starts = starts[levels] + image_index * cells_hw.prod(dim=1)
    scale = 1 / torch.tensor(strides, dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)[levels]
    corners = boxes_xyxy * scale[:, None] - (0.5 if aligned else 0.0)
    sides = corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1.0)
    origins_yx, bins_yx = corners[:, :2].flip(1), sides.flip(1) / output_size

    def crop(chosen: Tensor, grid_yx: tuple[int, int]) -> Tensor:
        axes = [
            _axis_samples(origins_yx[chosen, k], bins_yx[chosen, k], output_size, grid_yx[k], cells_hw[chosen, k])
            for k in range(2)
        ]
        return _weighted_sums(table, axes, starts[chosen], cells_hw[chosen, 1])

    everything = torch.arange(boxes_xyxy.shape[0], device=boxes_xyxy.device)
    bags = crop(everything, (sampling, sampling)) if sampling > 0 else _by_grid(crop, bins_yx, table, output_size)
    return bags.reshape(-1, output_size, output_size, table.shape[1]).permute(0, 3, 1, 2)


def _axis_samples(origins: Tensor, bins: Tensor, output_size: int, grid: int, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Cell indices and weights along one axis, `[n, output_size, 2 * grid]` each: two neighbours for each sample."""
    steps = torch.arange(output_size, device=bins.device, dtype=bins.dtype)
    within = (torch.arange(grid, device=bins.device, dtype=bins.dtype) + 0.5) / grid
    offsets = steps[:, None] + within
    positions = origins[:, None, None] + offsets * bins[:, None, None]
    last = (cells - 1)[:, None, None].to(bins.dtype)
    outside = (positions < -1) | (positions > last + 1)
    clamped = torch.minimum(positions.clamp(min=0), last)
    low = torch.minimum(clamped.floor(), (last - 1).clamp(min=0))
    high = torch.minimum(low + 1, last)
    upper = (clamped - low).masked_fill(outside, 0)
    lower = (1 - (clamped - low)).masked_fill(outside, 0)
    indices = torch.cat([low, high], dim=2).long()
    return indices, torch.cat([lower, upper], dim=2) / grid


def _weighted_sums(table: Tensor, axes: list[tuple[Tensor, Tensor]], starts: Tensor, width: Tensor) -> Tensor:
    """Sum of table rows for every bin, `[n * output_size ** 2, c]`, from the samples along y and x."""
    if torch.compiler.is_exporting():
        return _unrolled_sums(table, axes, starts, width)
    (rows, row_weights), (columns, column_weights) = axes
    n, output_size = rows.shape[:2]
    indices = (rows * width[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
    indices = indices + starts[:, None, None, None, None]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    samples = rows.shape[2] * columns.shape[2]
    return torch.nn.functional.embedding_bag(
        indices.reshape(n * output_size**2, samples),
        table,
        mode="sum",
        per_sample_weights=weights.reshape(n * output_size**2, samples).to(table.dtype),
    )


def _unrolled_sums(table: Tensor, axes: list[tuple[Tensor, Tensor]], starts: Tensor, width: Tensor) -> Tensor:
    """The same in operators that every runtime has and runs fast: one gather for each corner, multiply, add."""
    (rows, row_weights), (columns, column_weights) = axes
    first, total = rows * width[:, None, None] + starts[:, None, None], table.new_zeros(())
    for y in range(rows.shape[2]):
        for x in range(columns.shape[2]):
            index = first[:, :, None, y] + columns[:, None, :, x]
            weight = row_weights[:, :, None, y] * column_weights[:, None, :, x]
            total = total + table.index_select(0, index.ravel()) * weight.reshape(-1, 1).to(table.dtype)
    return total


def _by_grid(
    crop: Callable[[Tensor, tuple[int, int]], Tensor], bins_yx: Tensor, table: Tensor, output_size: int
) -> Tensor:
    """Adaptive sampling: boxes that need the same grid go together."""
    grids = bins_yx.ceil().clamp(min=0).long()
    bags = table.new_zeros(len(bins_yx), output_size**2, table.shape[1]) + table[:0].sum()  # zeros that have a gradient
    for grid_y, grid_x in grids[(grids > 0).all(dim=1)].unique(dim=0).tolist():  # a box of zero size has no samples
        members = torch.nonzero((grids == torch.tensor([grid_y, grid_x], device=grids.device)).all(dim=1)).ravel()
        size = max(SAMPLES_AT_ONCE // (4 * grid_y * grid_x * output_size**2), 1)
        for chosen in members.split(size):
            sums = crop(chosen, (grid_y, grid_x))
            bags = bags.index_put((chosen,), sums.reshape(len(chosen), output_size**2, -1))
    return bags.reshape(-1, table.shape[1])
