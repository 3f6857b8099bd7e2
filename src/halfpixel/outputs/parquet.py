"""Tables as Apache Parquet files."""

from __future__ import annotations

from pathlib import Path

from halfpixel.files import write_with_folder
from halfpixel.measure.table import Table
from halfpixel.outputs.image_result import RunResult


def write_parquet(path: Path, run: RunResult) -> None:
    """Write the measurements of all images, a row for each object.

    Raises:
        MissingDependencyError: pyarrow is not installed (the extra `parquet`).
    """
    write_with_folder(path, Table.concat(list(run.tables())).parquet_bytes())
