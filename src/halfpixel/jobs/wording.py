"""How messages and tables put numbers, names and errors into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NAMED_AT_MOST = 5

COMPARED: Mapping[str, str] = {"mask": "masks", "box": "boxes"}
"""What objects are compared by, in the plural."""


def one_line(text: object) -> str:
    """A message without line breaks, which file names and other libraries' errors may hold."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def name_some(names: Sequence[object]) -> str:
    """The first few of a list, and how many more there are."""
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(str(name) for name in names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")


def plural(n: int, one: str, many: str = "") -> str:
    """A number and its noun: "1 image", "1,200 images"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
