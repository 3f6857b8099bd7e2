"""Pyramids and other large images, small, in the layouts that files have, for the tests of reading by windows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

RNG = np.random.default_rng(1)
SIZE_HW = (150, 201)
APERIO = "Aperio Image Library v12\r\n201x150 [0,0 201x150] (64x64) JPEG/RGB Q=70|AppMag = 20|MPP = {mpp}|Left = 1"

Image = npt.NDArray[Any]


def scene(size_hw: tuple[int, int] = SIZE_HW, channels: int = 3, dtype: Any = np.uint8) -> Image:
    """Something smooth with a little noise, which survives JPEG, in the upper half of the type's range."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [np.sin(x / (9 + k)) * np.cos(y / (7 + k)) for k in range(channels)]
    image = 0.7 + 0.2 * np.stack(waves, axis=2) + RNG.normal(0, 0.01, (*size_hw, channels))
    if np.dtype(dtype).kind == "f":
        return image.astype(dtype)
    return (image.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def reduced(image: Image, factor: int) -> Image:
    """Means of blocks, without what is left over at the right and at the bottom."""
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    result: Image = blocks.mean((1, 3)).astype(image.dtype).reshape(height, width, *image.shape[2:])
    return result


def write_svs(path: Path, image: Image, mpp: str = "0.4990", **options: Any) -> list[Image]:
    """As Aperio's scanners: levels 1, 4 and 8 by directories, a thumbnail, a label and a macro; gives the levels."""
    levels = [image, reduced(image, 4), reduced(image, 8)]
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None} | options
    small = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    beside = {"metadata": None, "photometric": "rgb", "rowsperstrip": 8}
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        writer.write(image, description=APERIO.format(mpp=mpp), **options)
        writer.write(small[:15, :20], description="Aperio Image Library v12\r\n201x150 -> 20x15 - ", **beside)
        for level in levels[1:]:
            writer.write(level, description="Aperio Image Library v12\r\n201x150 -> smaller", **options)
        writer.write(small, subfiletype=1, description="Aperio Image Library v12\r\nlabel 30x20", **beside)
        writer.write(small[::-1], subfiletype=9, description="Aperio Image Library v12\r\nmacro 30x20", **beside)
    return levels


def write_directories(path: Path, image: Image, factors: tuple[int, ...] = (2, 4), **options: Any) -> list[Image]:
    """A pyramid whose levels follow each other, as of GDAL and libvips."""
    levels = [image, *(reduced(image, factor) for factor in factors)]
    with tifffile.TiffWriter(path) as writer:
        for level in levels:
            writer.write(level, subfiletype=int(level is not image), metadata=None, **options)
    return levels


def set_compression(path: Path, code: int) -> None:
    """Call the compression of all tiled pages so, as their writers call the same codec."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in tiff.pages:
            if page.is_tiled:
                page.tags["Compression"].overwrite(code)


def windows(size_hw: tuple[int, int], n: int = 5) -> list[tuple[int, int, int, int]]:
    """The whole, each corner's pixel, and some at random, all inside."""
    height, width = size_hw
    found = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, width, height),
        (0, height - 1, width, height),
    ]
    for _ in range(n):
        x, y = np.sort(RNG.integers(0, width + 1, 2)), np.sort(RNG.integers(0, height + 1, 2))
        if x[0] < x[1] and y[0] < y[1]:
            found.append((int(x[0]), int(y[0]), int(x[1]), int(y[1])))
    return found
