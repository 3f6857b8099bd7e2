"""When an object of one frame of a film is that of another, and when it counts."""

from __future__ import annotations

from dataclasses import dataclass

from halfpixel.errors import ArgumentError


@dataclass(frozen=True)
class TrackRules:
    """When an object of one frame is that of another, and when it counts.

    Attributes:
        min_iou: it is the same object if both overlap by at least this IoU, above 0 and up to 1, after the earlier one
            has moved on; 0.3 as in SORT (Bewley et al. 2016, arXiv:1602.00763).
        max_gap: an object may be missed in this many frames in a row.
        min_frames: one that was seen in fewer frames does not count.

    Raises:
        ArgumentError: a number out of range.
    """

    min_iou: float = 0.3
    max_gap: int = 3
    min_frames: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1:
            raise ArgumentError(f"`min_iou` must be above 0 and at most 1; got {self.min_iou:g}")
        if self.max_gap < 0:
            raise ArgumentError(f"`max_gap` must be 0 frames or more; got {self.max_gap}")
        if self.min_frames < 1:
            raise ArgumentError(f"`min_frames` must be 1 frame or more; got {self.min_frames}")


USUAL_RULES = TrackRules()
