"""`halfpixel track`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, say, show
from halfpixel.cli.option_groups import Images, Sizes, Speed, Tracking
from halfpixel.cli.predict import print_found
from halfpixel.jobs.image_options import AS_THEY_ARE
from halfpixel.jobs.model_options import AS_USUAL
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.track_options import AS_SORT
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.measure.tracks import TrackedFilm


def track(
    *paths: Annotated[str, Parameter("FRAMES|FILM", required=True)],
    out: Path,
    model: str = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = "coco,overlay,table,tracks,frames",
    classes: str | None = None,
    gzip: bool = False,
    overwrite: bool = False,
    tracking: Tracking = AS_SORT,
    images: Images = AS_THEY_ARE,
    speed: Speed = AS_USUAL,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Follow every object through a film: each is counted once, and so is what comes, goes and crosses a line.

    Args:
        paths: A film, a stack of time planes, or a folder or glob of frames in the order of their names' numbers.
        out: The folder for the results; it is made if need be.
        model: A named model (see `halfpixel models`) or a model file.
        first_pass: A U-Net that looks at the reduced image first, as for `halfpixel predict`.
        threshold: Leave out objects that score less, from 0 to below 1. Default: the model's own.
        limit: At most this many objects a frame. Default: the model's own.
        save: What to write, separated by commas: tracks (tracks.csv, a row for each object, always written), frames
            (frames.csv, a row for each frame), and all that `halfpixel predict` writes, with the numbers of the tracks.
        classes: Of --save blurred: make objects of these classes unrecognisable, separated by commas. Default: all.
        gzip: Of --save geojson: compress the files.
        overwrite: Replace earlier results in the folder; without this, they are kept and nothing is done.
        tracking: How objects are followed and counted.
        images: How images are read and measured. All planes of a file are frames, whatever --planes says.
        speed: What the model runs on, and how fast.
        sizes: At which size images are looked at.
    """
    from halfpixel.jobs.track import track as run

    with Listener() as listener:
        result = run(
            paths, out=out, model=model, first_pass=first_pass, threshold=threshold, limit=limit, save=save,
            classes=classes, gzip=gzip, overwrite=overwrite, tracking=tracking, images=images, speed=speed,
            sizes=sizes, tell=listener,
        )  # fmt: skip
    print_found(result, model, first_pass)
    if result.film is not None:
        _print(result.film, tracking.min_frames)
    return listener.finish(result.outcome)


def _print(film: TrackedFilm, min_frames: int) -> None:
    """How many objects there were, came, went and crossed."""
    crossings = [f"line {k} {way}" for k in range(1, len(film.lines) + 1) for way in ("in", "out")]
    numbers = ("tracks", "entered", "left", *crossings)
    table = plain_table("class", *numbers, right=numbers)
    for flow in film.flows:
        crossed = (number for line in flow.crossings for number in line)
        table.add_row(flow.class_name, *(f"{n:,}" for n in (flow.tracks, flow.entered, flow.left, *crossed)))
    say()
    show(table)
    say(f"Tracks of fewer than {min_frames:,} frames do not count." if min_frames > 1 else "All tracks count.")
