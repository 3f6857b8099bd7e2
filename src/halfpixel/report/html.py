"""Pieces of a page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.files import write_whole

CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: #fff; color: #22303c;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.quiet { color: #5b6873; font-size: .9rem; }
.warning { border-left: 4px solid #d55e00; padding: .4rem .9rem; background: #fdf3ec; }
.key { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.6rem 0 .5rem; padding: 0; list-style: none; }
.key li { flex: 1 1 11rem; border: 1px solid #dde2e6; border-radius: 8px; padding: .8rem 1rem; }
.key b { display: block; font-size: 1.7rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #e4e8eb; white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid #9aa5ae; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { display: block; font-size: .78rem; line-height: 1.2; }
small { color: #5b6873; }
dl { font-size: .9rem; max-width: 50rem; } dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; color: #5b6873; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 1.5rem; }
figure { flex: 1 1 24rem; margin: 0; max-width: 34rem; }
figure img { width: 100%; height: auto; }
.worst figure { flex-basis: 100%; max-width: 60rem; }
figcaption { color: #5b6873; font-size: .9rem; }
"""

ABSENT = "-"


class Cell(NamedTuple):
    """Text of a table, and what stands small below it."""

    text: str
    note: str = ""


def document(title: str, sections: Iterable[str]) -> str:
    """A page that stands alone: no scripts, nothing to fetch."""
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def write_page(out: Path, page: str, report: Mapping[str, object]) -> Path:
    """Write `index.html` and `report.json` to a folder, which is made if need be; returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(out / "report.json", text.encode())
    write_whole(out / "index.html", page.encode())
    return out / "index.html"


def facts(named: Mapping[str, str]) -> str:
    """What a page is about, on one line."""
    line = " &middot; ".join(f"{escape(name)}: <b>{escape(value)}</b>" for name, value in named.items())
    return f'<p class="quiet">{line}</p>'


def about_intervals(definition: str) -> str:
    """What small numbers and dashes stand for."""
    return (
        f'<p class="quiet">Small numbers are intervals: {escape(definition)} A dash stands for a number that is '
        f"undefined, as there is nothing to divide by.</p>"
    )


def key_numbers(numbers: Iterable[tuple[str, str, str]]) -> str:
    """The few that matter most: what, the number, and a note."""
    items = "".join(
        f"<li>{escape(what)}<b>{text}</b><small>{escape(note)}</small></li>" for what, text, note in numbers
    )
    return f'<ul class="key">{items}</ul>'


def heading(text: str, *explained: str) -> str:
    """A section's heading and what its numbers mean."""
    return f"<h2>{escape(text)}</h2>" + "".join(f'\n<p class="quiet">{escape(one)}</p>' for one in explained)


def table(header: Sequence[str], rows: Iterable[Iterable[Cell | str]]) -> str:
    """Text at the left of each row, numbers at its right."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def definitions(named: Iterable[tuple[str, str]]) -> str:
    """Words and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in named) + "</dl>"


def figure(media_type: str, data: bytes, caption: str) -> str:
    """A picture inside the page."""
    source = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    text = escape(caption)
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'


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


def _cell(cell: Cell | str) -> str:
    text, note = cell if isinstance(cell, Cell) else (cell, "")
    return f"<td>{escape(text)}{f'<small>{escape(note)}</small>' if note else ''}</td>"
