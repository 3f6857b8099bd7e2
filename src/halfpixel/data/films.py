"""Films, frame by frame, through PyAV (the extra `video`), which is loaded when a film is read.

PyAV gives each frame that the film holds once, as it is stored: none is repeated or dropped to keep a rate, as a
player does it, since every frame counts here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from halfpixel.data.images.container import check_area
from halfpixel.data.images.contrast import Contrast, Rgb8
from halfpixel.data.images.display import display
from halfpixel.data.images.picture import FIRST_PLANE, Picture, Reading
from halfpixel.data.images.planes import COLOURS, find_channel, take_channels
from halfpixel.errors import ImageError, reason
from halfpixel.files import open_regular
from halfpixel.optional import load_extra

MAGIC = re.compile(
    rb"....(?:ftyp(?!avi[fs]|hei|hev|mif1|msf1)|moov|mdat|wide|free)"
    rb"|\x1a\x45\xdf\xa3|RIFF....AVI |\x00\x00\x01\xba|OggS",
    re.DOTALL,
)
"""How MP4 and QuickTime (no pictures in that format), Matroska and WebM, AVI, MPEG and Ogg begin."""

DIGITS = 6
"""Of a frame's number: how many frames there are is not always known before all are read."""

LOST_NAMED = 5
AS_IT_IS = Contrast(0, 255)


def is_film(path: Path) -> bool:
    """Whether a file is a film, by how it begins and not by its name; one that cannot be opened is none."""
    try:
        with open_regular(path) as file:
            return MAGIC.match(file.read(16)) is not None
    except OSError:  # whoever reads it says why
        return False


def read_film(path: Path, reading: Reading = FIRST_PLANE) -> Iterator[Picture]:
    """Read the frames of a film one after the other, turned upright; each is a picture whose plane is `t000001` and on.

    Frames that cannot be decoded, or of which the decoder says that they are damaged, are left out; the others keep
    their numbers.

    Args:
        path: the film.
        reading: with `planes` "first" only the first frame; `channels` of red, green and blue.

    Raises:
        ImageError: it cannot be opened, has no pictures, or is too large; after all other frames also where some of
            them were left out, naming them.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(path) as (film, stream):
        n, lost, read = _about_how_many(stream), [], 0
        for number, frame in _frames(film, stream):
            if frame is None:
                lost.append(_name(number))
                continue
            yield _picture(path, frame, number, n, reading)
            read += 1
            if reading.planes == "first":
                return
        if not read:
            raise ImageError("no frame of the film can be decoded")
        if lost:
            some = ", ".join(lost[:LOST_NAMED]) + (" ..." if len(lost) > LOST_NAMED else "")
            raise ImageError(f"frames of the film that cannot be decoded were left out: {len(lost):,} ({some})")


def middle_of_film(path: Path, reading: Reading = FIRST_PLANE) -> Rgb8:
    """What the network sees of a frame near the middle of a film.

    Raises:
        ImageError: see `read_film`.
        MissingDependencyError: likewise.
    """
    with _opened(path) as (film, stream):
        if film.duration:
            film.seek((film.start_time or 0) + film.duration // 2)
        for number, frame in _frames(film, stream):
            if frame is not None:
                return _picture(path, frame, number, 1, reading).rgb
    raise ImageError(f"{path}: no frame of the film can be decoded")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The film and its first stream of pictures; what fails inside names the file."""
    av = load_extra("av", "halfpixel[video]")
    try:
        with open_regular(path) as file, av.open(file, metadata_errors="replace") as film:
            if not film.streams.video:
                raise ImageError("the film has no pictures in it")
            yield film, film.streams.video[0]
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(
            f"{path}: the film cannot be read ({getattr(error, 'strerror', '') or reason(error)})"
        ) from error


def _frames(film: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    """Each frame with its number from 0, None for one that is lost."""
    av = load_extra("av", "halfpixel[video]")
    number = 0
    for packet in film.demux(stream):
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            decoded = [None]
        for frame in decoded:
            yield number, None if frame is None or frame.is_corrupt else frame
            number += 1


def _picture(path: Path, frame: Any, number: int, n: int, reading: Reading) -> Picture:
    check_area(frame.width, frame.height)
    is_grey = frame.format.name.startswith("gray")
    upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    channels = np.ascontiguousarray(upright[..., :1] if is_grey else upright)
    names = ("grey",) if is_grey else COLOURS
    chosen = list(range(len(names)))
    if reading.channels is not None:
        chosen = [find_channel(names, wanted) for wanted in reading.channels]
    rgb, remarks = display(take_channels(channels, chosen), (AS_IT_IS,) * len(chosen))
    return Picture(path, _name(number), np.ascontiguousarray(rgb), channels, names, None, n, remarks=remarks)


def _name(number: int) -> str:
    return f"t{number + 1:0{DIGITS}}"


def _about_how_many(stream: Any) -> int:
    """Frames in the film, as it says or by its length; at least 2, as one that does not say is still a film."""
    if stream.frames:
        return int(stream.frames)
    if stream.duration and stream.average_rate:
        return max(int(stream.duration * stream.time_base * stream.average_rate), 2)
    return 2
