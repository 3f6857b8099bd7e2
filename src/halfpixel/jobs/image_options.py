"""How images are read and measured: the options that jobs share.

Light, as the command line makes its help of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from halfpixel.errors import ArgumentError
from halfpixel.measure.pixel_size import LARGEST_UM, SMALLEST_UM, agree

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture, Reading


@dataclass(frozen=True)
class ImageOptions:
    """How images are read and measured.

    Attributes:
        channels: Look at this channel (in grey), or at these two or three (as red, green and blue): names or numbers
            from 1, separated by commas. Default: the first three.
        planes: Of files with several z or time planes take the first, or all, each as an image of its own, called for
            example stack.tif#z003.
        pixel_size_um: The side of a pixel in micrometres, to measure in them. Default: what the file says, if it does.
        force: Take a --pixel-size-um outside of 0.02 to 20.

    Raises:
        ArgumentError: an unusable list of channels, a pixel size out of range, or `force` without one.
    """

    channels: str | None = None
    planes: Literal["first", "all"] = "first"
    pixel_size_um: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.force and self.pixel_size_um is None:
            raise ArgumentError("`force` is for `pixel_size_um` only")
        agree(self.pixel_size_um, None, self.force)
        channels = self._channels()
        if channels is not None and (not all(channels) or len(channels) > 3):
            raise ArgumentError(f"`channels` {self.channels!r}: expected one to three names, or numbers from 1")

    def _channels(self) -> tuple[str, ...] | None:
        return None if self.channels is None else tuple(word.strip() for word in self.channels.split(","))

    def reading(self) -> Reading:
        """The part for the reader of images."""
        from halfpixel.data.images.picture import Reading

        return Reading(self._channels(), self.planes)

    def pixel_size(self, picture: Picture) -> tuple[float | None, str]:
        """The size of a picture's pixels in micrometres, where it is known, and a doubt about it, or an empty text.

        Raises:
            ArgumentError: none was given, and the file's is out of range.
        """
        of_file = picture.pixel_size_um
        if self.pixel_size_um is None and of_file is not None and not SMALLEST_UM <= of_file <= LARGEST_UM:
            raise ArgumentError(
                f"{picture.path}: the file's pixel size, {of_file:g} micrometres, is outside of {SMALLEST_UM:g} to "
                f"{LARGEST_UM:g}; give the right one with `pixel_size_um`, and `force` if it is this one"
            )
        size = agree(self.pixel_size_um, picture.pixel_size_um, self.force)
        if size.um is None and picture.pixel_size_xy_um is not None:
            width, height = picture.pixel_size_xy_um
            return None, f"pixels of {width:g} x {height:g} micrometres are not square: measured in pixels only"
        return size.um, size.warning

    @property
    def advice(self) -> str:
        """What to do about files of which only the first plane was read."""
        return "; `planes` all takes each as an image of its own"

    def for_resuming(self) -> dict[str, object]:
        """What a resumed run must have in common with the one before."""
        return {"channels": self.channels, "planes": self.planes, "pixel_size_um": self.pixel_size_um}


AS_THEY_ARE = ImageOptions()
