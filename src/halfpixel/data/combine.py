"""Several data sets as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.relabel import order_classes
from halfpixel.errors import AnnotationError, ArgumentError


def combine_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """All images of several data sets that have the same classes.

    Args:
        datasets: at least one; a single one is given back as it is. Classes are matched by name, and come in the order
            that the first data set has them in.

    Returns:
        The images in that order, numbered from 1, each with its data set's name as `source`: as much of the end of its
        path as tells it from the others, such as `nuclei/train.json`.

    Raises:
        ArgumentError: there is none.
        AnnotationError: their classes differ, or an image file is in two of them; names both.
    """
    if not datasets:
        raise ArgumentError("there is no data set to combine")
    first = datasets[0]
    if len(datasets) == 1:
        return first
    for dataset in datasets[1:]:
        if sorted(dataset.class_names) != sorted(first.class_names):
            raise AnnotationError(
                f"{dataset.path}: its classes ({', '.join(dataset.class_names)}) are not those of {first.path} "
                f"({', '.join(first.class_names)}); say with `class_map` which is which"
            )
    _check_apart(datasets)
    paths = [dataset.path.absolute() for dataset in datasets]
    names = _names(paths)
    samples: list[Sample] = []
    for dataset, name in zip(datasets, names, strict=True):
        samples += (
            replace(sample, image_id=number, source=name)
            for number, sample in enumerate(order_classes(dataset, first.class_names).samples, len(samples) + 1)
        )
    return Dataset(
        Path(os.path.commonpath([path.parent for path in paths])),
        first.class_names,
        first.category_ids,
        tuple(samples),
        tuple(warning for dataset in datasets for warning in dataset.warnings),
        tuple(dict.fromkeys(names)),
    )


def _check_apart(datasets: Sequence[Dataset]) -> None:
    """Refuse an image that two data sets have: what one annotates on it would be background in the other."""
    seen: dict[Path, Dataset] = {}
    for dataset in datasets:
        own = {sample.path.resolve() for sample in dataset.samples}
        for path in sorted(own & seen.keys()):
            raise AnnotationError(f"{dataset.path}: its image {path} is in {seen[path].path}, too")
        seen |= dict.fromkeys(own, dataset)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths, all with as many parts, that tell them apart."""
    names: list[str] = []
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names
