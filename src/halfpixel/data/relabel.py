"""Data sets whose objects are to be taken otherwise than their annotations say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.errors import AnnotationError
from halfpixel.structures.instances import Instances


def rename_classes(dataset: Dataset, new_names: Mapping[str, str]) -> Dataset:
    """The same objects with other names of classes; classes that get one name become one.

    Args:
        dataset: annotated images.
        new_names: for names of classes the new ones; the other classes keep theirs.

    Raises:
        AnnotationError: there is no class of such a name.
    """
    unknown = [name for name in new_names if name not in dataset.class_names]
    if unknown:
        known = ", ".join(dataset.class_names)
        raise AnnotationError(f"{dataset.path}: it has no class '{unknown[0]}' to rename (its classes: {known})")
    names = [new_names.get(name, name) for name in dataset.class_names]
    kept = list(dict.fromkeys(names))
    numbers = [dataset.category_ids[names.index(name)] for name in kept]
    return _relabelled(dataset, names, tuple(kept), tuple(numbers))


def order_classes(dataset: Dataset, class_names: tuple[str, ...]) -> Dataset:
    """The same with its classes in another order.

    Args:
        dataset: annotated images.
        class_names: its classes, each once.
    """
    assert sorted(class_names) == sorted(dataset.class_names), "no class may be gained or lost"
    numbers = [dataset.category_ids[dataset.class_names.index(name)] for name in class_names]
    return _relabelled(dataset, dataset.class_names, class_names, tuple(numbers))


def _relabelled(
    dataset: Dataset, names: Sequence[str], class_names: tuple[str, ...], category_ids: tuple[int, ...]
) -> Dataset:
    """Labels by other names: which one of `class_names` each old label has."""
    labels = torch.tensor([class_names.index(name) for name in names], dtype=torch.int64)

    def relabelled(objects: Instances) -> Instances:
        return replace(objects, labels=labels[objects.labels], class_names=class_names)

    samples = tuple(
        replace(sample, objects=relabelled(sample.objects), ignored=relabelled(sample.ignored))
        for sample in dataset.samples
    )
    return replace(dataset, class_names=class_names, category_ids=category_ids, samples=samples)


def take_crowd_as_objects(dataset: Dataset) -> Dataset:
    """The same with every crowd region as an object, as CVAT means the masks of its brush.

    The new objects' areas are those of their masks; they come last, numbered after all annotations.
    """
    number = max((one for sample in dataset.samples for one in sample.annotation_ids), default=0)
    samples = []
    for sample in dataset.samples:
        n = len(sample.ignored)
        samples.append(_with_crowd(sample, tuple(range(number + 1, number + 1 + n))) if n else sample)
        number += n
    return replace(dataset, samples=tuple(samples))


def _with_crowd(sample: Sample, numbers: tuple[int, ...]) -> Sample:
    crowd = sample.ignored
    assert crowd.masks is not None, "data sets have masks"
    return replace(
        sample,
        objects=Instances.concatenate([sample.objects, crowd]),
        areas_px=torch.cat([sample.areas_px, crowd.masks.areas_px().double()]),
        annotation_ids=sample.annotation_ids + numbers,
        ignored=crowd[:0],
    )
