"""Label images: one integer image a picture, in which each pixel holds the number of its object and 0 is background.

Cellpose puts `NAME_masks.png` beside `NAME.png` (https://cellpose.readthedocs.io/en/latest/inputs.html); others keep a
folder `masks` or `labels` beside `images`, with files of the same names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from skimage.measure import label

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.mask_files import files_in, read_size_hw
from halfpixel.data.formats.mask_values import read_mask
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import InputError
from halfpixel.structures.masks import CropMasks

ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_gtFine_instanceIds")
"""What a mask's name may have more than its image's."""
IMAGE_ENDINGS = ("_img", "_leftImg8bit")
"""What an image's name may have more than its mask's."""
FOLDERS = ("masks", "labels", "PedMasks", "SegmentationObject")
IMAGE_FOLDERS = ("images", "PNGImages", "JPEGImages")


def read_label_images(path: Path, images: Path | None = None) -> Dataset:
    """Read label images of whole numbers, PNG or TIFF (of a palette image the indices).

    Each positive number in a file is one object, also where its pixels do not hang together; what `read_mask` makes of
    files from elsewhere comes with an issue. There is one class, `object`. Left out with an issue are files that are
    broken, have colours or are of another size than their image (`unusable_file`), images without masks
    (`image_without_annotation`) and masks without images (`annotation_without_image`).

    Args:
        path: a folder with `images/` and `masks/` or `labels/`, or with pairs such as `a.png` and `a_masks.tif`.
        images: the folder of the images, if it is elsewhere.

    Raises:
        AnnotationError: nothing in the folder can be used.
    """
    issues: list[Issue] = []
    pairs = dict(pair_masks(Path(path), images, issues))

    def read(image: Path) -> Annotated:
        values = read_mask(pairs[image], read_size_hw(image), image)
        issues.extend(values.issues)
        masks = CropMasks.from_label_image(torch.from_numpy(values.numbers))
        return Annotated(image, masks, [ONE_CLASS] * len(masks), values.ignored)

    return read_each(Path(path), list(pairs), read, issues, [ONE_CLASS])


def pair_masks(path: Path, images: Path | None = None, issues: list[Issue] | None = None) -> list[tuple[Path, Path]]:
    """Each image of a folder and its mask file, in natural order; what is left over is added to `issues`."""
    mask_folder = next((path / name for name in FOLDERS if (path / name).is_dir()), path)
    image_folder = images or next((path / name for name in IMAGE_FOLDERS if (path / name).is_dir()), path)
    apart = mask_folder.resolve() != image_folder.resolve()
    masks: dict[str, Path] = {}
    for file in files_in(mask_folder):
        name = file.relative_to(mask_folder).with_suffix("").as_posix()
        ending = next((one for one in ENDINGS if name.endswith(one)), None)
        if apart:
            masks[name] = file
        if ending is not None:
            masks.setdefault(name.removesuffix(ending), file)
    taken = set(masks.values())
    pairs, used = [], set()
    for file in files_in(image_folder):
        if not apart and file in taken:
            continue
        name = file.relative_to(image_folder).with_suffix("").as_posix()
        names = (name, *(name.removesuffix(one) for one in IMAGE_ENDINGS))
        mask = next((masks[one] for one in names if one in masks), None)
        if mask is not None:
            pairs.append((file, mask))
            used.add(mask)
        elif issues is not None:
            issues.append(Issue("image_without_annotation", file, "", "left out, it has no mask file", file))
    if issues is not None:
        left = [one for one in dict.fromkeys(masks.values()) if one not in used]
        issues += [Issue("annotation_without_image", one, "", "left out, it has no image") for one in left]
    return pairs


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    pairs = [] if "mask_folders" in found else pair_masks(folder, images)
    return bool(pairs) and _could_be_objects([mask for _, mask in pairs])


def _could_be_objects(masks: Sequence[Path]) -> bool:
    """Whether the numbers in mask files are those of objects, as far as the files can be used."""
    values: set[int] = set()
    apart = False
    for file in masks:
        with contextlib.suppress(InputError):  # the reader names what is broken
            mask = read_mask(file)
            if any(one.kind == "stuff_region" for one in mask.issues):  # Cityscapes counts objects
                return True
            array = mask.numbers
            found = np.unique(array[array > 0]).tolist()
            values.update(found)
            if len(values) > 2:
                return True
            apart = apart or int(label(array, connectivity=2).max()) > len(found)
    return not apart and values <= {1, 2}


READER = Reader(
    name="label_images",
    layout="masks/ or labels/ beside images/, or a_masks.png beside a.png",
    read=read_label_images,
    fits_folder=_fits_folder,
)
