"""Puts a data set together from files that each describe one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset, Issue, annotated_sample
from halfpixel.data.formats.json_files import whole
from halfpixel.errors import AnnotationError, InputError
from halfpixel.structures.masks import CropMasks


@dataclass(frozen=True, eq=False)
class Annotated:
    """What one file of a data set says.

    Attributes:
        image: the image file.
        masks: its objects.
        classes: the name of each object's class.
        ignored: `[h, w]` pixels that are neither objects of any class nor background, if there are any.
    """

    image: Path
    masks: CropMasks
    classes: Sequence[str]
    ignored: npt.NDArray[np.bool_] | None = None


def read_each(
    path: Path,
    sources: Sequence[Path],
    read: Callable[[Path], Annotated],
    issues: list[Issue],
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read every source; one that cannot be used is left out with an issue `unusable_file`.

    Args:
        path: the data set's file or folder.
        sources: what `read` takes, one for each image, in the order of the image ids 1, 2, 3, ...
        read: reads one of them.
        issues: what was found before, and what `read` adds while it runs.
        class_names: all classes. Default: those that objects have, numbers first, then
            words in alphabetical order.

    Raises:
        AnnotationError: there are no sources, or none of them can be used.
    """
    found: list[Annotated] = []
    first = None
    for source in sources:
        try:
            found.append(read(source))
        except InputError as error:
            first = first or error
            cause = str(error).removeprefix(f"{source}: ")
            issues.append(Issue("unusable_file", source, "", f"left out, {cause}"))
    if not found:
        why = f"none of its {len(sources):,} images can be used, e.g. {first}" if sources else "there are no images"
        raise AnnotationError(f"{path}: {why}")
    if class_names is None:
        class_names = sorted({name for one in found for name in one.classes}, key=_numbers_first)
    labels = {name: k for k, name in enumerate(class_names)}
    samples = tuple(
        annotated_sample(
            k, one.image, one.masks, [labels[name] for name in one.classes], tuple(class_names), one.ignored
        )
        for k, one in enumerate(found, start=1)
    )
    return Dataset(path, tuple(class_names), tuple(range(1, len(class_names) + 1)), samples, tuple(issues))


def _numbers_first(name: str) -> tuple[float, str]:
    number = whole(name)
    return (math.inf if number is None else number, name)
