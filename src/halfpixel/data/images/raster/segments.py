"""Windows of the pages of a TIFF: only the tiles or strips that a window touches are read and decoded."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tifffile

from halfpixel.data.images.container import check_area
from halfpixel.data.images.contrast import Values
from halfpixel.data.images.raster.windows import Window
from halfpixel.errors import ImageError, UnreadableTileError, reason

KEPT_BYTES = 1 << 26
"""Decoded strips, on which windows side by side lie, and large tiles are kept up to this size."""

KEPT_TILE_PX = 1 << 20
"""Smaller tiles are decoded again where a second window touches them, which costs less than to keep them all."""

Page = tifffile.TiffPage | tifffile.TiffFrame


class Segments:
    """The tiles and strips of an open TIFF, and the last strips that were decoded.

    Several threads may use it, but one reads while the others wait; with a file for each of them they do not.

    Args:
        file: what the TIFF is read from.
    """

    def __init__(self, file: tifffile.FileHandle) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Values] = OrderedDict()
        self._kept_bytes = 0

    def window(self, page: Page, window_xyxy: Window) -> Values:
        """A part of a page, with the page's axes.

        Tiles that a file leaves out have its no-data value, or else 0.

        Args:
            page: of this TIFF.
            window_xyxy: inside of the page.

        Raises:
            UnreadableTileError: a tile or strip is damaged, or lies beyond the end of the file.
            ImageError: the tiles or strips are too large to be decoded, or all of them in a way that is not known.
        """
        keyframe, (x0, y0, x1, y1) = _keyframe(page), window_xyxy
        grid = _Grid.of(page)
        if not _is_plain(keyframe):
            check_area(grid.width, grid.height)
            _check_codec(keyframe)
        n_samples, depth, _, _, n_together = keyframe.shaped
        dtype = np.dtype(keyframe.dtype).newbyteorder("=")
        result = np.empty((n_samples, depth, y1 - y0, x1 - x0, n_together), dtype)
        for index in grid.touched(window_xyxy):
            sample, level, top, left = grid.place(index)
            rows = range(max(top, y0), min(top + grid.height, y1))
            columns = range(max(left, x0), min(left + grid.width, x1))
            try:
                pixels = self._rows(page, grid, index, rows)
            except Exception as error:  # decoders raise whatever they like on damaged bytes
                if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                    raise
                raise UnreadableTileError(f"{grid.describe(index)}: {reason(error)}") from error
            there = result[sample, level : level + grid.depth, rows.start - y0 : rows.stop - y0]
            there = there[:, :, columns.start - x0 : columns.stop - x0]
            if pixels is None:
                there[...] = keyframe.nodata
            else:
                there[...] = pixels[: depth - level, :, columns.start - left : columns.stop - left]
        sides = {"Y": y1 - y0, "X": x1 - x0}
        return result.reshape([sides.get(axis, n) for axis, n in zip(keyframe.axes, keyframe.shape, strict=True)])

    def _rows(self, page: Page, grid: _Grid, index: int, rows: range) -> Values | None:
        """Some rows of the image out of a tile or strip, `[depth, rows, w, samples]`; None where it was left out."""
        if index >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise ValueError("the TIFF does not say where it is")
        keyframe, top = _keyframe(page), grid.place(index)[2]
        offset, n_bytes = page.dataoffsets[index], page.databytecounts[index]
        if n_bytes == 0:
            return None
        if _is_plain(keyframe):
            dtype = np.dtype(keyframe.dtype).newbyteorder(keyframe.parent.byteorder)
            shape = (1, len(rows), keyframe.imagewidth, keyframe.shaped[4])
            row_bytes = shape[2] * shape[3] * dtype.itemsize
            data = self._read(offset + (rows.start - top) * row_bytes, len(rows) * row_bytes)
            return np.frombuffer(data, dtype).reshape(shape)
        key = offset, index
        with self._lock:
            pixels = self._kept.get(key)
        if pixels is None:
            data = self._read(offset, n_bytes)
            tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
            pixels = np.asarray(keyframe.decode(data, index, **tables)[0])
            if not keyframe.is_tiled or grid.height * grid.width >= KEPT_TILE_PX:
                self._keep(key, pixels)
        return pixels[:, rows.start - top : rows.stop - top]

    def _read(self, offset: int, n_bytes: int) -> bytes:
        with self._lock:
            if offset + n_bytes > self._file.size:
                raise ValueError(f"it goes on after the last of the file's {self._file.size} bytes")
            self._file.seek(offset)
            data: bytes = self._file.read(n_bytes)
        if len(data) < n_bytes:
            raise ValueError(f"of its {n_bytes} bytes only {len(data)} could be read")
        return data

    def _keep(self, key: tuple[int, int], pixels: Values) -> None:
        with self._lock:
            self._kept_bytes += pixels.nbytes - (self._kept[key].nbytes if key in self._kept else 0)
            self._kept[key] = pixels
            while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes


class _Grid(NamedTuple):
    """How a page is cut into tiles or strips, which are numbered along rows, then down, then plane by plane.

    Attributes:
        word: what to call one.
        height, width, depth: of each, but for those that end at an edge.
        size_hw: of the page.
        n_down, n_across, n_deep, n_samples: how many there are.
    """

    word: str
    height: int
    width: int
    depth: int
    size_hw: tuple[int, int]
    n_down: int
    n_across: int
    n_deep: int
    n_samples: int

    @classmethod
    def of(cls, page: Page) -> _Grid:
        keyframe = _keyframe(page)
        n_samples, n_deep, length, n_wide, _ = keyframe.shaped
        if keyframe.is_tiled:
            word, height, width, depth = "tile", keyframe.tilelength, keyframe.tilewidth, keyframe.tiledepth
        else:
            is_one = len(page.dataoffsets) == n_samples == n_deep == 1  # whatever its length is said to be
            word, height, width, depth = "strip", length if is_one else max(keyframe.rowsperstrip, 1), n_wide, 1
        n_down, n_across, n_deep = -(-length // height), -(-n_wide // width), -(-n_deep // depth)
        return cls(word, height, width, depth, (length, n_wide), n_down, n_across, n_deep, n_samples)

    def touched(self, window_xyxy: Window) -> Iterator[int]:
        """The numbers of those that a window touches, in the order in which files mostly have them."""
        x0, y0, x1, y1 = window_xyxy
        down = range(y0 // self.height, (y1 - 1) // self.height + 1)
        across = range(x0 // self.width, (x1 - 1) // self.width + 1)
        for plane, row, column in itertools.product(range(self.n_samples * self.n_deep), down, across):
            yield (plane * self.n_down + row) * self.n_across + column

    def place(self, index: int) -> tuple[int, int, int, int]:
        """Where one begins: sample, slice, row and column of the page."""
        rest, column = divmod(index, self.n_across)
        rest, row = divmod(rest, self.n_down)
        sample, level = divmod(rest, self.n_deep)
        return sample, level * self.depth, row * self.height, column * self.width

    def describe(self, index: int) -> str:
        """One as a person would look for it."""
        _, _, top, left = self.place(index)
        bottom, right = min(top + self.height, self.size_hw[0]), min(left + self.width, self.size_hw[1])
        return f"{self.word} {index} (columns {left} to {right - 1}, rows {top} to {bottom - 1})"


def _keyframe(page: Page) -> tifffile.TiffPage:
    """The page that says how this one is stored."""
    keyframe = page.keyframe
    assert keyframe is not None
    return keyframe


def _check_codec(keyframe: tifffile.TiffPage) -> None:
    """Refuse what no tile of the page could be decoded from."""
    try:
        keyframe.decode(None, 0)
    except Exception as error:  # tifffile raises what it likes
        raise ImageError(f"the TIFF cannot be decoded: {reason(error)}") from error


def _is_plain(keyframe: tifffile.TiffPage) -> bool:
    """Whether the rows of a strip are just bytes, of which some can be read without the others."""
    return (
        not keyframe.is_tiled
        and keyframe.compression == 1
        and keyframe.predictor == 1
        and keyframe.fillorder == 1
        and keyframe.sampleformat in (1, 2, 3)
        and keyframe.bitspersample in (8, 16, 32, 64)
        and not keyframe.is_subsampled
    )
