"""Dataclasses whose annotations are the schema of what users and files put into them.

A field's type says what it holds, `Annotated[float, Meta(ge=0, le=1)]` also in which range; nothing else has to check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from halfpixel.errors import ArgumentError

AnyDataclass = TypeVar("AnyDataclass")

SHOWN_CHARACTERS = 60
"""So much of a value that is not allowed is shown."""

Share = Annotated[float, Meta(ge=0, le=1)]
"""A probability, an overlap, a part of something."""

LARGEST_COUNT = 10**9
"""Leaves room for arithmetic in 64 bits."""

Count = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
"""How many."""

Finite = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""Any number that is one."""

Text = Annotated[str, Meta(max_length=10_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*$")]
"""Without the characters that would drive a terminal, or that no file can hold."""

Name = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$")]
"""Not empty, on one line."""


NOT_AS_ANNOTATED = (msgspec.ValidationError, UnicodeEncodeError)
"""The second for half of a pair of surrogates in the name of a field, which JSON can hold."""


def check_fields(instance: Any) -> None:
    """Hold each field of a dataclass to its annotation; for `__post_init__`.

    Lists become tuples and whole numbers floats, where those are wanted.

    Raises:
        ArgumentError: a value of another type or out of its range, with the name of its field.
    """
    for name, hint in _hints(type(instance)).items():
        value = getattr(instance, name)
        try:
            checked = msgspec.convert(value, hint)
        except NOT_AS_ANNOTATED as error:
            raise ArgumentError(f"{name} = {_shown(value)}: {_reason(error)}") from error
        object.__setattr__(instance, name, checked)  # they are frozen


def from_plain(kind: type[AnyDataclass], plain: object) -> AnyDataclass:
    """A dataclass from what JSON gives, other dataclasses inside of it included.

    Args:
        kind: its class; every field is held to its annotation.
        plain: a mapping of the names of fields.

    Raises:
        ArgumentError: fields that are missing or unknown, of another type, or out of range.
    """
    try:
        made = msgspec.convert(plain, kind)
    except NOT_AS_ANNOTATED as error:
        raise ArgumentError(_reason(error)) from error
    if isinstance(plain, Mapping) and (unknown := sorted(set(plain) - set(_hints(kind)), key=str)):
        raise ArgumentError(f"there is no field {_shown(unknown[0])}; there are {', '.join(_hints(kind))}")
    return made


def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def _reason(error: Exception) -> str:
    """What msgspec says, in the words of people."""
    if isinstance(error, UnicodeEncodeError):
        return "a name that is no Unicode text"
    text, _, place = str(error).partition(" - at `$")
    text, _, pattern = text.partition(" matching regex")
    text = text.replace("Expected", "expected", 1).replace("`", "") + (" without control characters" if pattern else "")
    place = place.rstrip("`").lstrip(".")
    return f"{place}: {text}" if place else text


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return type(value).__name__
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
