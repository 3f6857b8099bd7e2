"""The chunks that a PNG file is made of: their checksums, and what Pillow would decode all pixels to find."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from halfpixel.errors import ImageError

PIECE = 1 << 20  # bytes in memory at a time


class Chunk(NamedTuple):
    """Where in the file a chunk has its data, and how many bytes."""

    name: bytes
    start: int
    length: int

    @property
    def is_critical(self) -> bool:
        """Whether the picture depends on it."""
        return self.name[:1].isupper()


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a PNG file, up to its end or to where it is cut short."""
    position = 8  # after the signature
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        chunk = Chunk(header[4:], position + 8, int.from_bytes(header[:4], "big"))
        yield chunk
        if chunk.name == b"IEND":
            return
        position = chunk.start + chunk.length + 4


def check_checksums(file: BinaryIO) -> None:
    """Compare what the picture is made of with its checksums; the one inside the pixels' stream is left to decoders.

    Raises:
        ImageError: names the chunk.
    """
    for chunk in chunks(file):
        if not chunk.is_critical:
            continue
        checksum, left = zlib.crc32(chunk.name), chunk.length
        file.seek(chunk.start)
        while left and (piece := file.read(min(PIECE, left))):
            checksum, left = zlib.crc32(piece, checksum), left - len(piece)
        stored = file.read(4)
        if left or len(stored) < 4:
            raise ImageError(f"the PNG is cut short in its chunk {_text(chunk.name)}")
        if int.from_bytes(stored, "big") != checksum:
            raise ImageError(f"the PNG is damaged: its chunk {_text(chunk.name)} does not have its checksum")


def read_exif(file: BinaryIO) -> bytes | None:
    """The EXIF block, wherever in the file it is."""
    for chunk in chunks(file):
        if chunk.name == b"eXIf" and chunk.length <= PIECE:
            file.seek(chunk.start)
            return b"Exif\0\0" + file.read(chunk.length)
    return None


def bits_and_kind(file: BinaryIO) -> tuple[int, int]:
    """Bits a channel, and what kind of colour: 0 is grey, 4 grey with opacity."""
    file.seek(24)  # after the signature: length and name of the header chunk, width, height
    depth, kind = file.read(2)
    return depth, kind


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace")
