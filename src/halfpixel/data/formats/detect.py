"""The formats of annotated images: which one it is, reading and writing.

Nothing here needs torch until a data set is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from halfpixel.errors import AnnotationError, ArgumentError, InputError

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset, Fault, Sample

Format = Literal["coco", "yolo", "labelme", "mask_folders", "label_images", "semantic"]
WritableFormat = Literal["coco", "yolo", "label_images", "mask_folders"]

LOOKED_FOR = """\
coco (a JSON file with images, annotations and categories), \
yolo (labels/*.txt beside images/), \
labelme (JSON files with shapes and imagePath), \
mask_folders (ID/images/ with one image and ID/masks/), \
label_images or semantic (masks/ or labels/ beside images/, or a_masks.png beside a.png)"""


def read_dataset(path: Path, images: Path | None = None, format: Format | None = None) -> Dataset:
    """Read annotated images of any format that halfpixel knows.

    Args:
        path: an annotation file or a data set's folder.
        images: the folder of the images, where they are not beside the annotations.
        format: how to read it. Default: what `detect` finds.

    Raises:
        AnnotationError: it cannot be read, or it is unclear which format it is.
        ArgumentError: there is no such format, or it has its images inside and others were given.
    """
    path = Path(path)
    chosen = detect(path, images) if format is None else format
    if chosen == "coco":
        from halfpixel.data.formats.coco import read_coco

        return read_coco(_coco_file(path), images)
    if chosen == "yolo":
        from halfpixel.data.formats.yolo import read_yolo

        return read_yolo(path, images)
    if not path.exists():
        raise AnnotationError(f"{path}: No such file or folder")
    if chosen == "labelme":
        from halfpixel.data.formats.labelme import read_labelme

        return read_labelme(path, images)
    if not path.is_dir():
        raise AnnotationError(f"{path}: {chosen} takes a folder")
    if chosen == "label_images":
        from halfpixel.data.formats.label_images import read_label_images

        return read_label_images(path, images)
    if chosen == "semantic":
        from halfpixel.data.formats.semantic import read_semantic

        return read_semantic(path, images)
    if chosen == "mask_folders":
        from halfpixel.data.formats.mask_folders import read_mask_folders

        if images is not None:
            raise ArgumentError(f"{path}: mask folders have their images inside, not in {images}")
        return read_mask_folders(path)
    raise ArgumentError(f"there is no format {chosen!r}; choose from {', '.join(get_args(Format))}")


def detect(path: Path, images: Path | None = None) -> Format:
    """Find out the format of annotated images by looking at them.

    Masks whose numbers could be those of objects are label images. Where all files together have at most two different
    positive numbers, as 0 and 255, they are semantic, unless the numbers are 1 and 2 and each is one connected region,
    so that both readings find the same objects.

    Args:
        path: an annotation file or a data set's folder.
        images: the folder of the images, where they are not beside the annotations.

    Raises:
        AnnotationError: there is nothing, none of the formats fits, or several do.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path}: No such file or folder")
    if path.is_file():
        if path.suffix.lower() in (".yaml", ".yml"):
            return "yolo"
        return "labelme" if _json_kind(path) == "labelme" else "coco"
    fitting = list(_fitting(path, images))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(fitting)
        raise AnnotationError(f"{path}: this folder could be read as {names}; say which with --format")
    raise AnnotationError(
        f"{path}: expected annotated images in this folder, found 0 of the formats known: {LOOKED_FOR}; "
        "name a file, or say with --format which it is"
    )


def _fitting(folder: Path, images: Path | None) -> Iterator[Format]:
    from halfpixel.data.formats.label_images import pair_masks
    from halfpixel.data.formats.mask_files import files_in, folders_in

    kinds = {kind for file in sorted(folder.glob("*.json")) if (kind := _json_kind(file))}
    if "coco" in kinds:
        yield "coco"
    if "labelme" in kinds or (not kinds and any(_json_kind(file) == "labelme" for file in folder.rglob("*.json"))):
        yield "labelme"
    inside = "labels" in folder.resolve().parts or (folder / "labels").is_dir()
    beside_images = "images" in folder.resolve().parts and _yolo_labels(folder).is_dir()
    nested = [one / "labels" for one in folders_in(folder) if (one / "labels").is_dir() and (one / "images").is_dir()]
    places = [folder] * inside + [_yolo_labels(folder)] * beside_images + nested
    if any(files_in(one, (".txt",)) for one in places):
        yield "yolo"
    children = [one for one in folders_in(folder) if (one / "images").is_dir() and (one / "masks").is_dir()]
    if children and all(len(files_in(one / "images")) == 1 for one in children[:20]):
        yield "mask_folders"
    elif pairs := pair_masks(folder, images):
        yield _label_images_or_semantic([mask for _, mask in pairs])


def _yolo_labels(folder: Path) -> Path:
    from halfpixel.data.formats.yolo import label_file_of

    return label_file_of(folder.resolve() / "any.png").parent


def _json_kind(file: Path) -> Literal["coco", "labelme"] | None:
    """What a JSON file seems to be, without the time that parsing a large one takes."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if b'"shapes"' in content and b'"imagePath"' in content:
        return "labelme"
    return "coco" if b'"annotations"' in content and b'"images"' in content else None


def _label_images_or_semantic(masks: Sequence[Path]) -> Format:
    import numpy as np
    from skimage.measure import label

    from halfpixel.data.formats.mask_files import read_numbers

    values: set[int] = set()
    apart = False
    for file in masks:
        with contextlib.suppress(InputError):  # the reader names what is broken
            array = read_numbers(file)
            if array.ndim == 3 or array.dtype.kind not in "bui":
                continue
            found = np.unique(array[array > 0]).tolist()
            values.update(int(one) for one in found)
            if len(values) > 2:
                return "label_images"
            apart = apart or int(label(array, connectivity=2).max()) > len(found)
    return "semantic" if apart or values - {1, 2} else "label_images"


def _coco_file(path: Path) -> Path:
    """The one JSON file of a folder.

    Raises:
        AnnotationError: there is none, or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        names = [one.name for one in found]
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        which = f": {some}; name one of them" if found else ""
        raise AnnotationError(f"{path}: expected one .json file in this folder, found {len(found)}{which}")
    return found[0]


def write_dataset(dataset: Dataset, out: Path, stems: Sequence[str], format: WritableFormat) -> list[Fault]:
    """Write annotated images and copy their pictures, so that `out` is a whole data set.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders (`a/b`).
        format: how.

    Returns:
        What the format could not hold, one fault for each object or image: `holes`, `parts`, `overlap`, `hidden`,
        `classes`, `crowd`, `attributes`, `areas`.
    """
    if format == "coco":
        from halfpixel.outputs.coco import write_coco_dataset

        write_coco_dataset(dataset, out, stems)
        return []
    lost = [fault for sample in dataset.samples for fault in _lost(sample)]
    if format == "yolo":
        from halfpixel.data.formats.yolo import write_yolo

        return write_yolo(dataset, out, stems) + lost
    lost += _lost_classes(dataset)
    if format == "label_images":
        from halfpixel.data.formats.label_images import write_label_images

        return write_label_images(dataset, out, stems) + lost
    from halfpixel.data.formats.mask_folders import write_mask_folders

    write_mask_folders(dataset, out, stems)
    return lost


def _lost(sample: Sample) -> list[Fault]:
    """What only COCO has a place for."""
    from halfpixel.data.dataset import Fault

    regions = range(1, len(sample.ignored) + 1)
    lost = [Fault("crowd", sample.path, f"crowd region {k}", "left out", sample.path) for k in regions]
    if sample.attributes:
        names = ", ".join(sample.attributes)
        lost.append(Fault("attributes", sample.path, "", f"left out ({names})", sample.path))
    assert sample.objects.masks is not None, "data sets have masks"
    own = sample.objects.masks.areas_px().tolist()
    for number, area, given in zip(sample.annotation_ids, own, sample.areas_px.tolist(), strict=True):
        if area != given:
            what = f"those of the masks are taken instead ({area} for {given:g} px here)"
            lost.append(Fault("areas", sample.path, f"annotation {number}", what, sample.path))
    return lost


def _lost_classes(dataset: Dataset) -> list[Fault]:
    from halfpixel.data.dataset import Fault
    from halfpixel.data.formats.per_image_files import ONE_CLASS

    if dataset.class_names == (ONE_CLASS,):
        return []
    n = len(dataset.class_names)
    return [Fault("classes", dataset.path, "", f"{n} names left out, all objects become '{ONE_CLASS}'")]
