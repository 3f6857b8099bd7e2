"""From files, arrays and whatever opens a file to rasters: which library reads what."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from halfpixel.data.images.container import TIFF_MAGIC, TURNED, Opener, errors_naming, open_image
from halfpixel.data.images.picture import open_stacks
from halfpixel.data.images.planes import Stack, array_stack
from halfpixel.data.images.raster.openslide import Slide, slide_stack
from halfpixel.data.images.raster.raster import Raster, RasterSource, Reader
from halfpixel.data.images.tiff_metadata import OPTICAL_UM
from halfpixel.errors import ArgumentError, ImageError

SLIDE_SUFFIXES = (".mrxs", ".vms", ".vmu")
"""Slides whose first bytes are those of a photograph or a text."""

DICOM_AT, DICOM_MAGIC = 128, b"DICM"
CZI_MAGIC = b"ZISRAWFILE"

CREDIBLE_UM = (1e-5, 1e10)
"""A pixel is no smaller than an atom, and no larger than what satellites see of the weather."""

BLOCK_BYTES, BLOCKS = 1 << 16, 16
"""What a fingerprint looks at."""


def open_raster(
    where: str | Path | Opener | npt.NDArray[Any] | RasterSource,
    *,
    plane: int = 0,
    reader: Reader | None = None,
    pixel_size_um: float | None = None,
) -> Raster:
    """Open an image of any size, to be read window by window.

    TIFFs of all kinds (Aperio SVS, OME-TIFF, GeoTIFF, pyramids) are read tile by tile. OpenSlide, if it is installed
    (`pip install "halfpixel[slides]"`), reads MRXS, VMS, DICOM, CZI, SCN and BIF, which nothing else here reads, and
    NDPI and Philips' TIFF, which else tifffile reads. Any other image is decoded as a whole when it is opened, and must
    fit the memory.

    Args:
        where: a file; a function without arguments that opens one for reading, such as
            `functools.partial(file_system.open, "bucket/slide.svs")`; an array `[h, w]` or `[h, w, channels]` (three
            are colours, of four the last is opacity); or the source of another raster, which decides all the rest.
        plane: which of the planes that `read_pictures` finds with `planes="all"`, from 0.
        reader: `"tifffile"` or `"openslide"`; None to choose.
        pixel_size_um: the side of a pixel, in place of what the file says.

    Raises:
        ImageError: the file is missing, damaged, not of a known kind, or states a size that no pixel has.
        MissingDependencyError: only OpenSlide reads it, and is not installed.
        ArgumentError: there is no such plane, reader or pixel size.
    """
    if not isinstance(where, RasterSource):
        where = RasterSource(Path(where) if isinstance(where, str) else where, plane, reader, pixel_size_um)
    source = _checked(where)
    with ExitStack() as resources:
        source, is_slide = _with_reader(source)
        stacks, identity = _open(source, resources)
        stack, k = _find_plane(stacks, source)
        sides = source.pixel_size_um
        size_xy_um = (sides, sides) if sides is not None else _credible_size(stack, is_slide)
        fingerprint = partial(_fingerprint, source.where, identity)
        return Raster(source, stack, k, size_xy_um, fingerprint, resources)


def _checked(source: RasterSource) -> RasterSource:
    if source.reader not in ("tifffile", "openslide", None):
        raise ArgumentError(f'reader: expected "tifffile" or "openslide", got {source.reader!r}')
    size = source.pixel_size_um
    if size is not None and not CREDIBLE_UM[0] <= size <= CREDIBLE_UM[1]:
        raise ArgumentError(f"pixel_size_um: no pixel is {size:g} micrometres large")
    return source


def _with_reader(source: RasterSource) -> tuple[RasterSource, bool]:
    """A source with what reads it, and whether it is a slide."""
    if isinstance(source.where, np.ndarray):
        return source, False
    with open_image(source.where) as (file, magic):
        if TIFF_MAGIC.match(magic):
            with tifffile.TiffFile(file, _multifile=False) as tiff:
                is_odd = tiff.is_scn or tiff.is_bif
                is_openslides = is_odd or ((tiff.is_ndpi or tiff.is_philips) and find_spec("openslide") is not None)
                is_slide = is_odd or tiff.is_svs or tiff.is_ndpi or tiff.is_philips
            return replace(source, reader=source.reader or ("openslide" if is_openslides else "tifffile")), is_slide
        if source.reader == "tifffile":
            raise ImageError("not a TIFF")
        if source.reader is None and not _is_slide(source.where, file, magic):
            return source, False
        return replace(source, reader="openslide"), True


def _is_slide(where: Path | Opener, file: BinaryIO, magic: bytes) -> bool:
    """Whether only OpenSlide may know a file that is no TIFF."""
    file.seek(DICOM_AT)
    is_dicom = file.read(len(DICOM_MAGIC)) == DICOM_MAGIC
    is_named = isinstance(where, Path) and where.suffix.lower() in SLIDE_SUFFIXES
    return is_dicom or is_named or magic.startswith(CZI_MAGIC)


def _open(source: RasterSource, resources: ExitStack) -> tuple[list[Stack], str]:
    """The images of a source, and what else than its bytes tells it from others. What fails later names the source."""
    where = source.where
    if isinstance(where, np.ndarray):
        resources.enter_context(errors_naming(source.name))
        return [array_stack(where)], ""
    if source.reader != "openslide":
        return resources.enter_context(open_stacks(where)), ""
    resources.enter_context(errors_naming(source.name))
    if not isinstance(where, Path):
        raise ImageError("OpenSlide reads slides of this kind, and only from a drive")
    slide = Slide(where)
    resources.callback(slide.close)
    return [slide_stack(slide)], slide.identity


def _find_plane(stacks: Sequence[Stack], source: RasterSource) -> tuple[Stack, int]:
    left = source.plane
    for stack in stacks:
        if 0 <= left < len(stack.planes):
            return stack, left
        left -= len(stack.planes)
    n = sum(len(stack.planes) for stack in stacks)
    raise ArgumentError(f"{source.name}: there is no plane {source.plane}; it has {n}, from 0")


def _credible_size(stack: Stack, is_slide: bool) -> tuple[float, float] | None:
    """What a file says of the size of its pixels, turned upright."""
    size_xy_um = stack.pixel_size_xy_um
    if size_xy_um is None:
        return None
    least, most = OPTICAL_UM if is_slide else CREDIBLE_UM
    if not all(least <= side <= most for side in size_xy_um):  # also what is no number
        width, height = size_xy_um
        raise ImageError(
            f"a pixel is said to be {width:g} x {height:g} micrometres large, which cannot be; "
            "state the true size (`pixel_size_um`)"
        )
    return (size_xy_um[1], size_xy_um[0]) if stack.orientation in TURNED else size_xy_um


def _fingerprint(where: Path | Opener | npt.NDArray[Any], identity: str) -> str:
    digest = hashlib.sha256(identity.encode())
    if isinstance(where, np.ndarray):
        digest.update(f"{where.shape} {where.dtype.str}".encode())
        digest.update(np.ascontiguousarray(where).data)
        return digest.hexdigest()
    with open_image(where) as (file, _):
        size = file.seek(0, 2)
        digest.update(str(size).encode())
        n = min(BLOCKS, -(-size // BLOCK_BYTES))
        for k in range(n):
            file.seek((size - BLOCK_BYTES) * k // (n - 1) if n == BLOCKS else k * BLOCK_BYTES)
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()
