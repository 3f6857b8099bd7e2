"""JSON files: what they seem to be, and what they hold."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from halfpixel.errors import AnnotationError


def mentions_keys(file: Path, keys: Collection[str], without: Collection[str] = ()) -> bool:
    """Whether a JSON file seems to have all of some keys, and not all of others; parsing a large one takes long.

    A file that cannot be opened has none.
    """
    try:
        content = file.read_bytes()
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
        return json.loads(path.read_bytes())
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
