"""The chain of directories of a TIFF, each of which says where the next is."""

from __future__ import annotations

import struct
from typing import BinaryIO

from halfpixel.errors import ImageError


def check_directories(file: BinaryIO) -> None:
    """Refuse a TIFF whose directories lead back to one of them, which readers would follow for ever.

    Raises:
        ImageError: says where.
    """
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    is_big = header[2:4] in (b"+\0", b"\0+")
    count, offset, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    at = 8 if is_big else 4
    seen: set[int] = set()
    try:
        (position,) = struct.unpack_from(order + offset, header, at)
        while position:
            if position in seen:
                raise ImageError(f"the TIFF's directories go round in a circle, through the one at byte {position}")
            seen.add(position)
            file.seek(position)
            (n,) = struct.unpack(order + count, file.read(struct.calcsize(order + count)))
            file.seek(n * entry_bytes, 1)
            (position,) = struct.unpack(order + offset, file.read(struct.calcsize(order + offset)))
    except (struct.error, OSError, OverflowError):
        pass  # cut short: what is there is left to the reader
    finally:
        file.seek(0)
