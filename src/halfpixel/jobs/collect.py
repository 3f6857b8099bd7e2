"""Predictions of a model, or from a file, for all images of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.detection.overlaps import Kind, boxes_only, found_boxes_only
from halfpixel.evaluation.evaluation import AP_SCORE
from halfpixel.jobs.annotated import matched_names
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.image_names import output_names
from halfpixel.jobs.runner import Runner
from halfpixel.outputs.coco import write_coco
from halfpixel.structures.instances import Instances

SAME_IMAGES = 0.05
"""Where a smaller part of the objects is paired with an annotated one, file names may agree but images do not."""


def predict_dataset(
    runner: Runner, predictor: Predictor, dataset: Dataset, limits: DetectionLimits, whose: str = "the model"
) -> tuple[Dataset, list[Instances]]:
    """The images that could be used, and all their objects from AP's low scores up; the runner keeps the others.

    The objects' classes are called as the data set calls them, see `matched_names`. An image counts as saturated only
    where the limit was reached above the threshold, the one that counts are made at.

    Raises:
        AnnotationError: the model has no class in common with the data set.
    """
    names = matched_names(dataset, predictor.class_names, whose, runner.warn)
    waiting: dict[Path, list[int]] = {}
    for k, sample in enumerate(dataset.samples):
        waiting.setdefault(sample.path, []).append(k)
    samples, predictions = [], []
    paths = [sample.path for sample in dataset.samples]
    for picture, objects in runner.predict(predictor, paths, limits, lowest=min(AP_SCORE, limits.threshold)):
        path = picture.path
        sample = dataset.samples[waiting[path].pop(0)]
        if sample.size_hw != objects.size_hw:
            (height, width), (true_height, true_width) = sample.size_hw, objects.size_hw
            runner.fail(path, f"{path}: {true_width} x {true_height} pixels, but annotated as {width} x {height}")
            continue
        samples.append(sample)
        predictions.append(replace(objects.without_probabilities(), class_names=names))
    return replace(dataset, samples=tuple(samples)), predictions


def lowest_score(found: Iterable[Instances]) -> float:
    """Of the objects of all images; 0 when there are none."""
    return min((float(objects.scores.min()) for objects in found if len(objects)), default=0.0)


def read_predictions(runner: Runner, path: Path, dataset: Dataset) -> list[Instances]:
    """Predictions from a COCO file, one per sample, with a warning where average precision will not do them justice.

    Raises:
        AnnotationError: see `halfpixel.data.formats.coco_results.read_coco_results`.
    """
    found = read_coco_results(path, dataset, runner.warn)
    lowest = lowest_score(found)
    if lowest > 2 * AP_SCORE:
        runner.warn(f"{path}: no object scores under {lowest:.2g}; average precision, which wants all, is too low")
    return found


def warn_of_boxes(runner: Runner, dataset: Dataset, kind: Kind, *predictions: Sequence[Instances]) -> None:
    """Say so where objects that have masks are compared by their boxes, as others have none."""
    if kind == "mask" or all(map(found_boxes_only, predictions)):
        return
    if boxes_only(objects for sample in dataset.samples for objects in (sample.objects, sample.ignored)):
        runner.warn(f"{dataset.path}: annotated objects have boxes only, so everything is compared by boxes")
    else:
        runner.warn("one of the two finds boxes only, so both are compared by boxes")


def write_predictions(out: Path, dataset: Dataset, found: Sequence[Instances]) -> None:
    """Write `instances.json` with the data set's own numbers of images and, where names agree, of classes."""
    names = output_names([sample.path for sample in dataset.samples])
    class_names = found[0].class_names
    known = dict(zip(dataset.class_names, dataset.category_ids, strict=True))
    free = max(known.values(), default=0) + 1
    numbers = [known.get(name, free + k) for k, name in enumerate(class_names)]
    images = [
        (sample.image_id, name, objects) for sample, name, objects in zip(dataset.samples, names, found, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_coco(out / "instances.json", images, class_names, numbers)


def few_overlap(n_paired: int, n_found: int, n_true: int) -> str | None:
    """What to say of predictions that look as if they were of other images, None of all others."""
    if not n_true or n_paired >= SAME_IMAGES * n_found:
        return None
    found, overlap = ("found object", "overlaps") if n_found == 1 else ("found objects", "overlap")
    return f"only {n_paired:,} of {n_found:,} {found} {overlap} an annotated one: are these the same images?"
