"""What the verbs for annotated images share: opening a data set, and predictions of a model or a file for all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from halfpixel.cli.console import NAMED_AT_MOST, Walk, describe, name_some, open_model, plural, warn
from halfpixel.errors import AnnotationError
from halfpixel.jobs.result_kinds import output_names
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.data.formats.format_names import Format
    from halfpixel.engine.predictor import Predictor
    from halfpixel.structures.instances import Instances

FILE_THRESHOLD, FILE_LIMIT = 0.5, 1000
"""For predictions from a file, which no model gives defaults."""

SAME_IMAGES = 0.05
"""Where a smaller part of the objects is paired with an annotated one, file names may agree but images do not."""


def open_dataset(data: Path, images: Path | None, format: Format | None = None, quiet: bool = False) -> Dataset:
    """Read annotated images of any known format, and unless `quiet` pass on what was wrong with them.

    Raises:
        AnnotationError: there is no such file, it cannot be used, it is unclear which format it has, it has no images,
            or none of its images is there.
    """
    from halfpixel.data.formats.detect import read_dataset

    if images is not None and not images.is_dir():
        raise AnnotationError(f"--images {images}: there is no such folder")
    dataset = read_dataset(data, images, format)
    issues = () if quiet else dataset.warnings
    for issue in issues[:NAMED_AT_MOST]:
        warn(str(issue))
    if len(issues) > NAMED_AT_MOST:
        warn(f"{dataset.path}: {plural(len(issues) - NAMED_AT_MOST, 'more issue')} of this data set")
    if not dataset.samples:
        raise AnnotationError(f"{dataset.path}: there are no images in this data set")
    if not any(sample.path.is_file() for sample in dataset.samples):
        first = dataset.samples[0].path
        raise AnnotationError(f"{dataset.path}: none of its images is there, e.g. {first}; say where with --images")
    return dataset


def predict_dataset(
    walk: Walk, predictor: Predictor, dataset: Dataset, threshold: float, limit: int
) -> tuple[Dataset, list[Instances]]:
    """The images that could be used, and all their objects from AP's low scores up; the walk reports the others.

    The walk warns of the detection limit only where it was reached above `threshold`, the one that counts are made at.
    """
    from halfpixel.evaluation.evaluation import AP_SCORE

    lowest = min(AP_SCORE, threshold)
    waiting: dict[Path, list[int]] = {}
    for k, sample in enumerate(dataset.samples):
        waiting.setdefault(sample.path, []).append(k)
    samples, predictions = [], []
    paths = [sample.path for sample in dataset.samples]
    for picture, objects in walk.predict(predictor, paths, lowest, limit, counted_from=threshold):
        path = picture.path
        sample = dataset.samples[waiting[path].pop(0)]
        if sample.size_hw != objects.size_hw:
            (height, width), (true_height, true_width) = sample.size_hw, objects.size_hw
            walk.fail(path, f"{path}: {true_width} x {true_height} pixels, but annotated as {width} x {height}")
            continue
        samples.append(sample)
        predictions.append(objects.without_probabilities())
    return replace(dataset, samples=tuple(samples)), predictions


def lowest_score(found: Iterable[Instances]) -> float:
    """Of the objects of all images; 0 when there are none."""
    return min((float(objects.scores.min()) for objects in found if len(objects)), default=0.0)


def read_predictions(path: Path, dataset: Dataset) -> list[Instances]:
    """Predictions from a COCO file, one per sample, with a warning where average precision will not do them justice.

    Raises:
        AnnotationError: see `halfpixel.data.formats.coco_results.read_coco_results`.
    """
    from halfpixel.data.formats.coco_results import read_coco_results
    from halfpixel.evaluation.evaluation import AP_SCORE

    found = read_coco_results(path, dataset)
    lowest = lowest_score(found)
    if lowest > 2 * AP_SCORE:
        warn(f"{path}: no object scores under {lowest:.2g}; average precision, which wants all, is too low")
    return found


class Found(NamedTuple):
    """Predictions for a data set."""

    whose: str
    dataset: Dataset
    """The images that could be used."""
    objects: list[Instances]
    """Of each image, from a low score up."""
    limit: int
    """At most this many an image."""

    @property
    def lowest_score(self) -> float:
        """Of all objects; 0 when there are none."""
        return lowest_score(self.objects)


def open_predictions(
    walk: Walk, dataset: Dataset, predictions: Path | None, model: str | None, threshold: float, limit: int | None
) -> Found:
    """Predictions from a file or, with no file, from a model, which runs once."""
    if predictions is not None:
        from halfpixel.data.formats.coco_results import read_coco_results

        found = read_coco_results(predictions, dataset)
        limit = FILE_LIMIT if limit is None else limit
        return Found(str(predictions), dataset, [one[:limit] for one in found], limit)
    name = model or DEFAULT_MODEL
    predictor = open_model(name)
    check_classes(dataset, predictor.class_names, f"the model {name}")
    limit = predictor.info.detection_limit if limit is None else limit
    dataset, found = predict_dataset(walk, predictor, dataset, threshold, limit)
    return Found(describe(name), dataset, found, limit)


def write_predictions(out: Path, dataset: Dataset, found: list[Instances]) -> None:
    """Write `instances.json` with the data set's own numbers of images and, where names agree, of classes."""
    from halfpixel.outputs.coco import write_coco

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


def check_classes(dataset: Dataset, class_names: tuple[str, ...], whose: str) -> None:
    """Refuse a data set that has no class in common with a model or with other data.

    Raises:
        AnnotationError: names both.
    """
    if not set(dataset.class_names) & set(class_names):
        raise AnnotationError(
            f"{dataset.path}: its classes ({name_some(dataset.class_names)}) have none in common with {whose} "
            f"({name_some(class_names)})"
        )
