"""The tables of a report, each with what its numbers mean."""

from __future__ import annotations

from halfpixel.evaluation.coco.average_precision import CocoAP
from halfpixel.evaluation.counts.count_errors import CountError
from halfpixel.evaluation.evaluation import Evaluation, SliceEvaluation
from halfpixel.evaluation.slices import MistakeRate, QualityWithInterval
from halfpixel.report.html import Cell, definitions, estimate, heading, number, table

LARGEST_ERRORS = 20
"""How many images the table of the largest count errors lists."""
SHOWN_IOUS = (0.5, 0.75, 0.9)
"""Of parts of the data."""

_AP_NAMES = {
    "ap": "AP, IoU .50 to .95",
    "ap50": "AP at IoU .50",
    "ap75": "AP at IoU .75",
    "ap_small": "AP, small objects",
    "ap_medium": "AP, medium objects",
    "ap_large": "AP, large objects",
    "ar_1": "AR, 1 detection",
    "ar_10": "AR, 10 detections",
    "ar_max": "AR, all detections allowed",
    "ar_small": "AR, small objects",
    "ar_medium": "AR, medium objects",
    "ar_large": "AR, large objects",
}


def counts(evaluation: Evaluation) -> str:
    """Errors of the counts of all images, of slices and of classes, and the images that are furthest off."""
    said = evaluation.definitions
    header = ["", "images", "annotated", "predicted", "MAE", "MAPE %", "bias", "R2", "lower limit", "upper limit"]
    named = {"all images": evaluation.overall, **evaluation.slices, **evaluation.classes}
    parts = [
        heading("Counts at the threshold"),
        table(header, [[name, *_count_row(one.count)] for name, one in named.items()]),
        definitions(
            [
                ("MAE", said["count_mae"]),
                ("MAPE", f"{said['count_mape']} {_left_out(evaluation.overall.count)}"),
                ("Bias", said["count_bias"]),
                ("R2", said["count_r2"]),
                ("Lower and upper limit", said["count_agreement"]),
            ]
        ),
    ]
    worst = sorted((one for one in evaluation.images if one.error), key=lambda one: -abs(one.error))[:LARGEST_ERRORS]
    if worst:
        rows = [[one.path.name, f"{sum(one.true):,}", f"{sum(one.predicted):,}", f"{one.error:+,}"] for one in worst]
        parts += [
            heading("Images with the largest count errors"),
            table(["image", "annotated", "predicted", "error"], rows),
        ]
    return "\n".join(parts)


def _left_out(error: CountError) -> str:
    if not error.n_empty:
        return "All images have some."
    return f"{error.n_empty:,} of {error.n_images:,} images have none and are left out."


def _count_row(error: CountError) -> list[Cell | str]:
    interval = error.intervals.get
    return [
        *(f"{value:,}" for value in (error.n_images, error.true, error.predicted)),
        estimate(error.mae, interval("mae"), 2),
        estimate(error.mape, interval("mape"), 1, scale=100),
        estimate(error.bias, interval("bias"), 2, sign=True),
        estimate(error.r2, interval("r2")),
        estimate(error.agreement_low, interval("agreement_low"), 1, sign=True),
        estimate(error.agreement_high, interval("agreement_high"), 1, sign=True),
    ]


def mistakes(evaluation: Evaluation) -> str:
    """What went wrong how often."""
    said = evaluation.definitions
    header = ["", "events", "per 100 objects", "objects unpaired", "predictions unpaired", "effect on the count"]
    overall = evaluation.overall.mistakes
    rows: list[list[Cell | str]] = [[one.count.name, *_mistake_row(one)] for one in overall]
    effect = sum(one.count.effect for one in overall)
    parts = [
        heading("Every mistake by its name", said["mistakes"]),
        table(header, [*rows, ["all", "", "", *_unpaired(overall), f"{effect:+,}"]]),
        definitions((one.count.name.capitalize(), said[one.count.name]) for one in overall),
    ]
    some = {**evaluation.slices, **evaluation.classes}
    if some:
        rows = [
            [name, *(estimate(rate.per_100, rate.interval, 1) for rate in one.mistakes)] for name, one in some.items()
        ]
        parts += [
            heading("Mistakes per 100 annotated objects, by part"),
            table(["", *(one.count.name for one in overall)], rows),
        ]
    return "\n".join(parts)


def _mistake_row(one: MistakeRate) -> list[Cell | str]:
    found = one.count
    return [
        f"{found.events:,}",
        estimate(one.per_100, one.interval, 1),
        f"{found.truths:,}",
        f"{found.predictions:,}",
        f"{found.effect:+,}",
    ]


def _unpaired(rates: tuple[MistakeRate, ...]) -> list[str]:
    return [f"{sum(one.count.truths for one in rates):,}", f"{sum(one.count.predictions for one in rates):,}"]


