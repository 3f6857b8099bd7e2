"""Image files and arrays as 8-bit RGB pictures, the one form that the networks take.

TIFF goes through tifffile, 16-bit PNG through imagecodecs (Pillow would drop the low byte of colour ones), everything
else through Pillow. What a file is called does not matter, only what it holds. `data/images/picture.py` reads the same
files with a choice of channels and planes.
"""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from halfpixel.data.images.container import exif_orientation, orient
from halfpixel.data.images.contrast import Rgb8, fixed_contrast
from halfpixel.data.images.display import display
from halfpixel.data.images.picture import FIRST_PLANE, first_rgb, open_stacks
from halfpixel.data.images.planes import pillow_pixels
from halfpixel.data.images.stretch import Stretch, measure_stretch
from halfpixel.errors import ImageError, ImageWarning

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""The files of a folder that count as images."""

AnyImage = str | Path | npt.NDArray[np.generic] | Image.Image
"""A file, a numpy array `[h, w]` or `[h, w, channels]`, or a Pillow image."""

PNG_LEVEL = 3
"""How hard a PNG file is compressed: with the usual 6, it takes three times as long, for 8% less."""


def read_image(path: Path) -> Rgb8:
    """Read an image file as `[h, w, 3]` RGB in 0..255, turned as its EXIF orientation says.

    Transparent pixels are laid on white, grey and palette images become RGB, CMYK is converted. Of an animation or a
    stack the first plane is read (see `count_frames`). Deeper images are brought to 8 bits as `as_rgb8` does it, a
    stack with one stretch for all of its planes. In a file with a channel axis, one channel is grey, and of more the
    first three are red, green and blue, each stretched by itself; a missing third is black.

    Warns:
        ImageWarning: see `as_rgb8`; also for an opacity that is 0 everywhere, and is not applied.

    Raises:
        ImageError: the file is missing, empty, damaged, not an image of a known kind, too large (see `check_area`), or
            no pixel of it holds data.
    """
    rgb, remarks = first_rgb(Path(path), FIRST_PLANE)
    _warn(remarks, f"{path}: ")
    return rgb


def any_rgb8(image: AnyImage) -> Rgb8:
    """As `read_image`, `from_pillow` or `as_rgb8`, whichever it takes."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return from_pillow(image) if isinstance(image, Image.Image) else as_rgb8(image)


def _warn(remarks: Mapping[str, str], where: str = "") -> None:
    for about, details in remarks.items():
        warnings.warn(f"{where}{about} ({details})", ImageWarning, stacklevel=3)


def from_pillow(image: Image.Image) -> Rgb8:
    """A Pillow picture as `[h, w, 3]` RGB in 0..255, by the rules of `read_image`.

    Raises:
        ImageError: see `as_rgb8`.
    """
    return np.ascontiguousarray(orient(as_rgb8(pillow_pixels(image)), exif_orientation(image)))


def png_bytes(pixels: Rgb8) -> bytes:
    """A picture `[h, w, channels]` of uint8 as a PNG file."""
    import imagecodecs  # unlike Pillow, it lets other threads run meanwhile

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=PNG_LEVEL))


def count_frames(path: Path) -> int:
    """How many frames or planes a file holds, of which `read_image` reads the first; 1 for an ordinary image.

    Raises:
        ImageError: the file is missing, empty, cut short or not an image of a known kind.
    """
    with open_stacks(Path(path)) as stacks:
        return sum(len(stack.planes) for stack in stacks)


def as_rgb8(array: npt.ArrayLike) -> Rgb8:
    """Bring an array to `[h, w, 3]` RGB in 0..255.

    Args:
        array: `[h, w]` or `[h, w, 1]` grey, `[h, w, 3]` RGB or `[h, w, 4]` RGBA (laid on white), of bool, integers or
            floats. uint8 is taken as it is; floats that all lie in 0..1 are multiplied by 255, unless they use less
            than a sixteenth of that range; anything else is stretched linearly, one stretch for the whole image, from
            its 0.1st to its 99.9th percentile (from its minimum to its maximum where the two are equal), and a constant
            image becomes black. Hot and dead pixels, padding or a burnt-in scale bar do not count for the percentiles.
            Of an image of more than 4 million pixels they are those of a regular grid of that many. NaN and infinite
            pixels are outside of the picture: they look like its background.

    Warns:
        ImageWarning: pixels are outside of the picture or did not count for the contrast, or nearly all of them are
            within a few grey levels.

    Raises:
        ImageError: another shape or dtype, no pixels, or none that is a number.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        shape = list(array.shape[:-1] if array.ndim == 3 and array.shape[2] == 1 else array.shape)
        raise ImageError(f"expected an array [h, w] or [h, w, 1, 3 or 4 channels], got the shape {shape}")
    if array.size == 0:
        raise ImageError(f"an image of {array.shape[1]} x {array.shape[0]} pixels has nothing in it")
    if array.dtype.kind not in "buif":
        raise ImageError(f"expected bool, integer or float pixels, got {array.dtype}")
    colour, alpha = array[..., :3], array[..., 3:] if array.shape[2] == 4 else None
    fixed = fixed_contrast(array.dtype)
    stretch = Stretch((fixed,), {}) if fixed else measure_stretch([lambda: colour], jointly=True)
    rgb, remarks = display(colour, stretch.contrasts, alpha)
    _warn({**stretch.remarks, **remarks})
    return np.ascontiguousarray(rgb)


def find_images(pattern: str | Path) -> list[Path]:
    """The image files that a path stands for, in natural order (`2.png` before `10.png`).

    Args:
        pattern: a file; a folder, of which the images directly in it are taken by their suffix; or a glob (`**` for
            any depth), of which every matching file is taken.

    Raises:
        ImageError: there is no such file or folder, the folder has no images in it, or nothing matches.
    """
    path = Path(pattern)
    if path.is_dir():
        named = (one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and not one.name.startswith("."))
        found = [one for one in named if not one.is_dir()]
        if not found:
            raise ImageError(f"{path}: there are no images in this folder (looked for {' '.join(SUFFIXES)})")
    elif path.exists():
        found = [path]
    elif glob.has_magic(str(pattern)):
        fixed = _existing(path)
        found = [one for one in fixed.glob(str(path.relative_to(fixed))) if one.is_file()]
        if not found:
            raise ImageError(f"{pattern}: no file matches")
    else:
        raise ImageError(f"{path}: there is no such file or folder")
    return sorted(found, key=natural_order)


def _existing(pattern: Path) -> Path:
    """How far a glob leads through folders that are there, whatever signs their names have."""
    folder = Path(*pattern.parts[:1]) if pattern.is_absolute() else Path()
    for part in pattern.relative_to(folder).parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    return folder


def natural_order(path: Path) -> list[tuple[str, int, str]]:
    """A key to sort by: 2.png before 10.png."""
    # the suffix comes last: nuclei.png before nuclei2.png
    words = [*re.findall(r"(\D*)(\d*)", str(path.with_suffix(""))), (path.suffix, "")]
    return [(text.lower(), int(digits or -1), text) for text, digits in words]
