"""What a film's objects did, as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.files import write_with_folder

if TYPE_CHECKING:
    from halfpixel.outputs.image_result import RunResult


def write_tracks(path: Path, run: RunResult) -> None:
    """Write a row for each object that was followed."""
    assert run.film is not None, "only objects that are followed have tracks"
    write_with_folder(path, run.film.tracks.csv_bytes())


def write_frames(path: Path, run: RunResult) -> None:
    """Write a row for each frame that was looked at."""
    assert run.film is not None, "only objects that are followed have frames"
    write_with_folder(path, run.film.frames.csv_bytes())
