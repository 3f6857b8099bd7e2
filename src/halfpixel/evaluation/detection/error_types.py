"""Every wrong object and the type of its error: what went wrong where a count is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from halfpixel.evaluation.detection.object_matching import ImageOverlaps, match_overlaps
from halfpixel.evaluation.detection.overlaps import Indices, Kind
from halfpixel.structures.instances import Instances

ErrorType = Literal["miss", "false positive", "merge", "split", "duplicate", "localisation", "class confusion"]
ERROR_TYPES: tuple[ErrorType, ...] = get_args(ErrorType)
LABELS: Mapping[str, str] = {name: name for name in ERROR_TYPES} | {"miss": "miss (false negative)"}
"""For people, by the type."""
IOU, LOCALISED_FROM = 0.5, 0.1

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ImageErrors:
    """What went wrong in one image: every annotated and predicted object without a partner has exactly one type.

    Predicted objects in ignored regions are neither right nor wrong, and have none.

    Attributes:
        truths: for each type the indices of annotated objects.
        predictions: for each type the indices of predicted objects.
        merges: each predicted object that swallowed several annotated ones (it may have one of them as its partner),
            and which those are.
        splits: each annotated object that was cut into several predicted ones (one may be its partner), and those.
    """

    truths: Mapping[ErrorType, Indices]
    predictions: Mapping[ErrorType, Indices]
    merges: tuple[tuple[int, Indices], ...]
    splits: tuple[tuple[int, Indices], ...]

    def __len__(self) -> int:
        """How many objects have a type."""
        return sum(len(one) for part in (self.truths, self.predictions) for one in part.values())


@dataclass(frozen=True)
class ErrorTypeCount:
    """How often one thing went wrong.

    Attributes:
        name: what.
        events: merging predicted objects, split or missed annotated ones; else as `predictions`.
        truths: annotated objects without a partner that are of this type.
        predictions: predicted objects without a partner that are of this type.
    """

    name: ErrorType
    events: int
    truths: int
    predictions: int

    @property
    def label(self) -> str:
        """For people."""
        return LABELS[self.name]

    @property
    def effect(self) -> int:
        """What it adds to the count: `predictions - truths`, below 0 for objects lost."""
        return self.predictions - self.truths


def classify_errors(
    truth: Instances,
    predicted: Instances,
    ignored: Instances | None = None,
    *,
    iou: float = IOU,
    localised_from: float = LOCALISED_FROM,
    kind: Kind = "mask",
) -> ImageErrors:
    """Find the type of error of every object that was left without a partner.

    Objects are first paired one to one (see `object_matching.match_image`). The others are of the first type that
    holds, which does not depend on the order of the objects:

    - class confusion: an annotated and a predicted object of different classes, both unpaired, of IoU `iou` or more.
    - duplicate: a predicted object of IoU `iou` or more with an annotated one that has its partner already.
    - merge: a predicted object covers more than half of each of several annotated ones of its class, not counting
      those that another predicted object is the partner of; the ones that are left unpaired, and it, if it is.
    - split: several predicted objects lie more than half inside an annotated one of their class, not counting
      duplicates, confused ones, and partners of other objects; the same.
    - localisation: an annotated and a predicted object of one class, both of no other type, of IoU `localised_from` on.
    - miss, false positive: the rest.

    Args:
        truth: the annotated objects.
        predicted: the predicted objects, already cut at a score threshold.
        ignored: crowd regions.
        iou: of pairs, as for `match_image`.
        localised_from: from here to `iou` an object was found, but badly outlined.
        kind: compare masks or boxes.

    Raises:
        ArgumentError: objects without masks where masks are compared, or of images of different sizes.
    """
    return classify_overlaps(ImageOverlaps.of(truth, predicted, ignored, kind), iou=iou, localised_from=localised_from)


def classify_overlaps(image: ImageOverlaps, *, iou: float = IOU, localised_from: float = LOCALISED_FROM) -> ImageErrors:
    """`classify_errors` of what was compared already."""
    (match,) = match_overlaps(image, [iou])
    overlaps, same, common_px = image.ious, image.same_class, image.common_px
    partner = _marked(same.shape, (match.pairs[:, 0], match.pairs[:, 1]))
    lost, extra = _marked(len(image.truth), match.false_negatives), _marked(len(image.predicted), match.false_positives)
    fitting: Bools = np.greater_equal(overlaps, iou)
    confused = _both(lost, extra) & fitting & ~same
    duplicate = extra & (fitting & partner.any(1, keepdims=True)).any(0)
    covered = same & (2 * common_px > image.truth_px[:, None]) & (partner | _both(lost, extra | partner.any(0)))
    covered &= covered.sum(0) > 1
    pieces = same & (2 * common_px > image.predicted_px) & (partner | (extra & ~duplicate & ~confused.any(0)))
    pieces &= pieces.sum(1, keepdims=True) > 1

    confusion, merge, split = (_either(one) for one in (confused, covered, pieces))
    lost_as: dict[ErrorType, Bools] = {"class confusion": confusion[0], "merge": merge[0], "split": split[0]}
    extra_as: dict[ErrorType, Bools] = {"class confusion": confusion[1], "duplicate": duplicate, "merge": merge[1]}
    extra_as["split"] = split[1]
    near = same & np.greater_equal(overlaps, localised_from)
    near &= _both(_unnamed(lost, lost_as), _unnamed(extra, extra_as))
    return ImageErrors(
        truths=_named(lost, {**lost_as, "localisation": _either(near)[0], "miss": lost}),
        predictions=_named(extra, {**extra_as, "localisation": _either(near)[1], "false positive": extra}),
        merges=_gathered(covered.T),
        splits=_gathered(pieces),
    )


def _gathered(together: Bools) -> tuple[tuple[int, npt.NDArray[np.int64]], ...]:
    """The rows that have something, and what they have."""
    return tuple((k, np.flatnonzero(together[k])) for k in np.flatnonzero(together.any(1)).tolist())


def tally_error_types(errors: ImageErrors, truth: Instances, predicted: Instances) -> npt.NDArray[np.int64]:
    """`[class, type, 3]` the events, annotated and predicted objects of an image, in the order of `ERROR_TYPES`."""
    n_classes = len(truth.class_names)
    true_labels, found_labels = truth.labels.numpy(), predicted.labels.numpy()
    merging = found_labels[[k for k, _ in errors.merges]]
    cut = true_labels[[k for k, _ in errors.splits]]
    rows = []
    for name in ERROR_TYPES:
        lost, extra = true_labels[errors.truths[name]], found_labels[errors.predictions[name]]
        events = {"merge": merging, "split": cut, "miss": lost}.get(name, extra)
        rows.append([np.bincount(labels, minlength=n_classes) for labels in (events, lost, extra)])
    return np.array(rows, dtype=np.int64).transpose(2, 0, 1)


def count_error_types(tallies: npt.NDArray[np.int64]) -> tuple[ErrorTypeCount, ...]:
    """What `tally_error_types` gave for any number of images and classes `[..., type, 3]`, added up."""
    sums: Sequence[Sequence[int]] = tallies.reshape(-1, len(ERROR_TYPES), 3).sum(0).tolist()
    return tuple(ErrorTypeCount(name, *row) for name, row in zip(ERROR_TYPES, sums, strict=True))


def _marked(shape: int | tuple[int, ...], indices: Indices | tuple[Indices, Indices]) -> Bools:
    marks = np.zeros(shape, dtype=bool)
    marks[indices] = True
    return marks


def _both(rows: Bools, columns: Bools) -> Bools:
    return rows[:, None] & columns


def _either(pairs: Bools) -> tuple[Bools, Bools]:
    """The rows, and the columns, that have something."""
    return np.any(pairs, axis=1), np.any(pairs, axis=0)


def _unnamed(objects: Bools, held: Mapping[ErrorType, Bools]) -> Bools:
    for holds in held.values():
        objects = objects & ~holds
    return objects


def _named(objects: Bools, held: Mapping[ErrorType, Bools]) -> dict[ErrorType, Indices]:
    """The objects of each type, where the first that holds is given."""
    named: dict[ErrorType, Indices] = dict.fromkeys(ERROR_TYPES, np.zeros(0, dtype=np.int64))
    for name, holds in held.items():
        named[name] = np.flatnonzero(objects & holds)
        objects = objects & ~holds
    return named
