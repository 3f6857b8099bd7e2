"""Slides that OpenSlide reads: formats of scanners that are no TIFF, or a TIFF of their own kind.

Extra `[slides]`: openslide-python (LGPL-2.1) and openslide-bin, which holds the library itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfpixel.data.images.contrast import Values, fixed_contrast
from halfpixel.data.images.opacity import lay_on_white
from halfpixel.data.images.planes import COLOURS, Alpha, Stack, take_channels
from halfpixel.data.images.raster.levels import Level, downsample
from halfpixel.data.images.raster.windows import Window, whole
from halfpixel.data.images.tiff_metadata import OPTICAL_UM
from halfpixel.errors import ImageError, MissingDependencyError, UnreadableTileError, reason
from halfpixel.optional import load_extra

INSTALL = "halfpixel[slides]"


class Slide:
    """A slide opened with OpenSlide, which several threads may read from.

    Args:
        path: the slide, or the one of its files that names the others.

    Raises:
        ImageError: OpenSlide does not know its format, or finds it damaged.
        MissingDependencyError: OpenSlide is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library: Any = load_extra("openslide", INSTALL)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{path}: OpenSlide reads this kind of slide, but {error}") from error
        self._path = path
        self._lock = threading.Lock()
        self._slide = self._open()
        sizes = [(height, width) for width, height in self._slide.level_dimensions]
        # OpenSlide's own numbers are the mean ratios of the sizes
        steps = [downsample(sizes[0], size) or step for size, step in zip(sizes, self._steps, strict=True)]
        self.levels = tuple(Level(size, step) for size, step in zip(sizes, steps, strict=True))

    @property
    def identity(self) -> str:
        """OpenSlide's hash of what tells slides apart, over all files of one."""
        return str(self._slide.properties.get("openslide.quickhash-1", ""))

    @property
    def pixel_size_xy_um(self) -> tuple[float, float] | None:
        """Width and height of a pixel of the largest level, where the slide says it."""
        properties = self._slide.properties
        try:
            width, height = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
        except (KeyError, ValueError):
            return None
        least, most = OPTICAL_UM  # which a resolution for printing, as any TIFF may have it, is beyond
        is_any = properties.get("openslide.vendor") == "generic-tiff"
        return None if is_any and not (least <= width <= most and least <= height <= most) else (width, height)

    def window(self, window_xyxy: Window, level: int) -> Values:
        """A part of a level, `[h, w, 3]`; what was not scanned is white.

        Raises:
            UnreadableTileError: it is damaged. Other parts may be read after that.
        """
        x0, y0, x1, y1 = window_xyxy
        corner = round(x0 * self._steps[level]), round(y0 * self._steps[level])
        with self._lock:
            slide = self._slide
        try:
            pixels = np.asarray(slide.read_region(corner, level, (x1 - x0, y1 - y0)))
        except self._library.OpenSlideError as error:
            with self._lock:
                if self._slide is slide:  # which gives nothing but errors from its first one on
                    self._slide = self._open()
            raise UnreadableTileError(f"columns {x0} to {x1 - 1}, rows {y0} to {y1 - 1}: {reason(error)}") from error
        return lay_on_white(pixels[..., :3], pixels[..., 3:])

    def close(self) -> None:
        """Close the slide's files."""
        self._slide.close()

    @property
    def _steps(self) -> Sequence[float]:
        steps: Sequence[float] = self._slide.level_downsamples
        return steps

    def _open(self) -> Any:
        if not self._path.exists():
            raise ImageError("No such file or directory")
        try:
            return self._library.OpenSlide(self._path)
        except self._library.OpenSlideUnsupportedFormatError as error:
            raise ImageError("not a slide of a kind that OpenSlide knows, or one of its files is missing") from error
        except self._library.OpenSlideError as error:
            raise ImageError(f"the slide is damaged ({reason(error)})") from error


def slide_stack(slide: Slide) -> Stack:
    """The scan of a slide, without its label and macro."""

    def read_window(plane: int, channels: Sequence[int], window_xyxy: Window, level: int) -> tuple[Values, Alpha]:
        return take_channels(slide.window(window_xyxy, level), channels), None

    def read(plane: int, channels: Sequence[int]) -> tuple[Values, Alpha]:
        return read_window(plane, channels, whole(slide.levels[0].size_hw), 0)

    return Stack(
        levels=slide.levels,
        orientation=1,
        planes=[""],
        channel_names=COLOURS,
        is_colour=True,
        contrast=fixed_contrast(np.dtype(np.uint8)),
        read=read,
        dtype=np.dtype(np.uint8),
        pixel_size_xy_um=slide.pixel_size_xy_um,
        read_window=read_window,
    )
