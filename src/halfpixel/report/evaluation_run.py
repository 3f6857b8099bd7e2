"""Evaluates a model and writes the page about it."""

from __future__ import annotations

from pathlib import Path

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs import evaluate
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions
from halfpixel.jobs.evaluate import EvaluateRequest, EvaluateResult
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import AS_USUAL, SpeedOptions
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.wording import plural


def evaluate_model(
    data: str | Path,
    *,
    out: str | Path,
    model: str | Path | None = None,
    first_pass: str | None = None,
    images: str | Path | None = None,
    format: Format | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    predictions: str | Path | None = None,
    slice_by: str = "modality",
    boundary: bool = False,
    pictures: int = 8,
    overwrite: bool = False,
    speed: SpeedOptions = AS_USUAL,
    reading: ReadingOptions = AS_WRITTEN,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> EvaluateResult:
    """Compare what a model finds with annotations, and write a page about it: `halfpixel evaluate`.

    Args:
        data: annotated images: a file or a folder, in any format that `read_dataset` reads.
        out: the folder for the page (index.html), report.json and the predictions (instances.json).
        model: a named model or a model file. Default: nuclei.
        first_pass: a U-Net (a name or a file) that looks at the reduced image first; the model then looks only where
            it saw something.
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        threshold: accuracy and counts take objects that score at least this, 0 to 1. Default: the model's own.
        limit: at most this many objects an image. Default: the model's own.
        predictions: evaluate the predictions of this COCO file, and run no model.
        slice_by: an attribute of the images; everything is also measured for each of its values.
        boundary: also compute boundary AP, which takes long on large images.
        pictures: how many of the worst images the page shows, at most.
        overwrite: replace an earlier report in the folder.
        speed: what the model runs on, and how fast.
        reading: how the annotations are taken.
        sizes: at which size images are looked at.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or an earlier report in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    if pictures < 0:
        raise ArgumentError(f"`pictures` must be at least 0, got {pictures}")
    request = EvaluateRequest(
        Path(data), Path(out), None if model is None else str(model), first_pass,
        None if images is None else Path(images), format, threshold, limit,
        None if predictions is None else Path(predictions), slice_by, boundary, overwrite, speed, reading, sizes,
    )  # fmt: skip
    result = evaluate.run(request, tell)
    _write_page(request, result, pictures)
    return result


def _write_page(request: EvaluateRequest, result: EvaluateResult, pictures: int) -> None:
    """Write the page, where there is something to tell."""
    if result.evaluation is None:
        return
    from halfpixel.report.page import write_report
    from halfpixel.report.worst_images import draw_worst

    worst = draw_worst(result.dataset, result.found, result.evaluation, at_most=pictures)
    write_report(result.evaluation, request.out, about=_about(request, result), worst=worst)


def _about(request: EvaluateRequest, result: EvaluateResult) -> dict[str, str]:
    """What the page says of the run."""
    about = {"predictions" if request.predictions is not None else "model": result.whose}
    if result.computed is not None:
        about["computed"] = str(result.computed)
    if result.outcome.looked_at is not None:
        about["images looked at"] = str(result.outcome.looked_at)
    if request.first_pass is not None:
        about["first pass"] = request.first_pass
    if result.outcome.failures:
        about["left out"] = f"{plural(len(result.outcome.failures), 'image')} that could not be used"
    return about
