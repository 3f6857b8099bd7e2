"""JSON files: what they seem to be, and what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from halfpixel.errors import AnnotationError
from halfpixel.files import read_regular


def mentions_keys(file: Path, keys: Collection[str], without: Collection[str] = ()) -> bool:
    """Whether a JSON file seems to have all of some keys, and not all of others; parsing a large one takes long.

    A file that cannot be opened has none.
    """
    try:
        content = read_regular(file)
    except OSError:
        return False

    def has_all(names: Collection[str]) -> bool:
        return all(f'"{name}"'.encode() in content for name in names)

    return has_all(keys) and not (without and has_all(without))


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        AnnotationError: it cannot be opened, or is not JSON; names line and column.
    """
    try:
        return json.loads(read_regular(path))
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{path}: broken JSON in line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:  # not text, absurdly long numbers, absurdly deep nesting
        raise AnnotationError(f"{path}: not a JSON file ({error})") from None


def json_type(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def whole(value: object) -> int | None:
    """The whole number that a value is or stands for, as tools that know no types write it (7, 7.0, "7"), or None."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
