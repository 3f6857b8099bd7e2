"""What a film's objects did: one row for each of them, one for each frame, and how many came, went and crossed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from halfpixel.measure.counting_line import ON_THE_LINE, CountingLine
from halfpixel.measure.table import Column, Table
from halfpixel.measure.track_rules import USUAL_RULES


class FrameTable(NamedTuple):
    """The objects of one frame.

    Attributes:
        number: of the frame, ascending; some may be missing.
        name: of the image.
        table: with a row for each object, and the columns `track`, `class`, `centroid_x_px`, `centroid_y_px`,
            `area_px`, `left_px`, `top_px`, `right_px` and `bottom_px` of `measure_objects`.
        pixel_size_um: side of a pixel in micrometres, where it is known.
    """

    number: int
    name: str
    table: Table
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class Flow:
    """How many objects of a class there were in a film.

    Attributes:
        class_name: theirs.
        tracks: objects, each counted once.
        entered: those that were not there yet in the film's first frame.
        left: those that were not there any more in its last.
        crossings: over each line, (in, out); each time that an object crosses counts.
    """

    class_name: str
    tracks: int
    entered: int
    left: int
    crossings: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class TrackedFilm:
    """What the objects of a film did.

    Attributes:
        tracks: a row for each object that was followed.
        frames: a row for each frame that was looked at.
        flows: of each class that was found, without the objects that were seen in too few frames to count.
        lines: that count what crosses them.
    """

    tracks: Table
    frames: Table
    flows: tuple[Flow, ...]
    lines: tuple[CountingLine, ...]


def tracked_film(
    frames: Iterable[FrameTable], lines: Sequence[CountingLine] = (), min_frames: int = USUAL_RULES.min_frames
) -> TrackedFilm:
    """Put together what the objects of a film did; `docs/video.md` defines each column.

    An object's place is its centre, `centroid_x_px` and `centroid_y_px`; its path leads straight from sighting to
    sighting. It has crossed a line when its centre was on one side and is on the other, each time further from the line
    than a tenth of its size (the root of its box's area), so that one that stands on the line does not count again and
    again.

    Args:
        frames: of one film, in order, gone through once.
        lines: that count what crosses them.
        min_frames: objects that were seen in fewer frames do not count.
    """
    tracks: dict[int, _Track] = {}
    rows: list[tuple[int, str, int]] = []
    sizes_um: set[float | None] = set()
    crossings: list[npt.NDArray[np.int64]] = []
    for frame in frames:
        crossed = np.zeros((len(lines), 2), dtype=np.int64)
        for sighting in _sightings(frame):
            if sighting.track not in tracks:
                tracks[sighting.track] = _Track(sighting.class_name, frame.number, len(lines))
            crossed += tracks[sighting.track].see(frame.number, sighting, lines)
        rows.append((frame.number, frame.name, len(frame.table)))
        sizes_um.add(frame.pixel_size_um)
        crossings.append(crossed)
    first, last = (rows[0][0], rows[-1][0]) if rows else (0, 0)
    one_size_um = sizes_um.pop() if len(sizes_um) == 1 else None
    table = _track_table(tracks, (first, last), min_frames, len(lines), one_size_um)
    return TrackedFilm(
        table, _frame_table(rows, tracks, crossings, len(lines)), _flows(table, len(lines)), tuple(lines)
    )


class _Sighting(NamedTuple):
    """An object in one frame."""

    track: int
    class_name: str
    x: float
    y: float
    area: float
    size: float


def _sightings(frame: FrameTable) -> Iterable[_Sighting]:
    columns = frame.table.columns
    if not len(frame.table):
        return ()
    left, top, right, bottom = (np.asarray(columns[f"{side}_px"]) for side in ("left", "top", "right", "bottom"))
    size = np.sqrt(np.maximum(right - left, 0) * np.maximum(bottom - top, 0))
    numbers = (np.asarray(columns[name]) for name in ("centroid_x_px", "centroid_y_px", "area_px"))
    tracks = np.asarray(columns["track"]).astype(np.int64).tolist()
    cells = zip(tracks, columns["class"], *(one.tolist() for one in (*numbers, size)), strict=True)
    return (_Sighting(*cell) for cell in cells)


@dataclass
class _Track:
    """What is kept of an object: sums, and where it was last."""

    class_name: str
    first: int
    n_lines: int
    last: int = 0
    frames: int = 0
    area: float = 0.0
    measured: int = 0
    path: float = 0.0
    start: tuple[float, float] | None = None
    at: tuple[float, float] | None = None
    beside: dict[int, tuple[float, float]] = field(default_factory=dict)
    crossed: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.crossed = np.zeros((self.n_lines, 2), dtype=np.int64)

    def see(self, number: int, sighting: _Sighting, lines: Sequence[CountingLine]) -> npt.NDArray[np.int64]:
        """Take a sighting in; `[lines, 2]` how often it came in and went out over each line."""
        self.last, self.frames = number, self.frames + 1
        if not math.isnan(sighting.area):
            self.area, self.measured = self.area + sighting.area, self.measured + 1
        crossed = np.zeros_like(self.crossed)
        if math.isnan(sighting.x):  # an empty mask is nowhere
            return crossed
        at = sighting.x, sighting.y
        self.start = self.start or at
        self.path += math.dist(self.at or at, at)
        self.at = at
        for k, line in enumerate(lines):
            offset = line.offset(*at)
            if abs(offset) <= ON_THE_LINE * sighting.size:
                continue
            before = self.beside.get(k)
            if before is not None and line.offset(*before) * offset < 0 and line.crossed_between(before, at):
                crossed[k, 0 if offset > 0 else 1] = 1
            self.beside[k] = at
        self.crossed += crossed
        return crossed

    @property
    def displacement(self) -> float:
        return math.nan if self.start is None or self.at is None else math.dist(self.start, self.at)

    @property
    def mean_area(self) -> float:
        return self.area / self.measured if self.measured else math.nan


def _track_table(
    tracks: dict[int, _Track], first_last: tuple[int, int], min_frames: int, n_lines: int, pixel_size_um: float | None
) -> Table:
    numbers = sorted(tracks)
    every = [tracks[number] for number in numbers]
    began, ended = np.array([one.first for one in every], np.int64), np.array([one.last for one in every], np.int64)
    seen = np.array([one.frames for one in every], np.int64)
    columns: dict[str, Column] = {
        "track": np.array(numbers, np.int64),
        "class": [one.class_name for one in every],
        "first_frame": began,
        "last_frame": ended,
        "frames": seen,
        "counts": seen >= min_frames,
        "entered": began > first_last[0],
        "left": ended < first_last[1],
        "mean_area_px": np.array([one.mean_area for one in every], np.float64),
        "path_px": np.array([one.path for one in every], np.float64),
        "displacement_px": np.array([one.displacement for one in every], np.float64),
    }
    if pixel_size_um is not None:
        columns["mean_area_um2"] = np.asarray(columns["mean_area_px"]) * pixel_size_um**2
        columns["path_um"] = np.asarray(columns["path_px"]) * pixel_size_um
        columns["displacement_um"] = np.asarray(columns["displacement_px"]) * pixel_size_um
    crossed = np.array([one.crossed for one in every], np.int64).reshape(len(every), n_lines, 2)
    return Table(columns | _crossing_columns(crossed))


def _frame_table(
    rows: Sequence[tuple[int, str, int]],
    tracks: dict[int, _Track],
    crossings: Sequence[npt.NDArray[np.int64]],
    n_lines: int,
) -> Table:
    numbers = np.array([number for number, _, _ in rows], np.int64)
    place = {number: k for k, number in enumerate(numbers.tolist())}
    began, ended = (
        np.bincount(np.array([place[getattr(one, end)] for one in tracks.values()], np.int64), minlength=len(rows))
        for end in ("first", "last")
    )
    columns: dict[str, Column] = {
        "frame": numbers,
        "image": [name for _, name, _ in rows],
        "objects": np.array([objects for _, _, objects in rows], np.int64),
        "first_seen": began,
        "last_seen": ended,
    }
    return Table(columns | _crossing_columns(np.array(crossings, np.int64).reshape(len(rows), n_lines, 2)))


def _crossing_columns(crossed: npt.NDArray[np.int64]) -> dict[str, Column]:
    """Of `[n, lines, 2]` two columns for each line."""
    return {
        f"line{k + 1}_{direction}": crossed[:, k, d]
        for k in range(crossed.shape[1])
        for d, direction in enumerate(("in", "out"))
    }


def _flows(tracks: Table, n_lines: int) -> tuple[Flow, ...]:
    names, counts = np.array(tracks.columns["class"], dtype=object), np.asarray(tracks.columns["counts"])
    flows = []
    for name in sorted({*names[counts]}):
        mine = counts & (names == name)
        entered, left = (int(np.asarray(tracks.columns[column])[mine].sum()) for column in ("entered", "left"))
        crossings = tuple(
            (
                int(np.asarray(tracks.columns[f"line{k}_in"])[mine].sum()),
                int(np.asarray(tracks.columns[f"line{k}_out"])[mine].sum()),
            )
            for k in range(1, n_lines + 1)
        )
        flows.append(Flow(name, int(mine.sum()), entered, left, crossings))
    return tuple(sorted(flows, key=lambda flow: -flow.tracks))
