"""At which size a model looks at images: the options that jobs share.

Light, as the command line makes its help of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.jobs.wording import plural

if TYPE_CHECKING:
    from pathlib import Path

    from halfpixel.data.images.contrast import Rgb8
    from halfpixel.data.images.picture import Picture
    from halfpixel.engine.predictor import Predictor
    from halfpixel.engine.size_finder import ChosenScale
    from halfpixel.jobs.image_options import ImageOptions

AS_FOUND = "found"
"""Instead of a diameter: that of each image is found first, by a model that can."""

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
            the model was trained on are enlarged or reduced until it knows them. found: a quick look at each image
            says how large they are, where the model can tell. model: all images at the model's own scale.
        scale: Enlarge images by this factor instead of the model's; below 1 they are reduced.

    Raises:
        ArgumentError: no such diameter, a factor that is out of range, or both.
    """

    diameter: str | float = AS_FOUND
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

    @property
    def are_found(self) -> bool:
        """Whether the model is to find how large objects are, where it can."""
        return self.scale is None and str(self.diameter).strip() == AS_FOUND

    def may_differ(self, predictor: Predictor) -> bool:
        """Whether images may be looked at at another size than usual, so that results say at which."""
        return self.are_given or (self.are_found and predictor.chooses_scale)

    def _length(self) -> Length | None:
        text = str(self.diameter).strip()
        if text in (AS_FOUND, AS_MODEL):
            return None
        try:
            found = LENGTH.fullmatch(text)
            value = float(found[1]) if found else 0.0
        except ValueError:
            found = None
        if found is None or not 0 < value < float("inf"):
            raise ArgumentError(
                f"`diameter` must be above 0 and like 30 (pixels) or 8um (micrometres), or found or model; "
                f"got '{self.diameter}'"
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
        pixel_size_um = _pixel_size_um(picture, images)
        if pixel_size_um is None:
            instead = "give `diameter` in pixels" + ("" if images is None else ", or `pixel_size_um`")
            raise ImageError(
                f"{picture.path}: the file does not state the size of its pixels, which `diameter` {self.diameter} "
                f"needs; {instead}"
            )
        return length.value / pixel_size_um

    def choose(
        self, predictor: Predictor, picture: Picture, shown: Rgb8, images: ImageOptions | None = None
    ) -> ChosenScale:
        """At which size to look at an image.

        Args:
            predictor: the model.
            picture: the image.
            shown: pixels of it, or of another plane of its file, in which sizes are found.
            images: see `diameter_px`.

        Raises:
            ImageError: see `scale_for`.
        """
        from halfpixel.engine.size_finder import ChosenScale

        if not self.are_found:
            return ChosenScale(self.scale_for(predictor, picture, images))
        return predictor.choose_scale(shown, _pixel_size_um(picture, images))

    def scale_for(self, predictor: Predictor, picture: Picture, images: ImageOptions | None = None) -> float | None:
        """By which factor to enlarge an image for what was given; None for the model's own way.

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


def _pixel_size_um(picture: Picture, images: ImageOptions | None) -> float | None:
    try:
        return picture.pixel_size_um if images is None else images.pixel_size(picture)[0]
    except ArgumentError as error:
        raise ImageError(str(error)) from error


SIZES_FOUND = SizeOptions()


def scale_range(scales: tuple[float, float]) -> str:
    """The smallest and the largest of some factors, in words; one number where they look the same."""
    low, high = (f"{one:.2g}" if one < 1 else f"{one:.3g}" for one in scales)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class LookedAt:
    """At which size images were looked at, where that was asked for or the model decided it.

    Attributes:
        diameter: of the objects, as it was given; None where a factor was given.
        scale: the smallest and the largest factor that images were enlarged by.
        usual_scale: the model's own; None where it brings images to one size.
        found_px: the smallest and the largest diameter that was found, in pixels of an image; None where none was.
        not_found: of so many images none was found, and they were looked at as usual.
    """

    diameter: str | None
    scale: tuple[float, float]
    usual_scale: float | None
    found_px: tuple[float, float] | None = None
    not_found: int = 0

    @classmethod
    def of(
        cls, options: SizeOptions, chosen: Sequence[tuple[float | None, float | None]], usual: float | None
    ) -> LookedAt | None:
        """What options came to; None where there are no images.

        Args:
            options: that were given.
            chosen: for each image by which factor it was enlarged and the diameter that was found, as in `Instances`.
            usual: the model's own factor.
        """
        used = [scale for scale, _ in chosen if scale is not None]
        found = [diameter for _, diameter in chosen if diameter is not None]
        if not used:
            return None
        return cls(
            None if options.scale is not None else str(options.diameter),
            (min(used), max(used)),
            usual,
            (min(found), max(found)) if found else None,
            sum(scale == usual and diameter is None for scale, diameter in chosen) if options.are_found else 0,
        )

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
        if self.diameter == AS_FOUND:
            return f"{text} ({self._found()})"
        return f"{text} (objects of {self.diameter}{' px' if self.diameter.strip()[-1:].isdigit() else ''})"

    def _found(self) -> str:
        """The diameters that were found, in words."""
        unknown = f"in {plural(self.not_found, 'image')} too few objects to tell their size"
        if self.found_px is None:
            return unknown if self.not_found else "by the size of the pixels"
        found = f"found: objects of {scale_range(self.found_px)} px"
        return f"{found}; {unknown}" if self.not_found else found

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {"diameter": self.diameter, "scale": list(self.scale), "usual_scale": self.usual_scale}
        if self.diameter != AS_FOUND:
            return plain
        found = None if self.found_px is None else list(self.found_px)
        return {**plain, "found_px": found, "not_found": self.not_found}
