"""At which size a model looks at images: the options that jobs share.

Light, as the command line makes its help of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from halfpixel.errors import ArgumentError, ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from halfpixel.data.images.picture import Picture
    from halfpixel.engine.predictor import Predictor
    from halfpixel.jobs.image_options import ImageOptions

AS_MODEL = "model"
"""Instead of a diameter: every image is looked at as the model says."""

LENGTH = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?) ?(px|um|\N{MICRO SIGN}m|\N{GREEK SMALL LETTER MU}m)?", re.ASCII)


class Length(NamedTuple):
    """A diameter and its unit."""

    value: float
    unit: Literal["px", "um"]


@dataclass(frozen=True)
class SizeOptions:
    """At which size images are looked at.

    Attributes:
        diameter: How large the objects are: 30 is in pixels, 8um in micrometres. Images of objects of other sizes than
            the model was trained on are enlarged or reduced until it knows them. model: all images at the
            model's own scale.
        scale: Enlarge images by this factor instead of the model's; below 1 they are reduced.

    Raises:
        ArgumentError: no such diameter, a factor that is out of range, or both.
    """

    diameter: str | float = AS_MODEL
    scale: float | None = None

    def __post_init__(self) -> None:
        if self._length() is not None and self.scale is not None:
            raise ArgumentError("`diameter` and `scale`: give one of the two")
        if self.scale is not None and not 1e-3 <= self.scale <= 32:
            raise ArgumentError(f"`scale` must be from 0.001 to 32, got {self.scale:g}")

    @property
    def are_given(self) -> bool:
        """Whether anything is asked for."""
        return self.scale is not None or self._length() is not None

    def _length(self) -> Length | None:
        text = str(self.diameter).strip()
        if text == AS_MODEL:
            return None
        try:
            found = LENGTH.fullmatch(text)
            value = float(found[1]) if found else 0.0
        except ValueError:
            found = None
        if found is None or not 0 < value < float("inf"):
            raise ArgumentError(
                f"`diameter` must be above 0 and like 30 (pixels) or 8um (micrometres), or model; got '{self.diameter}'"
            )
        return Length(value, "px" if found[2] in (None, "px") else "um")

    def refuse_with(self, predictions: Path | None) -> None:
        """Refuse them where objects are read from a file.

        Raises:
            ArgumentError: both are given.
        """
        if predictions is not None and self.are_given:
            raise ArgumentError("`predictions` and `diameter` or `scale`: a file needs no model")

    def check(self, predictor: Predictor, model: str) -> None:
        """Refuse a model that cannot look at other sizes, before any image is opened.

        Raises:
            ArgumentError: it takes images of one size, or does not state the sizes that it was trained on.
        """
        length = self._length()
        try:
            if self.scale is not None:
                predictor.at_scale(self.scale)
            elif length is not None:
                predictor.scale_for(length.value)
        except ArgumentError as error:
            raise ArgumentError(f"{model}: {error}") from error

    def diameter_px(self, picture: Picture, images: ImageOptions | None = None) -> float | None:
        """The diameter of an image's objects in its pixels; None where none was given.

        Args:
            picture: the image.
            images: how its pixels are measured; None where a job has no say in that.

        Raises:
            ImageError: it was given in micrometres, and the size of the image's pixels is not known.
        """
        length = self._length()
        if length is None or length.unit == "px":
            return None if length is None else length.value
        try:
            pixel_size_um = picture.pixel_size_um if images is None else images.pixel_size(picture)[0]
        except ArgumentError as error:
            raise ImageError(str(error)) from error
        if pixel_size_um is None:
            instead = "give `diameter` in pixels" + ("" if images is None else ", or `pixel_size_um`")
            raise ImageError(
                f"{picture.path}: the file does not state the size of its pixels, which `diameter` {self.diameter} "
                f"needs; {instead}"
            )
        return length.value / pixel_size_um

    def scale_for(self, predictor: Predictor, picture: Picture, images: ImageOptions | None = None) -> float | None:
        """By which factor to enlarge an image; None for the model's own way.

        Raises:
            ImageError: see `diameter_px`; or the image would have to be enlarged beyond all sense.
        """
        diameter_px = self.diameter_px(picture, images)
        if diameter_px is None:
            return self.scale
        scale = predictor.scale_for(diameter_px)
        if not 1e-3 <= scale <= 32:
            raise ImageError(
                f"{picture.path}: `diameter` {self.diameter} is {diameter_px:.3g} pixels: the image would have to be "
                f"enlarged {scale:.3g} times"
            )
        return scale

    def for_resuming(self) -> dict[str, object]:
        """What a resumed run must have in common with the one before."""
        return asdict(self)


AS_TRAINED = SizeOptions()


def scale_range(scales: tuple[float, float]) -> str:
    """The smallest and the largest of some factors, in words; one number where they look the same."""
    low, high = (f"{one:.2g}" if one < 1 else f"{one:.3g}" for one in scales)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class LookedAt:
    """At which size images were looked at, where that was asked for.

    Attributes:
        diameter: of the objects, as it was given; None where a factor was given.
        scale: the smallest and the largest factor that images were enlarged by.
        usual_scale: the model's own; None where it brings images to one size.
    """

    diameter: str | None
    scale: tuple[float, float]
    usual_scale: float | None

    @classmethod
    def of(cls, options: SizeOptions, scales: Sequence[float | None], usual: float | None) -> LookedAt | None:
        """What options came to; None where there are none, or no images."""
        used = [one for one in scales if one is not None]
        if not options.are_given or not used:
            return None
        return cls(None if options.scale is not None else str(options.diameter), (min(used), max(used)), usual)

    def __str__(self) -> str:
        text = f"at {scale_range(self.scale)} times their size"
        if self.usual_scale is None:
            text += " instead of at one size for all"
        elif set(self.scale) == {self.usual_scale}:
            text += ", as is usual"
        else:
            text += f" instead of {self.usual_scale:.3g}"
        if self.diameter is None:
            return text
        return f"{text} (objects of {self.diameter}{' px' if self.diameter.strip()[-1:].isdigit() else ''})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "scale": list(self.scale)}
