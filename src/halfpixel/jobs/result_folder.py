"""The folder that `predict` fills: one image after the other, and at the end what spans all images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from halfpixel.errors import ArgumentError
from halfpixel.jobs.image_names import Names
from halfpixel.jobs.journal import Facts
from halfpixel.jobs.wording import plural
from halfpixel.measure.table import Column, Table
from halfpixel.optional import load_extra
from halfpixel.outputs.image_result import ImageEntry, ImageResult, RunResult
from halfpixel.outputs.writers import WRITERS

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture
    from halfpixel.jobs.journal import Journal
    from halfpixel.jobs.model_options import CalibrationInUse
    from halfpixel.jobs.track_options import TrackOptions
    from halfpixel.measure.tracks import TrackedFilm
    from halfpixel.outputs.image_result import FilmFrame
    from halfpixel.structures.instances import Instances

ANNOTATIONS, MEASUREMENTS = 0, 1
"""The records of an image in the journal."""


class Written(NamedTuple):
    """Something in the folder.

    Attributes:
        place: the file or the folder.
        what: it is, for people.
    """

    place: str
    what: str


@dataclass(frozen=True)
class ResultFolder:
    """A folder of results, filled image by image; what spans all images is written by `finish`.

    Attributes:
        out: the folder.
        kinds: what to write, names of `WRITERS`.
        names: of the images.
        blurred: names of the classes to make unrecognisable; None for all.
        gzip: compress what is text.
        calibration: gives tables the probability of each object, where there is one for the threshold.
        with_scale: say of each image by which factor it was enlarged, and the diameter that was found.
        tracking: the images are a film, and their objects were followed.
    """

    out: Path
    kinds: Collection[str]
    names: Names
    blurred: Collection[str] | None = None
    gzip: bool = False
    calibration: CalibrationInUse | None = None
    with_scale: bool = False
    tracking: TrackOptions | None = None

    def write(
        self, picture: Picture, objects: Instances, pixel_size_um: float | None, frame: FilmFrame | None = None
    ) -> tuple[Facts, Sequence[Any]]:
        """Write what belongs to one image, which may be a frame of a film.

        Returns:
            Facts of it, and records, both as plain JSON values, that `finish` needs again from the journal.
        """
        from halfpixel.measure.object_table import measure_objects
        from halfpixel.outputs.coco import prediction_entries

        path, plane = picture.path, picture.plane
        name = self.names.in_tables(path, plane)
        table = None
        if any(WRITERS[kind].takes == "measurements" for kind in self.kinds):
            measured = measure_objects(
                objects,
                channels=picture.channels,
                channel_names=_distinct(picture.channel_names),
                pixel_size_um=pixel_size_um,
            )
            number = {} if frame is None else {"frame": np.full(len(objects), frame.number)}
            table = Table({"image": [name] * len(objects), **number, **measured.columns})
        result = ImageResult(picture, objects, pixel_size_um, table, self.blurred, self.gzip, frame)
        for kind in self.kinds:
            if (write := WRITERS[kind].image) is not None:
                write(self.out / WRITERS[kind].place, self.names.stem(path, plane), result)
        kept_to_the_end = {WRITERS[kind].takes for kind in self.kinds if WRITERS[kind].run is not None}
        annotations = prediction_entries(objects) if "annotations" in kept_to_the_end else []
        kept = None
        if table is not None and "measurements" in kept_to_the_end:
            kept = self._with_probability(table, objects)
        facts: Facts = {"name": name, "columns": [] if kept is None else list(kept.columns)}
        if frame is not None:
            facts |= {"frame": frame.number, "pixel_size_um": pixel_size_um}
        return facts, (annotations, _plain(kept))

    def _with_probability(self, table: Table, objects: Instances) -> Table:
        """The table with a column right after the score, if the model is calibrated."""
        calibration = None if self.calibration is None else self.calibration.at(objects.scale)
        columns: dict[str, Column] = {}
        for name, values in table.columns.items():
            columns[name] = values
            if name == "score" and calibration is not None:
                columns["probability"] = calibration.probability(objects.scores.numpy())
        return Table(columns)

    def gather(self, journal: Journal, class_names: Sequence[str]) -> RunResult:
        """What was kept of all images."""
        found = journal.facts()
        looked_at = ("novelty", *(("scale", "found_diameter_px") if self.with_scale else ()))
        return RunResult(
            images=[
                ImageEntry(one["name"], one["size_hw"], **{name: one["note"][name] for name in looked_at})
                for one in found
            ],
            class_names=class_names,
            columns=list(dict.fromkeys(column for one in found for column in one["columns"])),
            annotations=lambda: journal.records(ANNOTATIONS),
            tables=lambda: _tables(journal),
            film=None if self.tracking is None else _film(journal, self.tracking),
        )

    def finish(self, run: RunResult, n_objects: int) -> list[Written]:
        """Write the files that span all images; what is where."""
        self.out.mkdir(parents=True, exist_ok=True)
        written = []
        for name, writer in WRITERS.items():
            if name not in self.kinds:
                continue
            if writer.run is not None:
                writer.run(self.out / writer.place, run)
                number, nothing = n_objects, ""
            else:  # files are counted: images without objects have no regions and no cut-outs
                number = sum(1 for _ in self.out.glob(writer.pattern))
                nothing = "" if number else ", nothing to write"
            what = f"{writer.what}, {plural(number, writer.each)}" if writer.each else writer.what
            written.append(Written(str(self.out / writer.place), what + nothing))
        return written


def parse_save(save: str) -> tuple[str, ...]:
    """The names of writers in a comma-separated list.

    Raises:
        ArgumentError: none, or one that there is not.
    """
    kinds = tuple(dict.fromkeys(kind for part in save.split(",") if (kind := part.strip())))
    unknown = [kind for kind in kinds if kind not in WRITERS]
    if unknown or not kinds:
        what = f"there is no {unknown[0]!r}" if unknown else "it is empty"
        raise ArgumentError(f"`save`: {what}; choose from {','.join(WRITERS)}")
    return kinds


def check_extras(kinds: Collection[str]) -> None:
    """Refuse what cannot be written here.

    Raises:
        MissingDependencyError: a kind takes an optional library that is not installed.
    """
    for kind in kinds:
        if (needed := WRITERS[kind].extra) is not None:
            module, extra = needed
            load_extra(module, f"halfpixel[{extra}]")


def holds_result(out: Path, path: Path) -> bool:
    """Whether a file lies where a run with this output folder puts what it writes of an image."""
    try:
        inside = Path(os.path.normpath(path.absolute())).relative_to(os.path.normpath(out.absolute()))
    except ValueError:
        return False
    return any(inside.parts[0] == writer.place for writer in WRITERS.values()) and len(inside.parts) > 1


def refuse_to_mix(out: Path, kinds: Collection[str]) -> None:
    """Keep results of two runs from standing side by side and contradicting each other.

    Raises:
        ArgumentError: an earlier run wrote a kind that this one would not replace.
    """
    for name, writer in WRITERS.items():
        if name not in kinds and any(out.glob(writer.pattern)):
            raise ArgumentError(
                f"{out / writer.place} is of an earlier run and would not be replaced; add {name} to `save`, or "
                "choose another `out`"
            )


def remove_earlier(out: Path, kinds: Collection[str]) -> None:
    """Remove what an earlier run left of these kinds."""
    for kind in kinds:
        for old in out.glob(WRITERS[kind].pattern):
            old.unlink()


def remove_torn(out: Path, kinds: Collection[str]) -> None:
    """Remove the files that a killed run was about to write."""
    for kind in kinds:
        place = out / WRITERS[kind].place
        for torn in place.rglob(".*.part") if place.is_dir() else out.glob(f".{place.name}.*.part"):
            torn.unlink()


def _distinct(channel_names: Sequence[str]) -> list[str]:
    """Names for columns: two channels of one name are told apart by their numbers."""
    times = Counter(channel_names)
    return [name if times[name] == 1 else f"{name} {k}" for k, name in enumerate(channel_names, start=1)]


Record = list[tuple[str, str, list[Any]]]
"""A table's columns as JSON: name, type of the numbers (empty for texts), values."""


def _plain(table: Table | None) -> Record:
    columns = {} if table is None else table.columns
    return [
        (name, str(values.dtype), values.tolist()) if isinstance(values, np.ndarray) else (name, "", list(values))
        for name, values in columns.items()
    ]


def _tables(journal: Journal) -> Iterator[Table]:
    for record in journal.records(MEASUREMENTS):
        yield Table({name: np.array(values, dtype=kind) if kind else values for name, kind, values in record})


def _film(journal: Journal, tracking: TrackOptions) -> TrackedFilm:
    from halfpixel.measure.tracks import FrameTable, tracked_film

    frames: Iterator[FrameTable] = (
        FrameTable(facts["frame"], facts["name"], table, facts["pixel_size_um"])
        for facts, table in zip(journal.facts(), _tables(journal), strict=True)
    )
    return tracked_film(frames, tracking.lines, tracking.min_frames)
