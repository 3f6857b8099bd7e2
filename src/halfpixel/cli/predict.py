"""`halfpixel predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, say, say_sizes, show
from halfpixel.cli.option_groups import Images, Sizes, Speed
from halfpixel.cli.savings_text import explain_savings
from halfpixel.jobs.image_options import AS_THEY_ARE
from halfpixel.jobs.model_options import AS_USUAL, describe_model
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import plural
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.jobs.predict import PredictResult


def predict(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    out: Path,
    model: str = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = "coco,overlay,table",
    classes: str | None = None,
    gzip: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    images: Images = AS_THEY_ARE,
    speed: Speed = AS_USUAL,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Find every object in images and write the objects, pictures and tables to a folder.

    Args:
        paths: Image files, folders of images, or globs in quotes (** stands for folders of any depth).
        out: The folder for the results; it is made if need be.
        model: A named model (see `halfpixel models`) or a model file.
        first_pass: A U-Net (a name, such as nuclei-unet, or a file) that looks at the reduced image first; the model
            then looks only where it saw something.
        threshold: Leave out objects that score less, from 0 to below 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        save: What to write, separated by commas: coco (instances.json), overlay (pictures with the objects drawn in),
            labels (32-bit TIFF, each pixel its object's number; where objects overlap, that of the better score), table
            (objects.csv, all measurements), parquet (the same table), sizes (sizes.csv, percentiles of the objects'
            diameters as grain sizes are reported: D16, D50, D84), cutouts (one picture with transparency for each
            object), geojson (detections for QuPath), geoparquet (outlines and measurements for GeoPandas and QGIS),
            rois (regions for ImageJ), blurred (pictures with the objects made unrecognisable).
        classes: Of --save blurred: make objects of these classes unrecognisable, separated by commas. Default: all.
        gzip: Of --save geojson: compress the files.
        overwrite: Replace earlier results in the folder; without this, they are kept and nothing is done.
        resume: Go on with an interrupted run: give the same command again. At most one image was lost.
        images: How images are read and measured.
        speed: What the model runs on, and how fast.
        sizes: At which size images are looked at.
    """
    from halfpixel.jobs.predict import predict_folder

    with Listener() as listener:
        result = predict_folder(
            paths, out=out, model=model, first_pass=first_pass, threshold=threshold, limit=limit, save=save,
            classes=classes, gzip=gzip, overwrite=overwrite, resume=resume, images=images, speed=speed,
            sizes=sizes, tell=listener,
        )  # fmt: skip
    print_found(result, model, first_pass)
    return listener.finish(result.outcome)


def print_found(result: PredictResult, model: str, first_pass: str | None) -> None:
    """How many objects of each class there are, and where."""
    if result.limits is None:
        return
    threshold, limit = result.limits.threshold, result.limits.limit
    say(
        f"Model {describe_model(model)}, computed {result.computed}, objects that score at least {threshold:g}, at "
        f"most {limit:,} an image."
    )
    say_sizes(result.outcome.looked_at)
    per_class = ", ".join(f"{name} {count:,}" for name, count in result.counts.items())
    sentence = f"{plural(sum(result.counts.values()), 'object')} on {result.outcome.n_images}"
    say(f"{sentence}: {per_class}." if per_class else f"{sentence}.")
    table = plain_table("written", "what it is")
    for written in result.written:
        table.add_row(*written)
    show(table)
    if first_pass is not None and result.savings is not None:
        explain_savings(first_pass, result.savings)
