"""Files that are there whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME_BYTES = 255
"""File systems allow no longer names of files and folders."""


def shortened(name: str, most: int) -> str:
    """A name of at most so many bytes: one that is longer ends with a hash of what it is no longer."""
    encoded = os.fsencode(name)
    if len(encoded) <= most:
        return name
    mark = "~" + hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: most - len(mark)].decode(errors="ignore") + mark


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it; a failure leaves what was there before.

    Args:
        path: the file; its folder must exist.
        data: all of its bytes.
    """
    with open_whole(path) as file:
        file.write(data)


def write_with_folder(path: Path, data: bytes) -> None:
    """As `write_whole`; the file's folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """As `write_whole`, for a file that is written piece by piece: it is there when the context ends without an error.

    Args:
        path: the file; its folder must exist.
    """
    temporary = path.with_name(f".{shortened(path.name, NAME_BYTES - 20)}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
