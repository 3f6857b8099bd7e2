"""What a first pass saved, and which annotated objects it lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.overlaps import areas_px, box_intersections
from halfpixel.structures.instances import Instances, PrefilterPass


@dataclass(frozen=True)
class Savings:
    """What first passes spared the network on some images.

    Attributes:
        n_images: all of them.
        n_everywhere: those on which the network looked everywhere, as too little would have been saved.
        area_px: of all images.
        looked_at_px: the pixels that the network looked at.
        seconds: what first pass and network took, where it did not look everywhere.
        seconds_saved: about what the network alone would have taken more on the same images, judged by area; negative
            when the first passes took longer than they saved. None where nothing was looked at: nothing to judge by.
    """

    n_images: int
    n_everywhere: int
    area_px: int
    looked_at_px: int
    seconds: float
    seconds_saved: float | None

    @classmethod
    def of(cls, sizes_hw: Sequence[Sequence[int]], passes: Sequence[PrefilterPass | None]) -> Savings:
        """Sum up several images.

        Args:
            sizes_hw: of the images, in pixels.
            passes: of each image, None where the network looked everywhere.
        """
        areas_px = [height * width for height, width in sizes_hw]
        some = [(area, one) for area, one in zip(areas_px, passes, strict=True) if one is not None]
        seconds = sum(one.seconds for _, one in some)
        # how long the network takes for a pixel is known only from images on which it looked at something
        judged = [(area, one.seconds + one.seconds_saved) for area, one in some if one.seconds_saved is not None]
        judged_px = sum(area for area, _ in judged)
        alone = sum(one for _, one in judged) / judged_px * sum(area for area, _ in some) if judged else None
        everywhere_px = sum(areas_px) - sum(area for area, _ in some)
        return cls(
            n_images=len(areas_px),
            n_everywhere=len(areas_px) - len(some),
            area_px=sum(areas_px),
            looked_at_px=everywhere_px + sum(one.area_px for _, one in some),
            seconds=seconds,
            seconds_saved=None if alone is None else alone - seconds,
        )


@dataclass(frozen=True)
class PrefilterEvaluation:
    """What a first pass saved, and what it lost.

    Attributes:
        savings: pixels and time.
        n_objects: annotated objects on all images.
        lost: those of them that lie, by the larger part of their masks (boxes, where they have none), where the network
            did not look.
    """

    savings: Savings
    n_objects: int
    lost: int


def lost_objects(truth: Instances, passed: PrefilterPass | None) -> npt.NDArray[np.bool_]:
    """`[n]` whether half of each object's mask or more lies outside of the regions that the network looked at.

    Args:
        truth: the annotated objects; those without masks are judged by their boxes.
        passed: where the network looked; None for everywhere.
    """
    if passed is None or not len(truth):
        return np.zeros(len(truth), dtype=bool)
    if truth.masks is None:
        regions = np.array(passed.regions_xyxy, dtype=np.float64).reshape(-1, 4)
        inside_px = box_intersections(truth.boxes_xyxy.double().numpy(), regions).sum(1)
        return np.asarray(2 * inside_px <= areas_px(truth, "box"))
    seen = np.zeros(truth.size_hw, dtype=bool)
    for x0, y0, x1, y1 in passed.regions_xyxy:
        seen[y0:y1, x0:x1] = True
    found = []
    for crop, (x, y) in truth.masks.placed():
        inside = crop.numpy() & seen[y : y + crop.shape[0], x : x + crop.shape[1]]
        found.append(2 * int(inside.sum()) <= int(crop.sum()))
    return np.array(found, dtype=bool)


def evaluate_prefilter(dataset: Dataset, predictions: Sequence[Instances]) -> PrefilterEvaluation | None:
    """What a first pass saved and lost; None where there was none, or nowhere did it spare the network anything.

    Args:
        dataset: the annotations; ignored regions are no objects.
        predictions: one per sample, in the order of `dataset.samples`, as the predictor gave them: files do not say
            where it looked.

    Raises:
        ArgumentError: predictions that do not fit the data set.
    """
    found = paired(dataset, predictions)
    passes = [one.prefilter for one in found]
    if not any(passes):
        return None
    lost = [lost_objects(one.objects, passed) for one, passed in zip(dataset.samples, passes, strict=True)]
    return PrefilterEvaluation(
        savings=Savings.of([one.size_hw for one in found], passes),
        n_objects=sum(len(one) for one in lost),
        lost=sum(int(one.sum()) for one in lost),
    )
