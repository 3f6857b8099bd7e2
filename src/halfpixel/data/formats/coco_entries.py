"""The lists that a COCO file is made of, their entries checked for the keys that they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpixel.data.formats.json_files import json_type, whole
from halfpixel.errors import AnnotationError

Entry = dict[str, Any]
Keys = Mapping[str, type | tuple[type, ...]]
"""The keys that an entry needs, and of which type their values must be."""

CATEGORY_KEYS: Keys = {"id": int, "name": str}


def checked_entries(path: Path, content: Entry, name: str, keys: Keys, unique: bool = True) -> list[Entry]:
    """One of the file's lists, each entry checked for its keys and their types, ids for being unique.

    Numbers that are written as text or floats become whole.

    Raises:
        AnnotationError: names the entry and what is wrong with it.
    """
    entries = [with_numbers(entry, keys) for entry in list_of(path, content, name)]
    for k, entry in enumerate(entries):
        if (issue := key_issue(entry, keys)) is not None:
            which = f" (id {entry.get('id', 'unknown')})" if isinstance(entry, dict) else ""
            raise AnnotationError(f"{path}: {name}[{k}]{which} {issue}")
    if unique:
        counts = Counter(entry["id"] for entry in entries)
        twice = [number for number, times in counts.items() if times > 1]
        if twice:
            raise AnnotationError(f"{path}: '{name}' has more than one entry with the id {twice[0]}")
    return entries


def list_of(path: Path, content: Entry, name: str) -> list[Any]:
    """One of the file's lists, its entries not looked at.

    Raises:
        AnnotationError: there is none, or it is not a list.
    """
    if name not in content:
        raise AnnotationError(f"{path}: not a COCO data set: it has no '{name}'")
    entries = content[name]
    if not isinstance(entries, list):
        raise AnnotationError(f"{path}: '{name}' must be a list, got a JSON {json_type(entries)}")
    return entries


def with_numbers(entry: Any, keys: Keys) -> Any:
    """An entry with whole numbers where its keys need them and it has text or floats that stand for one."""
    if not isinstance(entry, dict):
        return entry
    others = [key for key, kind in keys.items() if kind is int and key in entry and type(entry[key]) is not int]
    numbers = {key: number for key in others if (number := whole(entry[key])) is not None}
    return entry | numbers if numbers else entry


def key_issue(entry: object, keys: Keys) -> str | None:
    """What is wrong with an entry's keys or their types, or None."""
    if not isinstance(entry, dict):
        return f"must be an object, got a JSON {json_type(entry)}"
    for key, kind in keys.items():
        value = entry.get(key)
        if value is None or isinstance(value, bool) or not isinstance(value, kind):
            return f"has no '{key}'" if value is None else f"has an unusable '{key}': {value!r:.60}"
    return None


def is_id(value: object) -> bool:
    """Whether a value can be an id: a whole number."""
    return type(value) is int
