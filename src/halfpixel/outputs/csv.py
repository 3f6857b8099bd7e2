"""Tables as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.files import open_whole

if TYPE_CHECKING:
    from halfpixel.outputs.image_result import RunResult


def csv_bytes(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """A table as a UTF-8 CSV file."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([columns, *rows])
    return file.getvalue().encode("utf-8", "backslashreplace")


def write_csv(path: Path, run: RunResult) -> None:
    """Write the measurements of all images, a row for each object.

    Images of other channels have other columns: all columns of all images, empty where an image has none.
    """
    from halfpixel.measure.table import Table

    header = Table({column: [] for column in run.columns}).csv_bytes()
    with open_whole(path) as file:
        file.write(header)
        for table in run.tables():
            empty = [""] * len(table)
            aligned = Table({column: table.columns.get(column, empty) for column in run.columns})
            file.write(aligned.csv_bytes().removeprefix(header))