def quality(evaluation: Evaluation) -> str:
    """TP, FP, FN and their ratios at each IoU."""
    said = evaluation.definitions
    header = ["IoU", "quality", "precision", "recall", "F1", "mean IoU of pairs", "TP", "FP", "FN"]
    rows: list[list[Cell | str]] = [
        [
            f"{one.counts.iou:.2f}",
            *_ratios(one),
            *(f"{value:,}" for value in (one.counts.tp, one.counts.fp, one.counts.fn)),
        ]
        for one in evaluation.overall.quality
    ]
    names = {"precision": "Precision", "recall": "Recall", "f1": "F1", "mean_matched_iou": "Mean IoU of pairs"}
    return "\n".join(
        [
            heading("Detection quality at the threshold", f"Quality: {said['quality']}"),
            table(header, rows),
            definitions((label, said[name]) for name, label in names.items()),
        ]
    )


def _ratios(one: QualityWithInterval) -> list[Cell]:
    names = ("quality", "precision", "recall", "f1", "mean_matched_iou")
    return [estimate(getattr(one.counts, name), one.intervals.get(name)) for name in names]


def average_precision(evaluation: Evaluation) -> str:
    """COCO's twelve numbers at its own limit and at the model's, and boundary AP."""
    said, limit = evaluation.definitions, f"{evaluation.max_detections:,}"
    aps = (evaluation.mask_ap_100, evaluation.box_ap_100, evaluation.mask_ap, evaluation.box_ap)
    header = ["", "masks, at most 100", "boxes, at most 100", f"masks, at most {limit}", f"boxes, at most {limit}"]
    parts = [
        heading(
            "COCO average precision and recall",
            f"The usual numbers look at the best 100 detections of a class and image; the two columns at the right at "
            f"{limit}. {said['mask_ap']} Boxes: the same by the overlap of boxes. AR: mean over classes and the same "
            f"IoUs of the part of the objects that was found. Small, medium and large are objects with an annotated "
            f"area under 32 x 32 pixels, up to 96 x 96, and over.",
        ),
        table(header, [[label, *(_ap_cell(ap, name) for ap in aps)] for name, label in _AP_NAMES.items()]),
        heading("Boundary AP", said["boundary_ap"]),
    ]
    outlines = evaluation.boundary_ap
    if outlines is not None:
        cells = [estimate(getattr(outlines, name), outlines.intervals.get(name)) for name in ("ap", "ap50", "ap75")]
        parts.append(table(["", "AP", "AP at IoU .50", "AP at IoU .75"], [["boundary", *cells]]))
    return "\n".join(parts)


def _ap_cell(ap: CocoAP, name: str) -> Cell:
    return estimate(getattr(ap, name), ap.intervals.get(name))


def parts(evaluation: Evaluation) -> str:
    """AP and quality of slices, classes and sizes."""
    found = []
    if evaluation.slices:
        found += [heading(f"By {evaluation.slice_by}", evaluation.definitions["slices"]), _slices(evaluation.slices)]
    if evaluation.classes:
        found += [heading("By class"), _slices(evaluation.classes)]
    if evaluation.sizes:
        rows = [
            [
                one.range.name,
                f"{one.n_objects:,}",
                estimate(one.mask_ap, one.mask_ap_interval),
                *_shown(one.quality),
            ]
            for one in evaluation.sizes
        ]
        header = ["area", "objects", "COCO mask AP", *_shown_names(evaluation.overall.quality)]
        found += [heading("By size", evaluation.definitions["sizes"]), table(header, rows)]
    return "\n".join(found)


def _slices(some: dict[str, SliceEvaluation]) -> str:
    rows = [
        [
            name,
            f"{one.n_images:,}",
            f"{one.n_objects:,}",
            estimate(one.mask_ap, one.mask_ap_interval),
            *_shown(one.quality),
        ]
        for name, one in some.items()
    ]
    any_quality = next(iter(some.values())).quality
    return table(["", "images", "objects", "COCO mask AP", *_shown_names(any_quality)], rows)


def _picked(qualities: tuple[QualityWithInterval, ...]) -> list[QualityWithInterval]:
    """At a few of the IoUs; all where it is others that were measured."""
    return [one for one in qualities if round(one.counts.iou, 4) in SHOWN_IOUS] or [*qualities]


def _shown_names(qualities: tuple[QualityWithInterval, ...]) -> list[str]:
    ious = [number(one.counts.iou, 2).lstrip("0") for one in _picked(qualities)]
    return [*(f"quality {iou}" for iou in ious), *(f"prec., recall {iou}" for iou in ious[:1])]


def _shown(qualities: tuple[QualityWithInterval, ...]) -> list[Cell | str]:
    picked = _picked(qualities)
    first = picked[0].counts
    return [
        *(estimate(one.counts.quality, one.interval) for one in picked),
        f"{number(first.precision)}, {number(first.recall)}",
    ]
