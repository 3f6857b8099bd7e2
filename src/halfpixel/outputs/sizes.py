"""Percentiles of object sizes as a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.files import write_with_folder

if TYPE_CHECKING:
    from halfpixel.outputs.image_result import RunResult


def write_sizes(path: Path, run: RunResult) -> None:
    """Write how large the objects are, a row for each class on each image and on all images together."""
    from halfpixel.measure.size_distribution import size_distribution

    write_with_folder(path, size_distribution(run.tables()).csv_bytes())
