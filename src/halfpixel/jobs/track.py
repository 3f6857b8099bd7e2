"""Follows the objects of a film: each is counted once, however many frames show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from halfpixel.jobs import predict
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.jobs.model_options import AS_USUAL, SpeedOptions
from halfpixel.jobs.predict import PredictRequest, PredictResult
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.source import as_patterns
from halfpixel.jobs.track_options import AS_SORT, TrackOptions
from halfpixel.zoo.names import DEFAULT_MODEL

SAVED = "coco,overlay,table,tracks,frames"


def track(
    paths: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    model: str | Path = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = SAVED,
    classes: str | None = None,
    gzip: bool = False,
    overwrite: bool = False,
    tracking: TrackOptions = AS_SORT,
    images: ImageOptions = AS_THEY_ARE,
    speed: SpeedOptions = AS_USUAL,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> PredictResult:
    """Find every object in the frames of a film and follow it from frame to frame: `halfpixel track`.

    As `halfpixel.predict_folder` with three differences: all planes of a file are frames, whatever `images` say; how
    large the objects are is found once, in the middle of the film; and a run that broke off cannot be gone on with.

    Args:
        paths: a film (which takes the extra `video`), a stack of time planes, or images in the order of their names'
            numbers. Several are taken as one film.
        out: the folder for the results; it is made if need be.
        model: see `predict_folder`, as for all that is not said here.
        first_pass: likewise.
        threshold: likewise.
        limit: likewise.
        save: also `tracks`, a table of the objects, which is always written, and `frames`, a table of the frames.
        classes: likewise.
        gzip: likewise.
        overwrite: likewise.
        tracking: how objects are followed, and lines that count what crosses them.
        images: how images are read and measured.
        speed: likewise.
        sizes: likewise.
        tell: likewise.

    Returns:
        What was found; `film` says what the objects did.

    Raises:
        ArgumentError: an option out of range, or earlier results in the folder.
        MissingDependencyError: a film, and PyAV is not installed.
        ModelFileError: there is no such model.
    """
    every_frame, always = replace(images, planes="all"), save if "tracks" in save.split(",") else f"{save},tracks"
    request = PredictRequest(
        as_patterns(paths), Path(out), str(model), first_pass, threshold, limit, always, classes, gzip, overwrite,
        images=every_frame, speed=speed, sizes=sizes, tracking=tracking,
    )  # fmt: skip
    return predict.run(request, tell)
