"""Where results go: never over what is there already, unless that is asked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from halfpixel.errors import ArgumentError


def check_folder(out: Path, what: str = "") -> None:
    """Refuse an output folder that cannot be one.

    Args:
        out: the folder.
        what: how the message calls what was given. Default: `out` and the folder.

    Raises:
        ArgumentError: it, or a part of its path, is a file.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ArgumentError(f"{what or f'`out` {out}'}: {path} is a file, not a folder")


def refuse_to_overwrite(places: Collection[Path]) -> None:
    """Keep earlier results.

    Raises:
        ArgumentError: one of the files, or something in one of the folders, exists.
    """
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ArgumentError(f"{place} exists already; choose another `out`, or say `overwrite`")
