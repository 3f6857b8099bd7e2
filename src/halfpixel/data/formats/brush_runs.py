"""The run lengths of Label Studio's brush: the packed bytes of an RGBA picture, of which opacity is the mask.

The packing is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack: a head with the number of
values, the bits of a value and four sizes of counters, then runs of one value and stretches of single values in turn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from halfpixel.data.formats.mask_sizes import PlacedCrop, united
from halfpixel.data.images.container import MAX_PIXELS


def decode_brush(packed: object, size_hw: tuple[int, int]) -> PlacedCrop:
    """The mask of a brush on an image of this size: its pixels that are not wholly transparent.

    Args:
        packed: the bytes as a list of numbers.
        size_hw: the image.

    Raises:
        ValueError: they are no bytes, break off, or do not fit the image.
    """
    n_values = 4 * size_hw[0] * size_hw[1]
    if n_values > MAX_PIXELS:
        raise ValueError(f"a brush on {size_hw[1]} x {size_hw[0]} pixels is too large")
    if not isinstance(packed, list) or not all(type(one) is int and 0 <= one <= 255 for one in packed):
        raise ValueError("'rle' must be a list of bytes")
    alpha = _unpack(bytes(packed), n_values).reshape(*size_hw, 4)[..., 3]
    return united([(alpha > 0, (0, 0))], size_hw)


def _unpack(data: bytes, expected: int) -> npt.NDArray[np.uint8]:
    """The values, one byte each."""
    n_bits, position = 8 * len(data), 0

    def read(n: int) -> int:
        nonlocal position
        first, position = position, position + n
        if position > n_bits:
            raise ValueError("the run lengths break off")
        chunk = int.from_bytes(data[first // 8 : (position + 7) // 8], "big")
        return chunk >> -position % 8 & (1 << n) - 1

    n_values, word = read(32), read(5) + 1
    if (n_values, word) != (expected, 8):
        raise ValueError(f"the run lengths have {n_values} values of {word} bits, the image has {expected} of 8")
    sizes = [read(4) + 1 for _ in range(4)]
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    values = np.zeros(n_values, dtype=np.uint8)
    done = 0
    while done < n_values:
        is_run = read(1)
        n = read(sizes[read(2)]) + 1
        if done + n > n_values:
            raise ValueError("the run lengths go beyond the image")
        if is_run:
            values[done : done + n] = read(8)
        else:
            if position + 8 * n > n_bits:
                raise ValueError("the run lengths break off")
            values[done : done + n] = np.packbits(bits[position : position + 8 * n])
            position += 8 * n
        done += n
    return values
