"""Files that are written whole or not at all, and read only where they are files."""

import errno
import hashlib
import io
import os
import stat
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


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is one: a pipe or a device would keep its reader waiting, or never end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    try:
        raw = io.FileIO(os.fspath(path), "rb", opener=_open_at_once)
    except ValueError as error:  # characters that no name can have
        raise OSError(errno.EINVAL, f"not the name of a file ({error})", os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))
    return io.BufferedReader(raw)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; no for names that none can have."""
    try:
        return path.exists()
    except OSError:  # too long for the file system
        return False


def is_regular(path: Path) -> bool:
    """Whether there is a regular file; no for names that none can have."""
    return is_there(path) and path.is_file()
