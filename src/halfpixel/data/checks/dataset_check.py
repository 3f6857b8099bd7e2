"""The doctor: what is wrong, or probably wrong, with a data set, found before a model is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from halfpixel.data.checks.fingerprint import Fingerprint, find_repeats, fingerprint
from halfpixel.data.checks.issue_kinds import FEW_OBJECTS, KINDS, LOOK_AT_IT, Kind, Severity
from halfpixel.data.checks.object_checks import Place, check_outlines, check_sample
from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import AnnotationError, ImageError

LARGEST_IMBALANCE = 100
"""Objects of the most frequent class for each one of the rarest."""
FAR_FROM_ANCHORS = 2.0
"""An object this many times smaller than the smallest anchor, or larger than the largest, is far from them."""
LARGEST_SHARE = 0.05
"""More of the objects far from the anchors than this is a warning."""
Sides = npt.NDArray[np.float64]
"""Square roots of the areas of an image's masks."""

BACKGROUND_NAMES = {"background", "bg", "__background__", "_background_"}
EXAMPLES = 5
"""Of each finding, this many places are written to JSON."""


@dataclass(frozen=True)
class Finding:
    """One sort of issue and all places where it is.

    Attributes:
        kind: what sort, in `snake_case`; one of `KINDS`, or a reader's own.
        severity: how bad it is.
        what: what was found, for people; with the number of places before it, it reads as a phrase.
        advice: what to do about it.
        places: where, each at least a file and a cause.
    """

    kind: str
    severity: Severity
    what: str
    advice: str
    places: tuple[Place, ...]

    @property
    def n(self) -> int:
        """How many."""
        return len(self.places)

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the first few places."""
        examples = [{"path": str(one.path), "where": one.where, "what": one.what} for one in self.places[:EXAMPLES]]
        facts = {"kind": self.kind, "severity": self.severity, "n": self.n, "what": self.what, "advice": self.advice}
        return facts | {"examples": examples}


@dataclass(frozen=True)
class Summary:
    """A data set in numbers.

    Attributes:
        n_images: images.
        n_objects: objects, crowd regions left out.
        class_counts: objects of each class.
        objects_per_image: least, median and most; None without images.
        side_px: 5, 50 and 95% quantiles of the square root of the masks' areas; None without objects.
        side_at_input_px: the same as the network sees them; None where no input scale was given.
        image_sizes_hw: the smallest and the largest image by area, as annotated; None without images.
    """

    n_images: int
    n_objects: int
    class_counts: Mapping[str, int]
    objects_per_image: tuple[float, float, float] | None
    side_px: tuple[float, float, float] | None
    side_at_input_px: tuple[float, float, float] | None
    image_sizes_hw: tuple[tuple[int, int], tuple[int, int]] | None


@dataclass(frozen=True)
class Check:
    """What the doctor found, the worst first.

    Attributes:
        data: the file or folder.
        summary: the data set in numbers.
        findings: what is wrong or worth knowing; empty when there is nothing to say.
    """

    data: Path
    summary: Summary
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(one.severity == severity for one in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing above a note."""
        return all(one.severity == "note" for one in self.findings)

    def worst_images(self) -> list[tuple[Path, list[tuple[Finding, list[Place]]]]]:
        """The images with errors and warnings, those with most places first, each with its findings and places."""
        by_image: dict[Path, dict[int, list[Place]]] = {}
        for k, finding in enumerate(self.findings):
            for place in finding.places if finding.severity != "note" else ():
                if place.image is not None:
                    by_image.setdefault(place.image, {}).setdefault(k, []).append(place)
        grouped = [
            (image, [(self.findings[k], some) for k, some in found.items()]) for image, found in by_image.items()
        ]
        return sorted(grouped, key=lambda one: -sum(len(some) for _, some in one[1]))

    def to_json(self) -> dict[str, Any]:
        """As plain values, for machines."""
        severities: tuple[Severity, ...] = ("error", "warning", "note")
        return {
            "data": str(self.data),
            "healthy": self.healthy,
            "n_findings": {severity: self.count(severity) for severity in severities},
            "summary": {key: _plain(value) for key, value in vars(self.summary).items()},
            "findings": [one.to_json() for one in self.findings],
        }


