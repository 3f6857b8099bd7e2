"""Opening annotated images. Light, as the command line imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.files import is_regular
from halfpixel.jobs.wording import NAMED_AT_MOST, name_some, plural

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.data.formats.format_names import Format, Split

Crowd = Literal["ignore", "objects"]


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


@dataclass(frozen=True)
class ReadingOptions:
    """How annotations are taken.

    Attributes:
        crowd: What becomes of crowd regions (`iscrowd: 1`): ignore takes them for neither objects nor background,
            objects takes each for an object, as CVAT means the masks of its brush.
        class_map: Take a class of the annotations for one of the model's: cell=nucleus; several times for several.
    """

    crowd: Crowd = "ignore"
    class_map: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pair in self.class_map:
            if not all(pair.partition("=")):
                raise ArgumentError(f"`class_map` must be like cell=nucleus, got '{pair}'")

    def apply(self, dataset: Dataset) -> Dataset:
        """The data set taken so.

        Raises:
            AnnotationError: it has no class of a name in `class_map`.
        """
        if self == AS_WRITTEN:
            return dataset
        from halfpixel.data.relabel import rename_classes, take_crowd_as_objects

        if self.class_map:
            pairs = (pair.partition("=") for pair in self.class_map)
            dataset = rename_classes(dataset, {old: new for old, _, new in pairs})
        return take_crowd_as_objects(dataset) if self.crowd == "objects" else dataset

    def apply_together(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Several data sets taken so: a name in `class_map` need not be in all of them.

        Raises:
            AnnotationError: none has a class of a name in `class_map`.
        """
        known = {name for dataset in datasets for name in dataset.class_names}
        taken = []
        for dataset in datasets:
            foreign = known - set(dataset.class_names)
            own = tuple(pair for pair in self.class_map if pair.partition("=")[0] not in foreign)
            taken.append(replace(self, class_map=own).apply(dataset))
        return taken


AS_WRITTEN = ReadingOptions()


def open_dataset(
    data: Path,
    images: Path | None,
    format: Format | None = None,
    warn: Callable[[str], None] | None = None,
    reading: ReadingOptions = AS_WRITTEN,
    split: Split | None = None,
) -> Dataset:
    """Read annotated images of any known format.

    Args:
        data: a file or a folder.
        images: the folder of the images, where they are not beside the annotations.
        format: of the annotations. Default: found by looking.
        warn: hears of the first issues, and how many more there are.
        reading: how the annotations are taken.
        split: the part to take of a data set that says which parts it has. Default, and where there is no such: the
            first of train, val and test.

    Raises:
        AnnotationError: there is no such file, it cannot be used, it is unclear which format it has, it has no images,
            or none of its images is there.
    """
    check_data(data, images)
    from halfpixel.data.formats.detect import read_dataset

    dataset = reading.apply(read_dataset(data, images, format, split))
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


def matched_names(
    dataset: Dataset, class_names: tuple[str, ...], whose: str, warn: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """The classes of a model, or of other data, as a data set calls them.

    Classes are matched by name. Where no name is the same and either side has but one class (of which there are
    objects), that is one class under two names.

    Args:
        dataset: annotated images.
        class_names: the names that it is compared with.
        whose: they are.
        warn: hears that two names were taken for one class.

    Raises:
        AnnotationError: they have no class in common; names both.
    """
    if set(dataset.class_names) & set(class_names):
        return class_names
    used = {int(label) for sample in dataset.samples for label in sample.objects.labels.tolist()}
    own = tuple(dataset.class_names[label] for label in sorted(used)) or dataset.class_names
    if len(own) != 1 or len(class_names) != 1:
        raise AnnotationError(
            f"{dataset.path}: its classes ({name_some(dataset.class_names)}) have none in common with {whose} "
            f"({name_some(class_names)}); say with `class_map` which is which"
        )
    if warn is not None:
        warn(f"{dataset.path}: its one class, {own[0]}, was taken for the one of {whose}, {class_names[0]}")
    return own
