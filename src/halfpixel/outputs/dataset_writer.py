"""What each format of annotated images says of itself to the table of writers, and what writers share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue, Sample
from halfpixel.data.formats.format_names import WritableFormat
from halfpixel.data.images.container import open_image
from halfpixel.data.images.embedded import suffix_of
from halfpixel.files import write_whole


@dataclass(frozen=True)
class DatasetWriter:
    """How annotated images are written in a format.

    Attributes:
        name: what `--to` calls it.
        write: writes a data set into an existing folder, under a new name for each sample, and copies the images.
            Returns what the format could not hold.
    """

    name: WritableFormat
    write: Callable[[Dataset, Path, Sequence[str]], list[Issue]]


def copy_image(image: Path, out: Path, stem: str) -> str:
    """Copy an image into `out/images/` under a new name, given without its suffix; the name it has there."""
    folder = out / "images"
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    if image.suffix.lower() != ".json":
        shutil.copyfile(image, folder / f"{stem}{image.suffix}")
        return f"{stem}{image.suffix}"
    with open_image(image) as (file, magic):  # LabelMe keeps pictures in its own files
        name = f"{stem}{suffix_of(magic)}"
        write_whole(folder / name, file.read())
    return name


def lost_beside_masks(dataset: Dataset) -> list[Issue]:
    """What only COCO has a place for: crowd regions (`crowd`), attributes of images, and areas of their own."""
    return [issue for sample in dataset.samples for issue in _lost_of_sample(sample)]


def _lost_of_sample(sample: Sample) -> list[Issue]:
    regions = range(1, len(sample.ignored) + 1)
    lost = [Issue("crowd", sample.path, f"crowd region {k}", "left out", sample.path) for k in regions]
    if sample.attributes:
        names = ", ".join(sample.attributes)
        lost.append(Issue("attributes", sample.path, "", f"left out ({names})", sample.path))
    assert sample.objects.masks is not None, "data sets have masks"
    own = sample.objects.masks.areas_px().tolist()
    for number, area, given in zip(sample.annotation_ids, own, sample.areas_px.tolist(), strict=True):
        if area != given:
            what = f"those of the masks are taken instead ({area} for {given:g} px here)"
            lost.append(Issue("areas", sample.path, f"annotation {number}", what, sample.path))
    return lost


def lost_class_names(dataset: Dataset) -> list[Issue]:
    """That a format has one class only, where the data set has another or more (`classes`)."""
    if dataset.class_names == (ONE_CLASS,):
        return []
    n = len(dataset.class_names)
    return [Issue("classes", dataset.path, "", f"{n} names left out, all objects become '{ONE_CLASS}'")]
