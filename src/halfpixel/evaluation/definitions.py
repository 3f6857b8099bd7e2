"""What each number of an evaluation means, in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping

from halfpixel.evaluation.detection.overlaps import Kind

ERROR_TYPES = {
    "miss": "An annotated object that nothing was found of (a false negative): no unpaired prediction of its class "
    "overlaps it from an IoU of .1 upwards, and none of the other types fits.",
    "false positive": "A prediction on nothing: it overlaps no unpaired object from an IoU of .1 upwards, and none of "
    "the other types fits.",
    "merge": "One prediction covers more than half of each of several annotated objects that no other prediction is "
    "paired with. It may be paired with one of them; the others are lost.",
    "split": "Several predictions lie more than half inside one annotated object. One of them may be paired with it; "
    "the others are too many.",
    "duplicate": "A prediction that fits (IoU .5 or more) an annotated object which another prediction is paired with.",
    "localisation": "An unpaired prediction and an unpaired object of one class overlap with an IoU from .1 to .5: "
    "found, but badly outlined.",
    "class confusion": "An unpaired prediction and an unpaired object of different classes fit (IoU .5 or more).",
}
"""Each type of error, see `error_types.classify_errors`."""

NO_MASKS = "objects are compared by their boxes, as some have no masks"
NOT_COMPUTED = f"Not computed: {NO_MASKS}."

COMPARED_BY: Mapping[Kind, str] = {
    "mask": "Objects are compared by their masks: every overlap, IoU and area is that of masks, unless it says boxes.",
    "box": f"Here {NO_MASKS}: every overlap, IoU and area of predictions is that of boxes. Objects that touch each "
    "other overlap more by their boxes than by their masks.",
}
"""What a comparison goes by."""

PREFILTER = (
    "What a first pass saved and lost. looked_at_px: pixels that the network looked at. seconds: what both took on the "
    "images where it did not look everywhere; seconds_saved: about how many more the network alone would have taken on "
    "them, judged by area. lost: annotated objects of whose masks half or more lies where it did not look (of boxes, "
    "for objects without masks); ignored regions are no objects."
)
"""Of `prefilter_savings.PrefilterEvaluation`."""


def define(threshold: str, seed: int, ap_resamples: int, slice_by: str | None, kind: Kind = "mask") -> dict[str, str]:
    """The definition of each number that depends on nothing else, by its name in the report."""
    at_threshold = f"the objects that score at least {threshold}"
    ap = f"{ap_resamples:,} draws for average precision" if ap_resamples else "none for average precision"
    own = "their own" if kind == "mask" else "that of their boxes"
    definitions = {
        "intervals": (
            f"95% percentile bootstrap: whole images are drawn with replacement and every number is computed anew, "
            f"2,000 draws ({ap}), seed {seed}. They say how much the numbers depend on which images were chosen, and "
            f"not on which training run this was. None for one image, and too narrow for fewer than about ten."
        ),
        "accuracy": (
            f"TP / (TP + FP + FN), summed over images before dividing, of {at_threshold}. Predicted and annotated "
            f"objects of the same class are paired one to one, as many as possible, from the given {kind} IoU upwards: "
            f"TP are pairs, FP predictions and FN annotated objects left over. The StarDist paper (Schmidt et al. "
            f"2018, Table 1) calls this average precision, its code accuracy; it is not COCO AP."
        ),
        "precision": "TP / (TP + FP): the part of the predictions that is right.",
        "recall": "TP / (TP + FN): the part of the annotated objects that was found.",
        "f1": "2 TP / (2 TP + FP + FN): the harmonic mean of precision and recall.",
        "mean_matched_iou": f"Mean {kind} IoU of the pairs.",
        "count_mae": (
            f"Mean over images of |predicted - true| number of objects, {at_threshold}. Objects mostly inside an "
            f"ignored region are not counted."
        ),
        "count_mape": "Mean of |predicted - true| / true, over images with at least one annotated object.",
        "count_bias": "Mean over images of predicted - true: above 0 is too many.",
        "count_r2": (
            "1 - sum of (predicted - true)^2 / sum of (true - mean true)^2 over images: the part of the counts' "
            "variance that is explained. 1 is perfect; below 0, the mean count would have been a better guess."
        ),
        "count_agreement": (
            "Limits of agreement (Bland and Altman 1986): bias - and + 1.96 standard deviations of predicted - true. "
            "About 95% of images differ by no more than this if the differences are roughly normal."
        ),
        "error_types": (
            f"Of {at_threshold}: every annotated and predicted object left over after the pairing at IoU .5 has "
            f"exactly one type, the first that fits of class confusion, duplicate, merge, split, localisation, and "
            f"miss or false positive. Events: merging predictions, split or missed objects, else predictions of that "
            f"type. Effect: predictions - objects of that type; all of them together are the error of the total count."
        ),
        "sizes": (
            "By area in pixels: annotated objects (pairs and misses) by their annotated area, predictions left over by "
            f"{own}. COCO's ranges are cut at 32 x 32 and 96 x 96 pixels; quarters hold as many annotated objects "
            "each. AP of a size range leaves out unpaired predictions of another size, as COCO does."
        ),
    }
    if slice_by is not None:
        definitions["slices"] = f"Every number over the images of one value of their attribute {slice_by!r}."
    return definitions
