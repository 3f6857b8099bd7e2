"""The check of annotated images: what is wrong, or probably wrong, found before a model is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from halfpixel.data.checks.check_report import DatasetCheck, IssueGroup, Summary
from halfpixel.data.checks.fingerprint import Fingerprint, find_repeats, fingerprint
from halfpixel.data.checks.issue_kinds import FEW_OBJECTS, KINDS, LOOK_AT_IT, Kind
from halfpixel.data.checks.object_checks import check_outlines, check_sample
from halfpixel.data.dataset import Dataset, Issue, Sample
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import AnnotationError, ImageError
from halfpixel.files import is_regular

LARGEST_IMBALANCE = 100
"""Objects of the most frequent class for each one of the rarest."""
FAR_FROM_ANCHORS = 2.0
"""An object this many times smaller than the smallest anchor, or larger than the largest, is far from them."""
LARGEST_SHARE = 0.05
"""More of the objects far from the anchors than this is a warning."""
Sides = npt.NDArray[np.float64]
"""Square roots of the areas of an image's masks."""

BACKGROUND_NAMES = {"background", "bg", "__background__", "_background_"}


def check_dataset(
    dataset: Dataset,
    val: Dataset | None = None,
    *,
    detection_limit: int = 1000,
    anchor_sizes_px: Sequence[float] | None = None,
    input_scale: Callable[[tuple[int, int]], float] | None = None,
    images: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetCheck:
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
    found: list[Iterable[Issue]] = [dataset.warnings, check_outlines(dataset), _check_categories(dataset, val)]
    for sample in dataset.samples:
        found.append(check_sample(sample))
        found.append(_check_counts(sample, detection_limit))
    sides = [_sides_px(sample) for sample in dataset.samples]
    scales = [1.0 if input_scale is None else input_scale(sample.size_hw) for sample in dataset.samples]
    found.append(_check_anchors(dataset, sides, scales, anchor_sizes_px))
    found.append(_check_images(dataset, val, images, progress))
    summary = _summarise(dataset, sides, scales, input_scale is not None)
    return DatasetCheck(dataset.path, summary, _group(chain.from_iterable(found), dataset))


def check_before_training(
    datasets: Sequence[Dataset], progress: Callable[[int, int], None] | None = None
) -> list[Issue]:
    """Refuse data sets on which training would stop: every image is read once, nothing else is looked at.

    Args:
        datasets: what is to be trained on.
        progress: is told the number of images done and of all.

    Returns:
        The images of a data set that show what one of another shows.

    Raises:
        AnnotationError: no images, no objects, images that are missing, unreadable or of another size than annotated;
            names how many, and the first file.
    """
    whose = [k for k, dataset in enumerate(datasets) for _ in dataset.samples]
    samples = [sample for dataset in datasets for sample in dataset.samples]
    found: list[list[Issue]] = [[] for _ in datasets]
    prints: list[Fingerprint | None] = []
    for n, (k, sample) in enumerate(zip(whose, samples, strict=True), 1):
        issue, picture = _check_image(sample, read=True)
        prints.append(None if picture is None or len(datasets) == 1 else fingerprint(picture))
        if issue is not None:
            found[k].append(issue)
        if progress is not None:
            progress(n, len(samples))
    for dataset, issues in zip(datasets, found, strict=True):
        errors = [one for one in _group(issues, dataset) if one.severity == "error"]
        if errors:
            causes = [f"{one.n:,} {one.what}, e.g. {one.issues[0].brief}" if one.n else one.what for one in errors]
            raise AnnotationError(f"{dataset.path}: training would fail: {'; '.join(causes)}")
    apart = [(one, other) for one, other in find_repeats(prints) if whose[one] != whose[other]]
    return [_repeated(samples[one], samples[other], "repeated_image") for one, other in apart]


def _group(issues: Iterable[Issue], dataset: Dataset) -> tuple[IssueGroup, ...]:
    """The issues by kind, the worst kinds first, and what is wrong with the data set as a whole."""
    by_kind: dict[str, list[Issue]] = {}
    for issue in issues:
        by_kind.setdefault(issue.kind, []).append(issue)
    whole = {"no_images": not dataset.samples, "no_objects": not any(len(one.objects) for one in dataset.samples)}
    by_kind.update({kind: [] for kind, so in whole.items() if so})
    groups = []
    for kind, some in by_kind.items():
        entry = KINDS.get(kind) or Kind("warning", kind.replace("_", " "), LOOK_AT_IT)
        severity = entry.severity
        n_objects = sum(len(one.objects) for one in dataset.samples)
        if kind.endswith("than_anchors"):
            severity = "warning" if len(some) > LARGEST_SHARE * n_objects else "note"
        if kind == "crowd_region":
            severity = "warning" if len(some) >= n_objects else "note"
        groups.append(IssueGroup(kind, severity, entry.what, entry.advice, tuple(some)))
    rank = {"error": 0, "warning": 1, "note": 2}
    order = {kind: k for k, kind in enumerate(KINDS)}
    return tuple(sorted(groups, key=lambda one: (rank[one.severity], order.get(one.kind, len(order)))))


def _check_counts(sample: Sample, limit: int) -> Iterator[Issue]:
    n = len(sample.objects)
    if n > limit:
        yield Issue("over_limit", sample.path, "", f"{n:,} objects, the limit is {limit:,}", sample.path)
    if n == 0:
        yield Issue("image_without_objects", sample.path, "", "no objects", sample.path)
    for k in range(1, len(sample.ignored) + 1):
        what = "neither object nor background (in COCO files iscrowd: 1)"
        yield Issue("crowd_region", sample.path, f"crowd region {k}", what, sample.path)


def _check_categories(dataset: Dataset, val: Dataset | None) -> Iterator[Issue]:
    counts: Counter[int] = Counter()
    for sample in dataset.samples:
        counts.update(sample.objects.labels.tolist())
    names = dataset.class_names

    def about(kind: str, label: int, what: str) -> Issue:
        return Issue(kind, dataset.path, f"category {dataset.category_ids[label]} ({names[label]})", what)

    for label, name in enumerate(names):
        if name.strip().lower() in BACKGROUND_NAMES:
            yield about("background_category", label, f"objects: {counts[label]:,}")
        elif counts[label] == 0:
            yield about("empty_category", label, "no objects")
        elif counts[label] < FEW_OBJECTS:
            yield about("rare_category", label, f"{counts[label]} object{'s' * (counts[label] > 1)}")
        if name in names[:label]:
            yield about("repeated_category_name", label, f"category {dataset.category_ids[names.index(name)]} too")
    expected = tuple(range(1, len(names) + 1))
    if names and dataset.category_ids != expected:
        given, usual = (f"{ids[0]} to {ids[-1]}" for ids in (dataset.category_ids, expected))
        yield Issue("category_ids", dataset.path, "categories", f"{len(names)} ids from {given}, not {usual}")
    present = [label for label in counts if counts[label]]
    if present:
        most, least = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
        if counts[most] > LARGEST_IMBALANCE * counts[least]:
            yield about("imbalance", least, f"{counts[least]:,} against {counts[most]:,} of {names[most]}")
    if val is not None:
        for name in sorted(set(names) ^ set(val.class_names)):
            path = dataset.path if name in names else val.path
            yield Issue("val_categories_differ", path, f"category {name}", "only in this one")


def _sides_px(sample: Sample) -> Sides:
    assert sample.objects.masks is not None
    sides: Sides = np.sqrt(sample.objects.masks.areas_px().numpy(), dtype=np.float64)
    return sides


def _check_anchors(
    dataset: Dataset,
    sides: Sequence[Sides],
    scales: Sequence[float],
    anchor_sizes_px: Sequence[float] | None,
) -> Iterator[Issue]:
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
            yield Issue(kind, sample.path, where, what, sample.path, (k,))


def _check_images(
    dataset: Dataset, val: Dataset | None, read: bool, progress: Callable[[int, int], None] | None
) -> Iterator[Issue]:
    samples = [*dataset.samples, *(val.samples if val is not None else ())]
    prints: list[Fingerprint | None] = []
    for k, sample in enumerate(samples):
        issue, picture = _check_image(sample, read)
        prints.append(None if picture is None else fingerprint(picture))
        if issue is not None:
            yield issue
        if progress is not None:
            progress(k + 1, len(samples))
    for earlier, later in find_repeats(prints):
        apart = earlier < len(dataset.samples) <= later
        yield _repeated(samples[earlier], samples[later], "in_train_and_val" if apart else "repeated_image")


def _repeated(earlier: Sample, later: Sample, kind: str) -> Issue:
    return Issue(kind, later.path, "", f"shows the same as {earlier.path.name}", later.path)


def _check_image(sample: Sample, read: bool) -> tuple[Issue | None, npt.NDArray[np.uint8] | None]:
    """What is wrong with an image file, and its pixels if it was read."""
    path = sample.path
    if not is_regular(path):
        return Issue("missing_image", path, "", "no such file", path), None
    if not read:
        return None, None
    try:
        picture = read_image(path)
    except ImageError as error:
        return Issue("unreadable_image", path, "", str(error).removeprefix(f"{path}: "), path), None
    (height, width), (true_height, true_width) = sample.size_hw, picture.shape[:2]
    if (height, width) == (true_height, true_width):
        return None, picture
    turned = " (turned by its EXIF orientation?)" if (width, height) == (true_height, true_width) else ""
    what = f"{true_width} x {true_height} pixels, but annotated as {width} x {height}{turned}"
    return Issue("size_mismatch", path, "", what, path), picture


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
