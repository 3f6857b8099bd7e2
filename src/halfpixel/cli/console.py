"""What the verbs share: where they print, how they open a model, and how they go over many images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.files import write_whole
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture, Reading
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.bootstrap import Interval
    from halfpixel.structures.calibration import Calibration
    from halfpixel.structures.instances import Instances

OUT = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
"""Results, and nothing else: with `--json` it has to parse."""
ERR = Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=True)
"""Errors, warnings and progress bars."""

NAMED_AT_MOST = 5


def first_process() -> bool:
    """Whether this is the only process, or the first of torchrun's: the others are silent, but for errors."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "") -> None:
    """Print a line of the result."""
    if first_process():
        OUT.print(text)


def say_json(value: object) -> None:
    """Print a machine's twin of a table."""
    OUT.print(json.dumps(value, indent=1, allow_nan=False))


def show(table: Table) -> None:
    """Print a table, as wide as it needs to be where nobody looks at a terminal."""
    if OUT.is_terminal:
        OUT.print(table, soft_wrap=False)
        return
    wide = Console(markup=False, highlight=False, emoji=False, width=1000)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table; the columns in `right` are numbers and stand at the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def complain(error: object) -> None:
    """One line on stderr that says what is wrong."""
    if isinstance(error, OSError) and error.filename and error.strerror:  # without its number
        error = f"{error.filename}: {error.strerror}"
    ERR.print(f"halfpixel: error: {one_line(error)}")


def warn(text: object) -> None:
    """One line on stderr about something that may surprise."""
    if first_process():
        ERR.print(f"halfpixel: warning: {one_line(text)}")


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


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number for a table, a dash where there is none; with `sign="+"` positive ones have a plus."""
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def between(interval: Interval | None, digits: int = 3) -> str:
    """An interval to stand after its number, nothing where there is none."""
    return "" if interval is None else f" ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def say_tied(tied: Sequence[float]) -> str:
    """That there are others, for the middle of a sentence; nothing where there are none."""
    if len(tied) < 2:
        return ""
    return f", the middle one of {len(tied)} that are equally good, from {tied[0]:g} to {tied[-1]:g}"


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar on stderr, gone when it is done; none where stderr is not a terminal."""
    shown = columns or (MofNCompleteColumn(),)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *shown,
        TimeRemainingColumn(),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )


def write_with_folder(path: Path, data: bytes) -> None:
    """Write a file whole; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def check_limits(threshold: float | None, limit: int | None) -> None:
    """Refuse numbers out of range before a model is opened.

    Raises:
        ArgumentError: a threshold outside of 0..1 or a limit below 1.
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise ArgumentError(f"--threshold must be from 0 up to, but not including, 1; got {threshold}")
    if limit is not None and limit < 1:
        raise ArgumentError(f"--limit must be at least 1, got {limit}")


def check_folder(out: Path, option: str = "") -> None:
    """Refuse an output folder that cannot be one.

    Args:
        out: the folder.
        option: how the message calls what was given. Default: `--out` and the folder.

    Raises:
        ArgumentError: it, or a part of its path, is a file.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ArgumentError(f"{option or f'--out {out}'}: {path} is a file, not a folder")


@contextmanager
def download_bar(model: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for the download of a model, if there is one: what it gives is to be told of the bytes."""
    with progress_bar(DownloadColumn()) as bar:

        def tell(done: int, total: int | None) -> None:
            if not bar.tasks:
                bar.add_task(f"Downloading {model}")
                if not ERR.is_terminal:
                    size = f" ({total / 1e6:.0f} MB)" if total else ""
                    ERR.print(f"Downloading the model {model}{size}")
            bar.update(bar.tasks[0].id, completed=done, total=total)

        yield tell


def open_model(model: str) -> Predictor:
    """Load a named model or a file, with a bar for the download if there is one."""
    from halfpixel.engine.load import load

    with download_bar(model) as tell:
        return load(model, progress=tell)


def calibration_at(predictor: Predictor, threshold: float) -> Calibration | None:
    """The model's calibration, if it holds for this threshold."""
    calibration = predictor.info.calibration
    return calibration if calibration is not None and calibration.threshold == threshold else None


def model_digest(model: str) -> str:
    """The SHA-256 of a model's file, which is there."""
    from halfpixel.zoo.names import locate

    with locate(model).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(model: str) -> str:
    """How the output calls a model."""
    return f"{model} (the default, embedded in halfpixel)" if model == DEFAULT_MODEL else model


def label_of(path: Path, plane: str) -> str:
    """How tables and warnings call an image: its path, and which plane of it where each is an image of its own."""
    return f"{path}#{plane}" if plane else str(path)


@dataclass(frozen=True)
class Note:
    """What may make the result of an image wrong.

    Attributes:
        saturated: the detection limit was reached.
        frames: how many the file has, of which the first was read.
        doubt: about the size of its pixels.
        channels: the file and its channels, where these are no colours and were taken as such for want of a choice.
    """

    saturated: bool = False
    frames: int = 1
    doubt: str = ""
    channels: str = ""


