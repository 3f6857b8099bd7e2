"""Compares two models and writes the page about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs import compare as job
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions
from halfpixel.jobs.compare import CompareRequest, CompareResult
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.wording import plural


def compare(
    data: str | Path,
    *,
    out: str | Path,
    models: Sequence[str | Path] = (),
    predictions: Sequence[str | Path] = (),
    images: str | Path | None = None,
    format: Format | None = None,
    thresholds: Sequence[float] = (),
    limit: int | None = None,
    slice_by: str = "modality",
    pictures: int = 8,
    overwrite: bool = False,
    reading: ReadingOptions = AS_WRITTEN,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> CompareResult:
    """Compare two models on annotated images, and write a page about it: `halfpixel compare`.

    Give two models, two files of predictions, or one of each. The first is A; a model comes before a file.

    Args:
        data: annotated images: a file or a folder, in any format that `read_dataset` reads.
        out: the folder for the page (index.html), report.json and, of models, the predictions.
        models: named models or model files.
        predictions: COCO files of predictions, for which no model runs.
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        thresholds: all but average precision takes objects that score at least this: one for both, or two. Default:
            each model's own.
        limit: at most this many objects an image. Default: each model's own.
        slice_by: an attribute of the images; everything is also measured for each of its values.
        pictures: how many images the page shows, of those on which the two differ most, at most.
        overwrite: replace an earlier comparison in the folder.
        reading: how the annotations are taken.
        sizes: at which size the models look at images.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: options out of range, not two to compare, or an earlier comparison in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    if pictures < 0:
        raise ArgumentError(f"`pictures` must be at least 0, got {pictures}")
    request = CompareRequest(
        data=Path(data),
        out=Path(out),
        sources=[*map(str, models), *map(Path, predictions)],
        images=None if images is None else Path(images),
        format=format,
        thresholds=thresholds,
        limit=limit,
        slice_by=slice_by,
        overwrite=overwrite,
        reading=reading,
        sizes=sizes,
    )
    result = job.run(request, tell)
    _write_page(result, request.out, pictures)
    return result


def _write_page(result: CompareResult, out: Path, pictures: int) -> None:
    """Write the page, where there is something to tell."""
    if result.comparison is None or result.a is None or result.b is None:
        return
    from halfpixel.report.comparison import write_comparison
    from halfpixel.report.differences import draw_differences

    n_failed = len(result.outcome.failures)
    about = {"left out": f"{plural(n_failed, 'image')} that could not be used"} if n_failed else {}
    about |= {f"{side.upper()} looked at images": str(one) for side, one in result.looked_at.items()}
    drawn = draw_differences(result.dataset, result.a, result.b, result.comparison, at_most=pictures)
    write_comparison(result.comparison, out, about=about, pictures=drawn)
