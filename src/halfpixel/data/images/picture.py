"""Any microscope or camera file as the pictures in it: what the network sees, and the values to measure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile

from halfpixel.data.images.container import TIFF_MAGIC, TURNED, Opener, open_image, open_with_pillow, orient
from halfpixel.data.images.contrast import Rgb8, Values
from halfpixel.data.images.display import display
from halfpixel.data.images.planes import Alpha, Stack, find_channel, pillow_stack, take_channels
from halfpixel.data.images.stretch import Stretch, measure_stretch
from halfpixel.data.images.tiff import tiff_stacks
from halfpixel.data.images.tiff_directories import check_directories
from halfpixel.errors import ArgumentError, ImageError

ISOTROPIC_WITHIN = 0.01
"""Width and height of a pixel that differ by no more, relatively, count as equal."""


@dataclass(frozen=True)
class Reading:
    """How to read files of several channels or planes.

    Attributes:
        channels: what the network is to see: one channel (grey) or up to three (red, green and blue), by name,
            whatever the case, or by number from 1. None: one channel is grey, colours are colours, and of more
            channels the first three are red, green and blue.
        planes: only the first of a file's z, time and other planes, or each by itself.

    Raises:
        ArgumentError: none or more than three channels, numbers below 1, or another word for the planes.
    """

    channels: tuple[str | int, ...] | None = None
    planes: Literal["first", "all"] = "first"

    def __post_init__(self) -> None:
        if self.channels is not None:
            usable = [one for one in self.channels if one != "" and (isinstance(one, str) or one >= 1)]
            if isinstance(self.channels, str) or not 1 <= len(usable) == len(self.channels) <= 3:
                raise ArgumentError(f"channels: expected one to three names, or numbers from 1, got {self.channels!r}")
        if self.planes not in ("first", "all"):
            raise ArgumentError(f'planes: expected "first" or "all", got {self.planes!r}')


FIRST_PLANE = Reading()


@dataclass(frozen=True, eq=False)
class Picture:
    """One plane of an image file, turned upright.

    Attributes:
        path: the file.
        plane: `""` for an ordinary image, else which of its planes, such as `z003_t012`, numbered from 1. Letters: `z`
            and `t`ime, `s`eries of different size or position, `p`ages of unknown meaning, and rarer ones.
        rgb: `[h, w, 3]` in 0..255, what the network sees.
        channels: `[h, w, c]`, the file's own values of all its channels, for measuring intensities. Colours are without
            their opacity; palettes, CMYK and YCbCr have become RGB.
        channel_names: c names, from the metadata, or `red`, `green`, `blue`, or `grey`, or `channel 1` and so on.
        pixel_size_um: side of a pixel in micrometres, from OME or ImageJ metadata or from a TIFF resolution of 0.02 to
            20 um; None when it is not known, or the pixels are not square. Print sizes of PNG and JPEG do not count.
        n_planes: in the file.
        pixel_size_xy_um: width and height of a pixel.
        remarks: what may surprise in `rgb`, and for each the details.
    """

    path: Path
    plane: str
    rgb: Rgb8
    channels: Values
    channel_names: tuple[str, ...]
    pixel_size_um: float | None
    n_planes: int
    pixel_size_xy_um: tuple[float, float] | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_square_pixels(self) -> bool:
        """False when the file says that width and height of a pixel differ by more than 1%."""
        return self.pixel_size_xy_um is None or self.pixel_size_um is not None


def read_pictures(path: Path, reading: Reading = FIRST_PLANE) -> Iterator[Picture]:
    """Read the pictures of a file one after the other, with never more than one plane in memory.

    8 bits stay as they are. Deeper values are stretched as `as_rgb8` does it, with one stretch for all planes of the
    file (estimated from a part of them), so that they can be compared: each channel by itself, colours jointly.

    Raises:
        ImageError: the file is missing, empty, damaged, not an image of a known kind, has no such channel, is too
            large, or no pixel of it holds data.
    """
    path = Path(path)
    with open_stacks(path) as stacks:
        n_planes = sum(len(stack.planes) for stack in stacks)
        planes = (
            (rendering, k) for rendering in _renderings(stacks, reading) for k in range(len(rendering.stack.planes))
        )
        for rendering, k in planes if reading.planes == "all" else itertools.islice(planes, 1):
            stack = rendering.stack
            everything, alpha = stack.read(k, range(len(stack.channel_names)))
            rgb, remarks = rendering.render(take_channels(everything, rendering.chosen), alpha)
            size_xy_um = stack.pixel_size_xy_um
            if size_xy_um is not None and stack.orientation in TURNED:
                size_xy_um = size_xy_um[1], size_xy_um[0]
            yield Picture(
                path=path,
                plane=stack.planes[k],
                rgb=rgb,
                channels=np.ascontiguousarray(orient(everything, stack.orientation)),
                channel_names=stack.channel_names,
                pixel_size_um=_square_side_um(size_xy_um),
                n_planes=n_planes,
                pixel_size_xy_um=size_xy_um,
                remarks=remarks,
            )


def first_rgb(path: Path, reading: Reading) -> tuple[Rgb8, dict[str, str]]:
    """What the network sees of the first picture of a file, and remarks; channels it does not see are not decoded."""
    with open_stacks(path) as stacks:
        rendering = next(_renderings(stacks, reading))
        return rendering.render(*rendering.stack.read(0, rendering.chosen))


def middle_rgb(path: Path, reading: Reading) -> Rgb8:
    """What the network sees of the middle one of a file's planes, of an even number the one after the middle."""
    with open_stacks(path) as stacks:
        before = sum(len(stack.planes) for stack in stacks) // 2
        for rendering in _renderings(stacks, reading):
            if before < len(rendering.stack.planes):
                return rendering.render(*rendering.stack.read(before, rendering.chosen))[0]
            before -= len(rendering.stack.planes)
    raise ImageError(f"{path}: the file has no planes")


