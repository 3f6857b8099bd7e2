"""Opening annotated images. Light, as the command line imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.errors import AnnotationError
from halfpixel.files import is_regular
from halfpixel.jobs.wording import NAMED_AT_MOST, name_some, plural

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.data.formats.format_names import Format


def check_data(data: Path, images: Path | None, *predictions: Path | None) -> None:
    """Refuse files that are not there, before anything is imported that takes time.

    Args:
        data: annotated images: a file or a folder.
        images: the folder of the images, where they are not beside the annotations.
        predictions: files of predictions, where there are any.

    Raises:
        AnnotationError: there is no such file or folder, or no such folder of images.
    """
    if images is not None and not images.is_dir():
        raise AnnotationError(f"`images` {images}: there is no such folder")
    for path in (data, *predictions):
        if path is not None and not path.exists():
            raise AnnotationError(f"{path}: No such file or folder")


def open_dataset(
    data: Path, images: Path | None, format: Format | None = None, warn: Callable[[str], None] | None = None
) -> Dataset:
    """Read annotated images of any known format.

    Args:
        data: a file or a folder.
        images: the folder of the images, where they are not beside the annotations.
        format: of the annotations. Default: found by looking.
        warn: hears of the first issues, and how many more there are.

    Raises:
        AnnotationError: there is no such file, it cannot be used, it is unclear which format it has, it has no images,
            or none of its images is there.
    """
    check_data(data, images)
    from halfpixel.data.formats.detect import read_dataset

    dataset = read_dataset(data, images, format)
    if warn is not None:
        issues = dataset.warnings
        for issue in issues[:NAMED_AT_MOST]:
            warn(str(issue))
        if len(issues) > NAMED_AT_MOST:
            warn(f"{dataset.path}: {plural(len(issues) - NAMED_AT_MOST, 'more issue')} of this data set")
    if not dataset.samples:
        raise AnnotationError(f"{dataset.path}: there are no images in this data set")
    if not any(is_regular(sample.path) for sample in dataset.samples):
        first = dataset.samples[0].path
        raise AnnotationError(f"{dataset.path}: none of its images is there, e.g. {first}; say where with `images`")
    return dataset


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
