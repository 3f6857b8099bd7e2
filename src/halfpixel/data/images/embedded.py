"""Pictures that a JSON file holds, as LabelMe writes them: base64 text under `imageData`."""

from __future__ import annotations

import base64
import io
import json
from typing import BinaryIO

from halfpixel.errors import ImageError

SUFFIX_BY_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}


def is_json_object(magic: bytes) -> bool:
    """Whether a file with these first bytes may be a JSON object."""
    return magic.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def embedded_picture(file: BinaryIO) -> BinaryIO:
    """The image file inside a JSON file.

    Raises:
        ImageError: there is none.
    """
    try:
        content = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise ImageError(f"not an image, and not a JSON file that holds one ({error})") from None
    return decode_picture(content.get("imageData"))


def decode_picture(data: object) -> BinaryIO:
    """The image file that base64 text holds.

    Raises:
        ImageError: it is not base64 text, or empty.
    """
    try:
        decoded = base64.b64decode(data, validate=False) if isinstance(data, str) else b""
    except ValueError as error:
        raise ImageError(f"its 'imageData' is not base64 ({error})") from None
    if not decoded:
        raise ImageError("it is JSON and holds no picture ('imageData')")
    return io.BytesIO(decoded)


def suffix_of(magic: bytes) -> str:
    """What the name of an image file with these first bytes ends in."""
    return next((suffix for start, suffix in SUFFIX_BY_MAGIC.items() if magic.startswith(start)), ".tif")