@dataclass
class Walk:
    """Goes over images one by one with a progress bar; what fails is reported, and the rest go on.

    Attributes:
        notes: the images that were predicted, by their label.
        failed: what could not be used, and why.
    """

    notes: dict[str, Note] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> list[str]:
        """The images that were predicted."""
        return list(self.notes)

    @property
    def n_images(self) -> str:
        """How many images were predicted, and how many not, for summaries."""
        unused = f" ({len(self.failed):,} could not be used)" if self.failed else ""
        return plural(len(self.done), "image") + unused

    def find(self, patterns: Iterable[str]) -> list[Path]:
        """The images that files, folders and globs stand for, each once."""
        from halfpixel.data.images.rgb8 import find_images

        found: dict[str, Path] = {}
        for pattern in patterns:
            try:
                if not pattern:  # an unset variable of a shell script, which would stand for this folder
                    raise ImageError("an empty PATH: expected a file, a folder or a glob")
                for path in find_images(pattern):
                    found.setdefault(os.path.normpath(path.absolute()), path)
            except (ImageError, OSError) as error:
                self.fail(pattern, error)
        return list(found.values())

    def predict(
        self,
        predictor: Predictor,
        paths: Sequence[Path],
        threshold: float,
        limit: int,
        counted_from: float = 0.0,
        *,
        reading: Reading | None = None,
        skip: Callable[[Path, str], bool] = lambda path, plane: False,
        in_parallel: bool | None = None,
    ) -> Iterator[tuple[Picture, Instances]]:
        """Each image that can be used and its objects, in order; the next ones are looked at meanwhile.

        Args:
            predictor: the model.
            paths: image files.
            threshold: objects from this score upwards.
            limit: at most so many objects an image.
            counted_from: images count as saturated when the limit cut off objects that score at least this.
            reading: which channels and planes. Where only the first plane is read, `Picture.plane` is empty.
            skip: whether an image, given by its file and plane, is to be left out; called in another thread.
            in_parallel: whether small images are looked at several at once. Default: where there are several.
        """
        from halfpixel.data.images.picture import Reading
        from halfpixel.jobs.source import View, false_colours, read_views

        reading = reading or Reading()
        if in_parallel is None:
            in_parallel = len(paths) > 1 or reading.planes == "all"
        views = read_views(paths, reading, skip)
        broken = -1
        with progress_bar() as bar:
            task = bar.add_task("Predicting", total=len(paths))
            for view, future in predictor.predict_in_order(views, View.rgb, threshold, limit, in_parallel):
                bar.update(task, completed=view.number)
                if view.number == broken:  # the rest of a file of which one plane failed
                    continue
                try:
                    objects, picture = future.result(), view.picture()
                except (ImageError, MemoryError) as error:
                    broken, path = view.number, paths[view.number]
                    self.fail(path, error if isinstance(error, ImageError) else f"{path}: too large for the memory")
                    continue
                frames = picture.n_planes if reading.planes == "first" else 1
                channels = "" if reading.channels is not None else false_colours(picture)
                note = Note(objects.above(counted_from).saturated, frames, channels=channels)
                self.notes[label_of(picture.path, picture.plane)] = note
                yield picture, objects

    def facts(self, picture: Picture, objects: Instances, doubt: str = "") -> dict[str, Any]:
        """What summaries need of an image that was predicted, as plain JSON values."""
        image = label_of(picture.path, picture.plane)
        self.notes[image] = replace(self.notes[image], doubt=doubt)
        counts = {name: count for name, count in objects.counts().items() if count}
        return {
            "image": image,
            "n_planes": picture.n_planes,
            "size_hw": objects.size_hw,
            "counts": counts,
            "note": asdict(self.notes[image]),
            "search": None if objects.search is None else asdict(objects.search),
        }

    def fail(self, what: str | Path, error: object) -> None:
        """Report something that cannot be used; an image that was predicted does not count as such any more."""
        self.notes.pop(str(what), None)
        self.failed[str(what)] = one_line(error)
        complain(error)

    def warn(self, limit: int, advice: str = "") -> None:
        """Say what may make the results wrong; `advice` is for files of several frames."""
        stacks = [f"{image}: {note.frames:,}" for image, note in self.notes.items() if note.frames > 1]
        if stacks:
            files = f"{plural(len(stacks), 'file')} with several ({name_some(stacks)})"
            warn(f"only the first frame was read of {files}{advice}")
        channels = list(dict.fromkeys(note.channels for note in self.notes.values() if note.channels))  # not each plane
        if channels:
            files = f"{plural(len(channels), 'file has', 'files have')} several channels ({name_some(channels)})"
            warn(f"{files}, taken as red, green and blue; choose with --channels")
        saturated = [image for image, note in self.notes.items() if note.saturated]
        if saturated:
            where = f"{plural(len(saturated), 'image')} ({name_some(saturated)})"
            warn(f"the detection limit ({limit:,}) cut objects off on {where}: counts may be too low, raise --limit")
        doubts: dict[str, list[str]] = {}
        for image, note in self.notes.items():
            if note.doubt:
                doubts.setdefault(note.doubt, []).append(image)
        for doubt, images in doubts.items():
            warn(f"{plural(len(images), 'image')} ({name_some(images)}): {doubt}")

    @property
    def exit_code(self) -> int:
        """0 when all went well, 1 when something failed, 2 when everything did."""
        if not self.failed:
            return 0
        return 1 if self.done else 2

    def failures_json(self) -> list[dict[str, Any]]:
        """The failures, for `--json`."""
        return [{"path": path, "error": error} for path, error in self.failed.items()]
