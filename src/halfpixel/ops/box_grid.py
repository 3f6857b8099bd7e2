"""Which boxes may overlap, found on a grid: the work follows the number of pairs that do, not the square of all."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

FINEST_CELL_PX = 1.0
"""So many cells lie in an image at most that their numbers fit into 64 bits, whatever the number of groups."""

ROUNDING = 1.001
"""Cells are so much wider than they have to be, which is more than any number here is rounded by."""


class BoxGrid:
    """Boxes by size and place.

    Boxes whose longer side is at most 2^k pixels, and more than half of that, lie by their centres in cells of
    2^k (1 - t) pixels. Where an IoU is above t, the boxes share more than t times the wider one's width, and likewise
    of the heights. So their centres are less than (1 - t) times the larger one's longer side apart along each axis,
    which is a cell at most, and their longer sides differ by less than a factor of 1 / t.

    Args:
        boxes_xyxy: in pixels, on the CPU.
        groups: boxes of other groups never overlap; from 0.
        iou_threshold: overlaps that are looked for are above this, below 1; 0 for all.
    """

    def __init__(self, boxes_xyxy: Float[Tensor, "n 4"], groups: Int[Tensor, "n"], iou_threshold: float = 0.0) -> None:
        low, high = boxes_xyxy.double().split(2, 1)
        exponents = torch.frexp((high - low).amax(1)).exponent.clamp(min=0).long()
        smallest, largest = (int(one) for one in torch.aminmax(exponents))
        self._levels = largest - smallest + 1
        self._level, self._group = exponents - smallest, groups
        apart = max(math.ceil(-math.log2(iou_threshold)), 0) if iou_threshold > 0 else self._levels
        self._steps = min(apart, self._levels - 1)
        wide = 2.0 ** torch.arange(smallest, largest + 1).double() * (1 - iou_threshold)
        self._cell_px = (ROUNDING * wide).clamp(min=FINEST_CELL_PX)
        centres = (low + high) / 2
        self._centres = centres - centres.amin(0)
        self._columns, self._rows = (self._centres.amax(0) / self._cell_px[0]).long().add(3).tolist()
        every = torch.arange(boxes_xyxy.shape[0])
        # of each step the boxes in the cells of boxes that are so many times twice as large
        self._tables = [self._table(every[self._level + step < self._levels], step) for step in range(self._steps + 1)]

    def _table(self, members: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The cells of some boxes in ascending order, and whose they are."""
        cells, order = self._cells(members, self._level[members] + step).sort(stable=True)
        return cells, members[order]

    def _cells(self, members: Tensor, level: Tensor) -> Tensor:
        """The numbers of the cells that boxes have on a level; neighbours in a row follow each other."""
        column, row = (self._centres[members] / self._cell_px[level, None]).long().add(1).unbind(1)
        cells: Tensor = ((self._group[members] * self._levels + level) * self._rows + row) * self._columns + column
        return cells

    def near(self, rows: Int[Tensor, "m"]) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"]]:
        """Pairs of one of some boxes and one of all, among them every pair that overlaps by more than the threshold.

        Returns:
            The first and the second of each pair, as indices of the grid's boxes; each box is its own partner, too.
        """
        found = [self._in_table(rows, self._level[rows], *self._tables[step]) for step in range(self._steps + 1)]
        for step in range(1, self._steps + 1):  # partners that are larger
            some = rows[self._level[rows] + step < self._levels]
            found.append(self._in_table(some, self._level[some] + step, *self._tables[0]))
        first, second = zip(*found, strict=True)
        return torch.cat(first), torch.cat(second)

    def _in_table(self, rows: Tensor, level: Tensor, cells: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of some boxes and what lies in their cells and the eight around them."""
        middle = self._cells(rows, level)[:, None] + self._columns * torch.tensor([-1, 0, 1])
        start = torch.searchsorted(cells, (middle - 1).ravel())
        count = torch.searchsorted(cells, (middle + 1).ravel(), right=True) - start
        before = (start - count.cumsum(0) + count).repeat_interleave(count)
        return rows.repeat_interleave(3).repeat_interleave(count), members[before + torch.arange(before.shape[0])]