def check_dataset(
    dataset: Dataset,
    val: Dataset | None = None,
    *,
    detection_limit: int = 1000,
    anchor_sizes_px: Sequence[float] | None = None,
    input_scale: Callable[[tuple[int, int]], float] | None = None,
    images: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Look for everything that is known to spoil a training, one image after the other.

    Args:
        dataset: what is to be trained on.
        val: the validation set: its image files are looked at, and compared with the training images; its annotations
            want a check of their own.
        detection_limit: the most objects that the model reports on an image.
        anchor_sizes_px: sides of the model's anchors at its input.
        input_scale: the factor by which the model enlarges an image of a size `(h, w)`. Default: 1.
        images: read the image files. Without, only whether they are there is looked at, and no copies are found.
        progress: is told the number of images done and of all.
    """
    found: dict[str, list[Place]] = {}
    for issue in dataset.warnings:
        found.setdefault(issue.kind, []).append(Place(issue.path, issue.where, issue.what, issue.image))
    sides: list[Sides] = []
    places: list[Iterator[tuple[str, Place]]] = [check_outlines(dataset), _check_categories(dataset, val)]
    for sample in dataset.samples:
        places.append(check_sample(sample))
        places.append(_check_counts(sample, detection_limit))
        sides.append(_sides_px(sample))
    scales = [1.0 if input_scale is None else input_scale(sample.size_hw) for sample in dataset.samples]
    places.append(_check_anchors(dataset, sides, scales, anchor_sizes_px))
    places.append(_check_images(dataset, val, images, progress))
    for some in places:
        for kind, place in some:
            found.setdefault(kind, []).append(place)
    return Check(dataset.path, _summarise(dataset, sides, scales, input_scale is not None), _findings(found, dataset))


def check_before_training(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> None:
    """Refuse a data set on which training would stop: every image is read once, nothing else is looked at.

    Args:
        dataset: what is to be trained on.
        progress: is told the number of images done and of all.

    Raises:
        AnnotationError: no images, no objects, images that are missing, unreadable or of another size than annotated;
            names how many, and the first file.
    """
    found: dict[str, list[Place]] = {}
    for k, sample in enumerate(dataset.samples):
        issue, _ = _look_at(sample, read=True)
        if issue is not None:
            found.setdefault(issue[0], []).append(issue[1])
        if progress is not None:
            progress(k + 1, len(dataset.samples))
    errors = [one for one in _findings(found, dataset) if one.severity == "error"]
    if errors:
        causes = [f"{one.n:,} {one.what}, e.g. {one.places[0]}" if one.n else one.what for one in errors]
        raise AnnotationError(f"{dataset.path}: training would fail: {'; '.join(causes)}")


def _findings(found: Mapping[str, list[Place]], dataset: Dataset) -> tuple[Finding, ...]:
    whole = {"no_images": not dataset.samples, "no_objects": not any(len(one.objects) for one in dataset.samples)}
    everything = dict(found)
    everything.update({kind: [] for kind, so in whole.items() if so})
    findings = []
    for kind, places in everything.items():
        entry = KINDS.get(kind) or Kind("warning", kind.replace("_", " "), LOOK_AT_IT)
        severity = entry.severity
        if kind.endswith("than_anchors"):
            share = len(places) / sum(len(one.objects) for one in dataset.samples)
            severity = "warning" if share > LARGEST_SHARE else "note"
        findings.append(Finding(kind, severity, entry.what, entry.advice, tuple(places)))
    rank = {"error": 0, "warning": 1, "note": 2}
    order = {kind: k for k, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda one: (rank[one.severity], order.get(one.kind, len(order)))))


def _check_counts(sample: Sample, limit: int) -> Iterator[tuple[str, Place]]:
    n = len(sample.objects)
    if n > limit:
        yield "over_limit", Place(sample.path, "", f"{n:,} objects, the limit is {limit:,}", sample.path)
    if n == 0:
        yield "image_without_objects", Place(sample.path, "", "no objects", sample.path)


def _check_categories(dataset: Dataset, val: Dataset | None) -> Iterator[tuple[str, Place]]:
    counts: Counter[int] = Counter()
    for sample in dataset.samples:
        counts.update(sample.objects.labels.tolist())
    names = dataset.class_names

    def place(label: int, what: str) -> Place:
        return Place(dataset.path, f"category {dataset.category_ids[label]} ({names[label]})", what)

    for label, name in enumerate(names):
        if name.strip().lower() in BACKGROUND_NAMES:
            yield "background_category", place(label, f"objects: {counts[label]:,}")
        elif counts[label] == 0:
            yield "empty_category", place(label, "no objects")
        elif counts[label] < FEW_OBJECTS:
            yield "rare_category", place(label, f"{counts[label]} object{'s' * (counts[label] > 1)}")
        if name in names[:label]:
            yield "repeated_category_name", place(label, f"category {dataset.category_ids[names.index(name)]} too")
    expected = tuple(range(1, len(names) + 1))
    if names and dataset.category_ids != expected:
        given, usual = (f"{ids[0]} to {ids[-1]}" for ids in (dataset.category_ids, expected))
        yield "category_ids", Place(dataset.path, "categories", f"{len(names)} ids from {given}, not {usual}")
    present = [label for label in counts if counts[label]]
    if present:
        most, least = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
        if counts[most] > LARGEST_IMBALANCE * counts[least]:
            yield "imbalance", place(least, f"{counts[least]:,} against {counts[most]:,} of {names[most]}")
    if val is not None:
        for name in sorted(set(names) ^ set(val.class_names)):
            path = dataset.path if name in names else val.path
            yield "val_categories_differ", Place(path, f"category {name}", "only in this one")


def _sides_px(sample: Sample) -> Sides:
    assert sample.objects.masks is not None
    sides: Sides = np.sqrt(sample.objects.masks.areas_px().numpy(), dtype=np.float64)
    return sides


def _check_anchors(
    dataset: Dataset,
    sides: Sequence[Sides],
    scales: Sequence[float],
    anchor_sizes_px: Sequence[float] | None,
) -> Iterator[tuple[str, Place]]:
    if not anchor_sizes_px:
        return
    least, most = min(anchor_sizes_px) / FAR_FROM_ANCHORS, max(anchor_sizes_px) * FAR_FROM_ANCHORS
    for sample, own, scale in zip(dataset.samples, sides, scales, strict=True):
        for k in np.flatnonzero((own * scale < least) | (own * scale > most)).tolist():
            small = own[k] * scale < least
            anchor = min(anchor_sizes_px) if small else max(anchor_sizes_px)
            what = f"a side of {own[k] * scale:.0f} px at the input, the anchor has {anchor:g} px"
            where = f"annotation {sample.annotation_ids[k]}"
            kind = "smaller_than_anchors" if small else "larger_than_anchors"
            yield kind, Place(sample.path, where, what, sample.path, (k,))


def _check_images(
    dataset: Dataset, val: Dataset | None, read: bool, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[str, Place]]:
    samples = [*dataset.samples, *(val.samples if val is not None else ())]
    prints: list[Fingerprint | None] = []
    for k, sample in enumerate(samples):
        issue, picture = _look_at(sample, read)
        prints.append(None if picture is None else fingerprint(picture))
        if issue is not None:
            yield issue
        if progress is not None:
            progress(k + 1, len(samples))
    for earlier, later in find_repeats(prints):
        apart = earlier < len(dataset.samples) <= later
        what = f"shows the same as {samples[earlier].path.name}"
        kind = "in_train_and_val" if apart else "repeated_image"
        yield kind, Place(samples[later].path, "", what, samples[later].path)


def _look_at(sample: Sample, read: bool) -> tuple[tuple[str, Place] | None, npt.NDArray[np.uint8] | None]:
    """What is wrong with an image file, and its pixels if it was read."""
    path = sample.path
    if not path.is_file():
        return ("missing_image", Place(path, "", "no such file", path)), None
    if not read:
        return None, None
    try:
        picture = read_image(path)
    except ImageError as error:
        return ("unreadable_image", Place(path, "", str(error).removeprefix(f"{path}: "), path)), None
    (height, width), (true_height, true_width) = sample.size_hw, picture.shape[:2]
    if (height, width) == (true_height, true_width):
        return None, picture
    turned = " (turned by its EXIF orientation?)" if (width, height) == (true_height, true_width) else ""
    what = f"{true_width} x {true_height} pixels, but annotated as {width} x {height}{turned}"
    return ("size_mismatch", Place(path, "", what, path)), picture


def _summarise(
    dataset: Dataset,
    sides: Sequence[Sides],
    scales: Sequence[float],
    scaled: bool,
) -> Summary:
    counts = [len(one) for one in sides]
    totals: Counter[str] = Counter(dict.fromkeys(dataset.class_names, 0))
    for sample in dataset.samples:
        totals.update(sample.objects.counts())
    at_input = [own * scale for own, scale in zip(sides, scales, strict=True)]
    sizes = sorted((sample.size_hw for sample in dataset.samples), key=lambda size: size[0] * size[1])
    return Summary(
        n_images=len(dataset.samples),
        n_objects=sum(counts),
        class_counts=dict(totals),
        objects_per_image=(min(counts), float(np.median(counts)), max(counts)) if counts else None,
        side_px=_quantiles(sides),
        side_at_input_px=_quantiles(at_input) if scaled else None,
        image_sizes_hw=(sizes[0], sizes[-1]) if sizes else None,
    )


def _quantiles(sides: Sequence[Sides]) -> tuple[float, float, float] | None:
    together = np.concatenate(sides) if sides else np.zeros(0)
    if not len(together):
        return None
    low, middle, high = np.quantile(together, (0.05, 0.5, 0.95)).tolist()
    return low, middle, high


def _plain(value: object) -> object:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
