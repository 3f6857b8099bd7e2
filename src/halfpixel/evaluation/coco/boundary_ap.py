"""Average precision by the overlap of outlines, counted by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.bootstrap import Floats, Intervals, image_draws, named_intervals
from halfpixel.evaluation.coco.average_precision import coco_tables
from halfpixel.structures.instances import Instances

DILATION = 0.02


@dataclass(frozen=True)
class BoundaryAP:
    """Boundary AP, each number in 0..1, or None where there is no annotated object.

    Attributes:
        max_detections: how many objects of each class and image were scored, the best first.
        ap: mean over classes and the IoU thresholds .50, .55 ... .95.
        ap50: at IoU .50.
        ap75: at IoU .75.
        intervals: of the three numbers, by name, where they were asked for.
    """

    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    intervals: Intervals = field(default_factory=dict)

    @property
    def definition(self) -> str:
        """What the numbers mean, in a sentence or two."""
        return (
            f"Boundary AP (Cheng et al. 2021): as COCO mask AP, at most {self.max_detections:,} detections of each "
            f"class and image, but the IoU is the smaller one of the masks' and of the bands along their outlines, "
            f"{DILATION:.0%} of the image's diagonal wide. An object thinner than two bands is all band, and its "
            f"boundary IoU is its mask IoU."
        )


def boundary_ap(
    dataset: Dataset,
    predictions: Sequence[Instances],
    *,
    max_detections: int,
    resamples: int = 0,
    seed: int = 0,
) -> BoundaryAP:
    """Average precision of outlines (Cheng et al. 2021, arXiv:2103.16562).

    Slow where images are large: each object's band is found on a canvas of the image's size.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, with masks, not cut by any score threshold.
        max_detections: the limit for each class and image, at least 1.
        resamples: draws of the images for the intervals.
        seed: of the draws.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
        ArgumentError: predictions that do not fit the data set, masks missing, or a limit below 1.
    """
    if max_detections < 1:
        raise ArgumentError(f"max_detections must be at least 1, got {max_detections}")
    library = require_faster_coco_eval()
    n = len(dataset.samples)
    truth, results = coco_tables(dataset, paired(dataset, predictions), "mask")
    if not truth["annotations"]:
        return BoundaryAP(max_detections, None, None, None)
    if not results:  # the library cannot read an empty list
        return BoundaryAP(max_detections, 0.0, 0.0, 0.0)
    for annotation in truth["annotations"]:
        annotation["bbox"] = [0, 0, 0, 0]  # read, and not used
    annotated = library.COCO(truth)
    evaluation = library.COCOeval_faster(
        annotated,
        annotated.loadRes(results),
        "boundary",
        print_function=lambda *_: None,
        separate_eval=True,
        boundary_dilation_ratio=DILATION,
        boundary_cpu_count=1,
        rle_iou_max_workers=1,
    )
    evaluation.params.maxDets = [max_detections]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    # what it found in each image, class by class
    per_image = np.array(evaluation._evalImgs_cpp, dtype=object).reshape(-1, n)
    values = _numbers(evaluation, per_image, np.ones((1, n), dtype=np.int64))
    drawn = _numbers(evaluation, per_image, image_draws(n, seed=seed, resamples=resamples).astype(np.int64))
    return BoundaryAP(
        max_detections,
        **{name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()},
        intervals=named_intervals(drawn, seed=seed),
    )


def require_faster_coco_eval() -> Any:
    """The library.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module("faster_coco_eval")
    except ImportError as error:
        raise MissingDependencyError(
            "boundary AP needs faster-coco-eval, which is not installed: pip install 'halfpixel[boundary]'"
        ) from error


def _numbers(evaluation: Any, per_image: npt.NDArray[np.object_], weights: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Each number `[r]` when images count as often as `weights` `[r, n]` says."""
    n = per_image.shape[1]
    values = np.full((len(weights), 3), np.nan)
    for row, times in zip(values, weights, strict=True):
        evaluation._evalImgs_cpp = per_image[:, np.repeat(np.arange(n), times)].ravel().tolist()
        evaluation.accumulate()
        precision = np.asarray(evaluation.eval["precision"])[..., 0, 0]
        for k, chosen in enumerate((precision, precision[:1], precision[5:6])):
            if (chosen > -1).any():
                row[k] = chosen[chosen > -1].mean()
    return dict(zip(("ap", "ap50", "ap75"), values.T, strict=True))