@contextmanager
def open_stacks(where: Path | Opener) -> Iterator[list[Stack]]:
    """The images of a file, mostly one, to be decoded while it is open.

    Raises:
        ImageError: the file is missing, empty, cut short or not an image of a known kind; also for what fails inside.
    """
    with open_image(where) as (file, magic):
        if TIFF_MAGIC.match(magic):
            check_directories(file)
            # of an image in several files each is read by itself: a folder of them holds every plane once
            with tifffile.TiffFile(file, _multifile=False) as tiff:
                yield tiff_stacks(tiff)
        else:
            yield [pillow_stack(open_with_pillow(file, magic), file)]


@dataclass(frozen=True, eq=False)
class _Rendering:
    """A stack as the network sees it: the channels, and how each becomes 8 bits."""

    stack: Stack
    chosen: Sequence[int]
    stretch: Stretch

    def render(self, values: Values, alpha: Alpha) -> tuple[Rgb8, dict[str, str]]:
        """The chosen channels `[h, w, 1 to 3]` of a plane as an upright picture `[h, w, 3]`, and remarks on it."""
        stack = self.stack
        rgb, remarks = display(values, self.stretch.contrasts, alpha, stack.no_data, stack.white_is_zero)
        return np.ascontiguousarray(orient(rgb, stack.orientation)), {**self.stretch.remarks, **remarks}


def _renderings(stacks: Sequence[Stack], reading: Reading) -> Iterator[_Rendering]:
    """Each image of a file with its contrast, which images of one kind share."""
    measured: dict[object, Stretch] = {}
    for stack in stacks:
        if stack.dtype.kind not in "buif":
            raise ImageError(f"expected bool, integer or float pixels, got {stack.dtype}")
        chosen = _chosen_channels(stack, reading)
        kind = (stack.dtype, stack.channel_names, stack.no_data)
        if stack.contrast is not None:
            stretch = Stretch((stack.contrast,) * len(chosen), {})
        elif kind in measured:
            stretch = measured[kind]
        else:
            same_kind = [one for one in stacks if (one.dtype, one.channel_names, one.no_data) == kind]
            readers = [partial(_values, one, k, chosen) for one in same_kind for k in range(len(one.planes))]
            stretch = measured[kind] = measure_stretch(readers, jointly=stack.is_colour, no_data=stack.no_data)
        yield _Rendering(stack, chosen, stretch)


def _values(stack: Stack, plane: int, channels: Sequence[int]) -> Values:
    return stack.read(plane, channels)[0]


def _chosen_channels(stack: Stack, reading: Reading) -> list[int]:
    if reading.channels is None:
        return list(range(len(stack.channel_names)))[:3]
    return [find_channel(stack.channel_names, wanted) for wanted in reading.channels]


def _square_side_um(size_xy_um: tuple[float, float] | None) -> float | None:
    """The side of a square pixel that has the area of this one, if it is about square."""
    if size_xy_um is None or max(size_xy_um) > (1 + ISOTROPIC_WITHIN) * min(size_xy_um):
        return None
    return size_xy_um[0] if size_xy_um[0] == size_xy_um[1] else math.sqrt(size_xy_um[0] * size_xy_um[1])
