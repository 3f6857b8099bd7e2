"""How the objects of a film are followed and counted: light, as the command line makes its help of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from halfpixel.measure.counting_line import CountingLine
from halfpixel.measure.track_rules import USUAL_RULES, TrackRules


@dataclass(frozen=True)
class TrackOptions:
    """How objects are followed and counted.

    Attributes:
        line: Count what crosses this line, X1,Y1,X2,Y2 in pixels from the upper left corner; several times for several
            lines. Crossing from the left to the right hand of someone who walks from the first point to the second is
            in, the other way is out.
        min_iou: Objects of two frames are one if they overlap by at least this IoU, after the earlier one has moved as
            far as it did before.
        max_gap: An object may be missed in this many frames in a row.
        min_frames: Objects that were seen in fewer frames do not count.

    Raises:
        ArgumentError: a number out of range, or a line that is none.
    """

    line: tuple[str, ...] = ()
    min_iou: float = USUAL_RULES.min_iou
    max_gap: int = USUAL_RULES.max_gap
    min_frames: int = USUAL_RULES.min_frames

    def __post_init__(self) -> None:
        self.rules, self.lines  # noqa: B018  # refuse what is unusable at once

    @cached_property
    def rules(self) -> TrackRules:
        """When an object of one frame is that of another, and when it counts."""
        return TrackRules(self.min_iou, self.max_gap, self.min_frames)

    @cached_property
    def lines(self) -> tuple[CountingLine, ...]:
        """What counts crossings."""
        return tuple(CountingLine.parse(text) for text in self.line)


AS_SORT = TrackOptions()
