"""Tables of a run that grow by a row at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from halfpixel.files import write_whole

Rows = list[dict[str, float]]


class CsvLog:
    """A CSV file whose first column is `step`.

    Args:
        path: the file; what it holds up to `last_step` is kept, the rest (of a run that was killed) is cut off.
        last_step: see above; 0 starts afresh.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        kept: list[list[str]] = []
        if last_step and path.is_file():
            header, *rows = list(csv.reader(path.read_text().splitlines())) or [[]]
            self.names = tuple(header[1:])
            # a killed run may have left half a row
            kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= last_step]
        write_whole(path, _lines([["step", *self.names], *kept] if self.names else []).encode())

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One row more; the first row's names are the header, also of the rows of a later version."""
        rows: list[list[object]] = []
        if not self.names:
            self.names = tuple(values)
            rows.append(["step", *self.names])
        rows.append([step, *(f"{values[name]:.6g}" for name in self.names)])
        with self.path.open("a", newline="") as file:
            file.write(_lines(rows))

    def rows(self) -> Rows:
        """All rows so far."""
        with self.path.open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _lines(rows: list[list[object]] | list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
