"""Pages from templates: what goes into them, and how they are written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.files import write_whole
from halfpixel.plots.style import to_svg
from halfpixel.report.worst_images import WorstImage

ABSENT = "-"


class Cell(NamedTuple):
    """Text of a table, and what stands small below it."""

    text: str
    note: str = ""


class Table(NamedTuple):
    """Text at the left of each row, numbers at its right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def of(cls, header: Sequence[str], rows: Iterable[Iterable[Cell | str]]) -> Table:
        """With texts as cells."""
        return cls(header, [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in rows])


class Shown(NamedTuple):
    """A picture inside the page."""

    source: str
    caption: str


def render(template: str, values: Mapping[str, object]) -> str:
    """A page that stands alone: no scripts, nothing to fetch. Text that users wrote is escaped."""
    environment = Environment(
        loader=PackageLoader("halfpixel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def write_page(out: Path, page: str, report: Mapping[str, object]) -> Path:
    """Write `index.html` and `report.json` to a folder, which is made if need be; returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(out / "report.json", text.encode())
    write_whole(out / "index.html", page.encode())
    return out / "index.html"


def plots_shown(drawn: Iterable[tuple[Figure, str]]) -> list[Shown]:
    """Plots and their captions."""
    return [_shown("image/svg+xml", to_svg(plot).encode(), caption) for plot, caption in drawn]


def pictures_shown(pictures: Iterable[WorstImage]) -> list[Shown]:
    """Pictures and their captions."""
    return [_shown("image/jpeg", one.jpeg, one.caption) for one in pictures]


def _shown(media_type: str, data: bytes, caption: str) -> Shown:
    return Shown(f"data:{media_type};base64,{base64.b64encode(data).decode()}", caption)


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Rounded, or a dash where it is undefined."""
    return ABSENT if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def estimate(
    value: float | None, interval: Interval | None, digits: int = 3, *, sign: bool = False, scale: float = 1
) -> Cell:
    """A number and below it the two ends of its interval, both times `scale`."""
    if value is None:
        return Cell(ABSENT)
    ends = [] if interval is None else [number(scale * one, digits) for one in (interval.low, interval.high)]
    return Cell(number(scale * value, digits, sign=sign), " to ".join(ends))
