"""One plane of an image of any size, read window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from halfpixel.data.images.container import TURNED, Opener, check_area, errors_naming, name_of, orient
from halfpixel.data.images.contrast import Values
from halfpixel.data.images.planes import Alpha, Stack, take_channels
from halfpixel.data.images.raster.georeference import Georeference
from halfpixel.data.images.raster.levels import Level
from halfpixel.data.images.raster.windows import Window, as_stored, inside
from halfpixel.errors import ArgumentError, UnreadableTileError

Reader = Literal["tifffile", "openslide"]


@dataclass(frozen=True, eq=False)
class RasterSource:
    """All that it takes to open a raster again, in another thread or process: it can be pickled, and holds no file.

    Attributes:
        where: a file, what opens one, or an array `[h, w]` or `[h, w, channels]`.
        plane: which of the file's planes, from 0, in the order of `read_pictures`.
        reader: what reads it; None to choose by the kind of the file, and for what is decoded as a whole.
        pixel_size_um: the side of a pixel, in place of what the file says.
    """

    where: Path | Opener | npt.NDArray[Any]
    plane: int = 0
    reader: Reader | None = None
    pixel_size_um: float | None = None

    @property
    def name(self) -> str:
        """What errors call it."""
        if isinstance(self.where, np.ndarray):
            return f"an array {list(self.where.shape)} of {self.where.dtype}"
        return name_of(self.where)


class Raster:
    """One plane of an image: a slide, a map, any other image file or an array, read window by window.

    Windows are boxes (left, top, right, bottom) in whole pixels of the level that they are read from. Several threads
    may read from one raster, but much faster from one each, which `open_raster(raster.source)` opens. Close it after
    use, or use it as a context manager.

    Attributes:
        source: what it was opened from; opens it again.
        levels: the sizes at which there are pixels, upright, the largest first. The label, the macro and the thumbnail
            of a slide are none.
        channel_names: as `Picture.channel_names`.
        has_opacity: `read` gives the opacity as one more channel, the last one; 0 is transparent.
        dtype: of the values.
        pixel_size_xy_um: width and height of a pixel of the largest level in micrometres; None where it is not known.
        georeference: where on the Earth it lies, for upright GeoTIFFs.
        outside: what windows hold beyond the edges: the file's value for no data, white in pictures in colour that are
            no maps, else 0. Where there is an opacity, it is 0 there.
        stack: the contrast, the value for no data and other things that it takes to show the values.
    """

    def __init__(
        self,
        source: RasterSource,
        stack: Stack,
        plane: int,
        pixel_size_xy_um: tuple[float, float] | None,
        fingerprint: Callable[[], str],
        resources: ExitStack,
    ) -> None:
        self.source = source
        self.stack = stack
        self._plane = plane
        self.pixel_size_xy_um = pixel_size_xy_um
        self._fingerprint = fingerprint
        self._is_closed = False
        if stack.read_window is not None:
            self._read_window, self.has_opacity = stack.read_window, stack.has_opacity
        else:
            values, alpha = stack.read(plane, range(len(stack.channel_names)))
            self._read_window, self.has_opacity = partial(_cut, values, alpha), alpha is not None
        is_turned = stack.orientation in TURNED
        self.levels = tuple(
            Level(level.size_hw[::-1] if is_turned else level.size_hw, level.downsample) for level in stack.levels
        )
        self.channel_names = stack.channel_names
        self.dtype = stack.dtype
        self.georeference: Georeference | None = stack.georeference if stack.orientation == 1 else None
        self.outside = _outside(stack)
        self._resources = resources.pop_all()  # last, as what fails before is for the caller to close

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the largest level in pixels."""
        return self.levels[0].size_hw

    @cached_property
    def fingerprint(self) -> str:
        """A hash that changes when the image does: of 16 parts of the file (of all of one up to 1 MiB), or the array.

        What the file is called, and where it lies, do not matter.
        """
        return self._fingerprint()

    def read(self, window_xyxy: Window, level: int = 0, channels: Sequence[int] | None = None) -> Values:
        """The values of a window `[h, w, channels]`, of the file's own type; see `outside` for what lies beyond edges.

        Args:
            window_xyxy: left, top, right and bottom in pixels of the level. It may reach over the edges, or lie beyond.
            level: 0 is the largest.
            channels: which of them, by indices; None for all. Opacity is always read.

        Raises:
            ArgumentError: an empty window, a level or a channel that there is not, or a closed raster.
            UnreadableTileError: the file is damaged there, and may be read elsewhere.
            ImageError: the file cannot be read, or the window is too large for the memory.
        """
        chosen = range(len(self.channel_names)) if channels is None else channels
        size_hw = self._check(window_xyxy, level, chosen)
        x0, y0, x1, y1 = window_xyxy
        part = inside(window_xyxy, size_hw)
        with errors_naming(self.source.name):
            check_area(x1 - x0, y1 - y0)
            found = None if part is None else self._upright(part, size_hw, level, chosen)
        if found is not None and part == (x0, y0, x1, y1):
            return found
        result = np.full((y1 - y0, x1 - x0, len(chosen) + self.has_opacity), self.outside, self.dtype)
        if self.has_opacity:
            result[..., -1] = 0
        if found is not None and part is not None:
            left, top, right, bottom = part
            result[top - y0 : bottom - y0, left - x0 : right - x0] = found
        return result

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._resources.close()

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, window_xyxy: Window, level: int, channels: Sequence[int]) -> tuple[int, int]:
        """The size of the level, where all of that makes sense."""
        name, (x0, y0, x1, y1) = self.source.name, window_xyxy
        if self._is_closed:
            raise ArgumentError(f"{name}: read after it was closed")
        if not 0 <= level < len(self.levels):
            raise ArgumentError(f"{name}: there is no level {level}; it has {len(self.levels)}, from 0, the largest")
        if x0 >= x1 or y0 >= y1:
            raise ArgumentError(f"{name}: a window from {x0}, {y0} to {x1}, {y1} has nothing in it")
        if unknown := [one for one in channels if not 0 <= one < len(self.channel_names)]:
            raise ArgumentError(f"{name}: there is no channel {unknown[0]}; it has {len(self.channel_names)}, from 0")
        return self.levels[level].size_hw

    def _upright(self, part: Window, size_hw: tuple[int, int], level: int, channels: Sequence[int]) -> Values:
        window = as_stored(part, size_hw, self.stack.orientation)
        try:
            values, alpha = self._read_window(self._plane, channels, window, level)
        except UnreadableTileError as error:
            raise UnreadableTileError(f"level {level}, {error}") from error
        if alpha is not None:
            values = np.concatenate([values, alpha], axis=2)
        return np.ascontiguousarray(orient(values, self.stack.orientation))


def _cut(
    values: Values, alpha: Alpha, plane: int, channels: Sequence[int], window_xyxy: Window, level: int
) -> tuple[Values, Alpha]:
    """A window of a plane that is in memory."""
    x0, y0, x1, y1 = window_xyxy
    part = values[y0:y1, x0:x1].copy()  # of the array that the caller may have
    return take_channels(part, channels), None if alpha is None else alpha[y0:y1, x0:x1]


def _outside(stack: Stack) -> float:
    integers = np.iinfo(stack.dtype) if stack.dtype.kind in "iu" else None
    if stack.no_data is not None and (integers is None or integers.min <= stack.no_data <= integers.max):
        return stack.no_data
    if stack.is_colour and stack.georeference is None:
        return 1 if integers is None else integers.max
    return 0
