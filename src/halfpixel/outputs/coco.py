"""COCO files written entry by entry: predictions and annotated data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.dataset import Dataset, Issue, Sample
from halfpixel.data.formats.coco_entries import Entry
from halfpixel.files import open_whole
from halfpixel.outputs.dataset_writer import DatasetWriter, copy_image
from halfpixel.outputs.image_result import ImageEntry, RunResult
from halfpixel.structures.novelty import is_unlike

if TYPE_CHECKING:
    from halfpixel.structures.instances import Instances

FILE = "instances.json"


def write_coco_entries(
    path: Path, images: Iterable[Entry], annotations: Iterable[Entry], categories: Iterable[Entry]
) -> None:
    """Write a COCO file while its entries come in, so that never all of them are in memory.

    Args:
        path: the JSON file; its folder must exist.
        images: all of these are taken before the first annotation.
        annotations: those without an `id` get 1, 2, 3, ... by their place in the file.
        categories: as they are.
    """
    numbered = ({"id": k} | entry for k, entry in enumerate(annotations, start=1))
    with open_whole(path) as file:
        opening = b"{"
        for name, entries in (("images", images), ("annotations", numbered), ("categories", categories)):
            file.write(opening + f'"{name}": ['.encode())
            file.writelines(_joined(entries))
            opening = b"], "
        file.write(b"]}")


def _joined(entries: Iterable[Entry]) -> Iterator[bytes]:
    for k, entry in enumerate(entries):
        yield (", " if k else "").encode() + json.dumps(entry, allow_nan=False).encode()


def image_entry(image_id: int, file_name: str, size_hw: tuple[int, int]) -> Entry:
    """What a COCO file says of an image."""
    height, width = size_hw
    return {"id": image_id, "file_name": file_name, "width": width, "height": height}


def prediction_entries(objects: Instances) -> list[Entry]:
    """An annotation with a score for each object, its `category_id` the label, ids still to be given.

    An object of a film has its `track_id` (as in TAO, Dave et al. 2020, arXiv:2005.10356).
    """
    boxes = objects.boxes_xyxy.tolist()
    entries: list[Entry] = [
        {"category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "score": score}
        for label, (x0, y0, x1, y1), score in zip(objects.labels.tolist(), boxes, objects.scores.tolist(), strict=True)
    ]
    if objects.masks is not None:
        for entry, mask, area in zip(entries, objects.masks.rles(), objects.masks.areas_px().tolist(), strict=True):
            entry |= {"segmentation": mask, "area": area}
    if objects.track_ids is not None:
        for entry, track in zip(entries, objects.track_ids.tolist(), strict=True):
            entry["track_id"] = track
    return [entry | {"iscrowd": 0} for entry in entries]


def write_coco(
    path: Path,
    images: Sequence[tuple[int, str, Instances]],
    class_names: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write predictions as a COCO data set whose annotations have scores.

    Args:
        path: the JSON file; its folder must exist.
        images: for each image its id, its file name and what was found on it. Without masks an annotation has no
            `segmentation`, and its `area` is the box's.
        class_names: the labels index into them.
        category_ids: the file's number for each class. Default: 1, 2, 3, ...
    """
    ids = range(1, len(class_names) + 1) if category_ids is None else category_ids
    annotations = (
        {"image_id": image_id} | entry | {"category_id": ids[entry["category_id"]]}
        for image_id, _, objects in images
        for entry in prediction_entries(objects)
    )
    write_coco_entries(
        path,
        (image_entry(image_id, name, objects.size_hw) for image_id, name, objects in images),
        annotations,
        [{"id": k, "name": name} for k, name in zip(ids, class_names, strict=True)],
    )


def write_coco_run(path: Path, run: RunResult) -> None:
    """Write the predictions of a run as a COCO data set; ids of images, annotations and categories count from 1."""
    write_coco_entries(
        path,
        (image_entry(k, one.name, one.size_hw) | _looked_at(one) for k, one in enumerate(run.images, start=1)),
        (
            {"image_id": k} | entry | {"category_id": 1 + entry["category_id"]}
            for k, entries in enumerate(run.annotations(), start=1)
            for entry in entries
        ),
        [{"id": k, "name": name} for k, name in enumerate(run.class_names, start=1)],
    )


def _looked_at(image: ImageEntry) -> Entry:
    """What the file says of how the network saw an image, as far as that is to be told."""
    told = {
        "scale": image.scale,
        "found_diameter_px": image.found_diameter_px,
        "unlike_training": is_unlike(image.novelty),
        "novelty": image.novelty,
    }
    return {name: value for name, value in told.items() if value is not None}


def write_coco_dataset(dataset: Dataset, out: Path, stems: Sequence[str]) -> list[Issue]:
    """Copy the images to `out/images/` and write `out/instances.json`, masks as compressed run lengths.

    Image ids, category ids, boxes, areas and attributes stay as they are; annotation ids too where no two are the same
    in the data set, else they are 1, 2, 3, ... Crowd regions get ids after all others.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders.

    Returns:
        Nothing: all that a data set can hold is kept.
    """
    ids = [number for sample in dataset.samples for number in sample.annotation_ids]
    if len(set(ids)) < len(ids):
        ids = list(range(1, len(ids) + 1))
    numbers, crowd_numbers = iter(ids), iter(range(max(ids, default=0) + 1, 1 << 62))
    images: list[Entry] = []
    annotations: list[Entry] = []
    for sample, stem in zip(dataset.samples, stems, strict=True):
        name = copy_image(sample.path, out, stem)
        images.append(image_entry(sample.image_id, name, sample.size_hw) | dict(sample.attributes))
        areas: list[float] = sample.areas_px.tolist()
        annotations += _entries(sample, sample.objects, areas, dataset.category_ids, numbers, 0)
        assert sample.ignored.masks is not None or not len(sample.ignored), "data sets have masks"
        areas = [] if sample.ignored.masks is None else sample.ignored.masks.areas_px().tolist()
        annotations += _entries(sample, sample.ignored, areas, dataset.category_ids, crowd_numbers, 1)
    classes = zip(dataset.category_ids, dataset.class_names, strict=True)
    write_coco_entries(out / FILE, images, annotations, [{"id": k, "name": name} for k, name in classes])
    return []


def _entries(
    sample: Sample,
    objects: Instances,
    areas_px: Sequence[float],
    category_ids: Sequence[int],
    numbers: Iterable[int],
    is_crowd: int,
) -> list[dict[str, Any]]:
    masks = [] if objects.masks is None else objects.masks.rles()
    rows = zip(objects.labels.tolist(), objects.boxes_xyxy.tolist(), areas_px, masks, strict=True)
    return [
        {
            "id": number,
            "image_id": sample.image_id,
            "category_id": category_ids[label],
            "segmentation": mask,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": area,
            "iscrowd": is_crowd,
        }
        for (label, (x0, y0, x1, y1), area, mask), number in zip(rows, numbers, strict=False)
    ]


WRITER = DatasetWriter("coco", write_coco_dataset)
