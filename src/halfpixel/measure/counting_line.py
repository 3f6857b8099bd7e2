"""Lines across a picture that count what crosses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from halfpixel.errors import ArgumentError

ON_THE_LINE = 0.1
"""An object is on a line, on neither side, while its centre is nearer to it than this part of its size."""


@dataclass(frozen=True)
class CountingLine:
    """From one point of the picture to another, in pixels.

    Someone who walks from the first point to the second has one side on the left hand and one on the right, on the
    picture as it is seen. Whatever crosses from left to right comes `in`, from right to left goes `out`.

    Raises:
        ArgumentError: a coordinate that is no finite number, or two points that are one.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x1, self.y1, self.x2, self.y2))):
            raise ArgumentError(f"a line needs four finite numbers, got {self}")
        if (self.x1, self.y1) == (self.x2, self.y2):
            raise ArgumentError(f"a line needs two different points, got {self} twice the same")

    @classmethod
    def parse(cls, text: str) -> CountingLine:
        """From `X1,Y1,X2,Y2`.

        Raises:
            ArgumentError: something else.
        """
        try:
            x1, y1, x2, y2 = (float(part) for part in text.split(","))
        except ValueError:
            raise ArgumentError(f"{text!r}: expected X1,Y1,X2,Y2, four numbers of pixels") from None
        return cls(x1, y1, x2, y2)

    def __str__(self) -> str:
        return f"{self.x1:g},{self.y1:g},{self.x2:g},{self.y2:g}"

    @property
    def length(self) -> float:
        """In pixels."""
        return math.hypot(self.x2 - self.x1, self.y2 - self.y1)

    def offset(self, x: float, y: float) -> float:
        """How far a point is from the line prolonged, in pixels: above 0 on the right hand, below 0 on the left."""
        return ((self.x2 - self.x1) * (y - self.y1) - (self.y2 - self.y1) * (x - self.x1)) / self.length

    def crossed_between(self, start_xy: tuple[float, float], end_xy: tuple[float, float]) -> bool:
        """Whether the straight way between two points on different sides leads over the line, not past its ends.

        Of two lines that meet in an end, a way through that end crosses one: each line has its first point and lacks
        its last.
        """
        before, after = self.offset(*start_xy), self.offset(*end_xy)
        part = before / (before - after)
        x = start_xy[0] + part * (end_xy[0] - start_xy[0])
        y = start_xy[1] + part * (end_xy[1] - start_xy[1])
        along = (x - self.x1) * (self.x2 - self.x1) + (y - self.y1) * (self.y2 - self.y1)
        return 0 <= along < self.length**2
