"""Small stacks of planes and channels, written as TIFF, for the tests of reading."""

import itertools

import numpy as np
import tifffile

from halfpixel.data.images.picture import Reading

RNG = np.random.default_rng(0)
SIZES = {"T": 2, "Z": 3, "C": 4, "Y": 20, "X": 30, "S": 3}
ALL = Reading(planes="all")


def values(axes, dtype=np.uint16):
    shape = [SIZES[axis] for axis in axes]
    if np.dtype(dtype).kind == "f":
        return RNG.normal(100, 30, shape).astype(dtype)
    return RNG.integers(0, min(np.iinfo(dtype).max, 60_000), shape, dtype=dtype)


def stretched(array, low, high):
    return np.clip((array.astype(float) - low) / (high - low), 0, 1) * 255


def write(path, array, axes=None, **options):
    metadata = options.pop("metadata", {}) | ({"axes": axes} if axes else {})
    tifffile.imwrite(path, array, metadata=metadata, photometric=options.pop("photometric", "minisblack"), **options)
    return path


def as_planes(array, axes):
    """Name and `[h, w, channels]` of each plane, by the slowest way."""
    letters = [axis for axis in axes if axis in "TZ"]
    channel = next((axis for axis in axes if axis in "CS"), None)
    result = {}
    for where in itertools.product(*(range(SIZES[axis]) for axis in letters)):
        name = "_".join(f"{axis.lower()}{k + 1:03}" for axis, k in sorted(zip(letters, where, strict=True))[::-1])
        plane = array[tuple(where[letters.index(axis)] if axis in letters else slice(None) for axis in axes)]
        left = [axis for axis in axes if axis not in letters]
        plane = plane[..., None] if channel is None else np.moveaxis(plane, left.index(channel), -1)
        result[name] = plane
    return result
