"""The tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halfpixel.evaluation.coco.average_precision import CocoAP
from halfpixel.evaluation.counts.count_errors import CountError
from halfpixel.evaluation.detection.overlaps import Kind
from halfpixel.evaluation.evaluation import Evaluation, SliceEvaluation
from halfpixel.evaluation.slices import DetectionEstimate, ErrorTypeRate
from halfpixel.report.rendering import Cell, Table, estimate, number

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


def tables(evaluation: Evaluation) -> dict[str, Table]:
    """All of them, by their names in the template; what there is nothing of has no rows."""
    return {
        "counts": _counts(evaluation),
        "largest_errors": _largest_errors(evaluation),
        "error_types": _error_types(evaluation.overall.error_types),
        "error_types_by_part": _error_types_by_part(evaluation),
        "accuracy": _accuracy(evaluation),
        "average_precision": _average_precision(evaluation),
        "boundary": _boundary(evaluation),
        "slices": _slices(evaluation.slices, evaluation.compared_by),
        "classes": _slices(evaluation.classes, evaluation.compared_by),
        "sizes": _sizes(evaluation),
    }


def _counts(evaluation: Evaluation) -> Table:
    """Errors of the counts of all images, of slices and of classes."""
    header = ["", "images", "annotated", "predicted", "MAE", "MAPE %", "bias", "R2", "lower limit", "upper limit"]
    named = {"all images": evaluation.overall, **evaluation.slices, **evaluation.classes}
    return Table.of(header, ([name, *_count_row(one.count)] for name, one in named.items()))


def _largest_errors(evaluation: Evaluation) -> Table:
    """The images whose counts are furthest off."""
    worst = sorted((one for one in evaluation.images if one.error), key=lambda one: -abs(one.error))[:LARGEST_ERRORS]
    rows: list[list[Cell | str]] = [
        [one.path.name, f"{sum(one.true):,}", f"{sum(one.predicted):,}", f"{one.error:+,}"] for one in worst
    ]
    return Table.of(["image", "annotated", "predicted", "error"], rows)


def images_left_out(error: CountError) -> str:
    """What MAPE cannot be taken of, as a sentence."""
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


def _error_types(overall: Sequence[ErrorTypeRate]) -> Table:
    """What went wrong how often."""
    header = ["", "events", "per 100 objects", "objects unpaired", "predictions unpaired", "effect on the count"]
    rows: list[list[Cell | str]] = [[one.count.label, *_error_type_row(one)] for one in overall]
    effect = sum(one.count.effect for one in overall)
    rows.append(["all", "", "", *_unpaired(overall), f"{effect:+,}"])
    return Table.of(header, rows)


def _error_types_by_part(evaluation: Evaluation) -> Table:
    rows: list[list[Cell | str]] = [
        [name, *(estimate(rate.per_100, rate.interval, 1) for rate in one.error_types)]
        for name, one in {**evaluation.slices, **evaluation.classes}.items()
    ]
    return Table.of(["", *(one.count.label for one in evaluation.overall.error_types)], rows)


def _error_type_row(one: ErrorTypeRate) -> list[Cell | str]:
    found = one.count
    return [
        f"{found.events:,}",
        estimate(one.per_100, one.interval, 1),
        f"{found.truths:,}",
        f"{found.predictions:,}",
        f"{found.effect:+,}",
    ]


def _unpaired(rates: Sequence[ErrorTypeRate]) -> list[str]:
    return [f"{sum(one.count.truths for one in rates):,}", f"{sum(one.count.predictions for one in rates):,}"]


def _accuracy(evaluation: Evaluation) -> Table:
    """TP, FP, FN and their ratios at each IoU."""
    header = ["IoU", "accuracy", "precision", "recall", "F1", "mean IoU of pairs", "TP", "FP", "FN"]
    rows: list[list[Cell | str]] = [
        [
            f"{one.counts.iou:.2f}",
            *_ratios(one),
            *(f"{value:,}" for value in (one.counts.tp, one.counts.fp, one.counts.fn)),
        ]
        for one in evaluation.overall.detection
    ]
    return Table.of(header, rows)


def _ratios(one: DetectionEstimate) -> list[Cell]:
    names = ("accuracy", "precision", "recall", "f1", "mean_matched_iou")
    return [estimate(getattr(one.counts, name), one.intervals.get(name)) for name in names]


def _average_precision(evaluation: Evaluation) -> Table:
    """COCO's twelve numbers at its own limit and at the model's."""
    limit = f"{evaluation.max_detections:,}"
    aps = {
        "masks, at most 100": evaluation.mask_ap_100,
        "boxes, at most 100": evaluation.box_ap_100,
        f"masks, at most {limit}": evaluation.mask_ap,
        f"boxes, at most {limit}": evaluation.box_ap,
    }
    known = {name: ap for name, ap in aps.items() if ap is not None}
    rows: list[list[Cell | str]] = [
        [label, *(_ap_cell(ap, name) for ap in known.values())] for name, label in _AP_NAMES.items()
    ]
    return Table.of(["", *known], rows)


def _boundary(evaluation: Evaluation) -> Table:
    outlines, header = evaluation.boundary_ap, ["", "AP", "AP at IoU .50", "AP at IoU .75"]
    if outlines is None:
        return Table(header, ())
    cells = (estimate(getattr(outlines, name), outlines.intervals.get(name)) for name in ("ap", "ap50", "ap75"))
    return Table.of(header, [["boundary", *cells]])


def _ap_cell(ap: CocoAP, name: str) -> Cell:
    return estimate(getattr(ap, name), ap.intervals.get(name))


def _sizes(evaluation: Evaluation) -> Table:
    """AP and accuracy of objects of some sizes."""
    rows = [
        [one.range.name, f"{one.n_objects:,}", estimate(*one.ap), *_shown(one.detection)] for one in evaluation.sizes
    ]
    names = _shown_names(evaluation.overall.detection)
    return Table.of(["area", "objects", f"COCO {evaluation.compared_by} AP", *names], rows)


def _slices(some: Mapping[str, SliceEvaluation], kind: Kind) -> Table:
    """AP and accuracy of slices or classes."""
    rows = [
        [
            name,
            f"{one.n_images:,}",
            f"{one.n_objects:,}",
            estimate(*one.ap),
            *_shown(one.detection),
        ]
        for name, one in some.items()
    ]
    names = _shown_names(next(iter(some.values())).detection) if some else []
    return Table.of(["", "images", "objects", f"COCO {kind} AP", *names], rows)


def _picked(estimates: tuple[DetectionEstimate, ...]) -> list[DetectionEstimate]:
    """At a few of the IoUs; all where it is others that were measured."""
    return [one for one in estimates if round(one.counts.iou, 4) in SHOWN_IOUS] or [*estimates]


def _shown_names(estimates: tuple[DetectionEstimate, ...]) -> list[str]:
    ious = [number(one.counts.iou, 2).lstrip("0") for one in _picked(estimates)]
    return [*(f"accuracy {iou}" for iou in ious), *(f"prec., recall {iou}" for iou in ious[:1])]


def _shown(estimates: tuple[DetectionEstimate, ...]) -> list[Cell | str]:
    picked = _picked(estimates)
    first = picked[0].counts
    return [
        *(estimate(one.counts.accuracy, one.interval) for one in picked),
        f"{number(first.precision)}, {number(first.recall)}",
    ]
