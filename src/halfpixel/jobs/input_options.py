"""How images are brought to the network that is to be trained.

Light, as the command line makes its help of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from halfpixel.errors import ArgumentError

if TYPE_CHECKING:
    from halfpixel.structures.images import InputRules


@dataclass(frozen=True)
class InputOptions:
    """How images are brought to the network.

    Attributes:
        scale: Enlarge images by this factor, instead of bringing their sides to a length.
        longest_side: With a scale: what has a longer side than so many pixels once it is enlarged is predicted in
            tiles that overlap. Without: no side of an image becomes longer than this.
        stretch_below: Brighten images whose 99.9th percentile is under this (0 to 1, where 1 is white).

    Raises:
        ArgumentError: a number out of range.
    """

    scale: float | None = None
    longest_side: int | None = None
    stretch_below: float | None = None

    def __post_init__(self) -> None:
        for name, value in self._given().items():
            if not (0 <= value < math.inf and (value or name == "stretch_below")):
                raise ArgumentError(f"`{name}` is out of range: {value}")

    def _given(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def apply(self, rules: InputRules) -> InputRules:
        """The rules with what was given put in.

        Raises:
            ArgumentError: a number that goes with none of the other rules, or is beyond all sense.
        """
        try:
            return dataclasses.replace(rules, **self._given())  # type: ignore[arg-type]
        except ArgumentError as error:
            name, space, rest = str(error).partition(" ")  # it begins with the field
            raise ArgumentError(f"`{name}`{space}{rest}") from error


AS_BEFORE = InputOptions()
