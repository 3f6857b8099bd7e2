"""Objects apart by their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset

COCO_EDGES_PX = (32.0**2, 96.0**2)
QUARTERS = 4


@dataclass(frozen=True)
class SizeRange:
    """Areas from `low_px` up to, but not including, `high_px` (None: no upper end).

    Attributes:
        of: the ranges that COCO has, or quarters of the data's own objects.
        low_px: in pixels.
        high_px: in pixels.
    """

    of: Literal["COCO", "quarter"]
    low_px: float
    high_px: float | None

    @property
    def name(self) -> str:
        """For people, for example "COCO: under 1,024 px"."""
        whose = "COCO" if self.of == "COCO" else "a quarter of the objects"
        if self.high_px is None:
            return f"{whose}: {self.low_px:,.0f} px and over"
        if self.low_px == 0:
            return f"{whose}: under {self.high_px:,.0f} px"
        return f"{whose}: {self.low_px:,.0f} to {self.high_px:,.0f} px"


def size_ranges(dataset: Dataset) -> list[SizeRange]:
    """COCO's small, medium and large, and four ranges that hold a quarter of the annotated objects each.

    There are fewer quarters where many areas are equal, and none where all are.
    """
    areas = np.concatenate([np.zeros(0), *(sample.areas_px.double().numpy() for sample in dataset.samples)])
    ranges = _between(COCO_EDGES_PX, "COCO")
    if len(areas) >= QUARTERS:
        # whole pixels, as areas are: what is printed is where the cut is
        edges = np.unique(np.rint(np.quantile(areas, np.arange(1, QUARTERS) / QUARTERS)))
        ranges += _between([edge for edge in edges.tolist() if areas.min() < edge <= areas.max()], "quarter")
    return ranges


def group_by_size(areas_px: npt.NDArray[np.number], ranges: Sequence[SizeRange]) -> npt.NDArray[np.int64]:
    """Which of some ranges that follow on each other holds each area."""
    return np.asarray(np.searchsorted([one.low_px for one in ranges], areas_px, side="right") - 1, dtype=np.int64)


def _between(edges: Sequence[float], of: Literal["COCO", "quarter"]) -> list[SizeRange]:
    if not edges:
        return []
    return [SizeRange(of, low, high) for low, high in zip([0.0, *edges], [*edges, None], strict=True)]
