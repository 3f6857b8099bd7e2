"""Label images: one integer image a picture, in which each pixel holds the number of its object and 0 is background.

Cellpose puts `NAME_masks.png` beside `NAME.png` (https://cellpose.readthedocs.io/en/latest/inputs.html); others keep a
folder `masks` or `labels` beside `images`, with files of the same names.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import Image

from halfpixel.data.dataset import Dataset, Fault
from halfpixel.data.formats.mask_files import copy_image, files_in, read_labels, read_size_hw
from halfpixel.data.formats.per_image_files import ONE_CLASS, Annotated, gather
from halfpixel.structures.masks import CropMasks

ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
"""What a mask's name may have more than its image's."""
FOLDERS = ("masks", "labels")
MOST_IN_16_BITS = (1 << 16) - 1


def read_label_images(path: Path, images: Path | None = None) -> Dataset:
    """Read label images of 8, 16 or 32 bits, PNG or TIFF (of a palette image the indices).

    Each positive number in a file is one object, also where its pixels do not hang together. There is one class,
    `object`. Left out with a fault are files that are broken, have colours or are of another size than their image
    (`unusable_file`), images without masks (`image_without_annotation`) and masks without images
    (`annotation_without_image`).

    Args:
        path: a folder with `images/` and `masks/` or `labels/`, or with pairs such as `a.png` and `a_masks.tif`.
        images: the folder of the images, if it is elsewhere.

    Raises:
        AnnotationError: nothing in the folder can be used.
    """
    faults: list[Fault] = []
    pairs = dict(pair_masks(Path(path), images, faults))

    def read(image: Path) -> Annotated:
        masks = CropMasks.from_label_image(torch.from_numpy(read_labels(pairs[image], read_size_hw(image))))
        return Annotated(image, masks, [ONE_CLASS] * len(masks))

    return gather(Path(path), list(pairs), read, faults, [ONE_CLASS])


def pair_masks(path: Path, images: Path | None = None, faults: list[Fault] | None = None) -> list[tuple[Path, Path]]:
    """Each image of a folder and its mask file, in natural order; what is left over is added to `faults`."""
    mask_folder = next((path / name for name in FOLDERS if (path / name).is_dir()), path)
    image_folder = images or (path / "images" if (path / "images").is_dir() else path)
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
        mask = masks.get(name) or masks.get(name.removesuffix("_img"))
        if mask is not None:
            pairs.append((file, mask))
            used.add(mask)
        elif faults is not None:
            faults.append(Fault("image_without_annotation", file, "", "left out, it has no mask file", file))
    if faults is not None:
        left = [one for one in dict.fromkeys(masks.values()) if one not in used]
        faults += [Fault("annotation_without_image", one, "", "left out, it has no image") for one in left]
    return pairs


def write_label_images(dataset: Dataset, out: Path, stems: Sequence[str]) -> list[Fault]:
    """Copy the images to `out/images/` and write label images to `out/masks/`: 16-bit PNG, else 32-bit TIFF.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders.

    Returns:
        What a label image cannot hold: objects that overlap (`overlap`: the later one is on top) and objects that are
        hidden altogether (`hidden`).
    """
    lost = []
    for sample, stem in zip(dataset.samples, stems, strict=True):
        masks = sample.objects.masks
        assert masks is not None, "data sets have masks"
        labels = masks.label_image(order=range(len(masks))).numpy()
        suffix, data = label_file(labels, len(masks))
        copy_image(sample.path, out, stem)
        file = out / "masks" / f"{stem}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        areas, left = masks.areas_px().tolist(), np.bincount(labels.ravel(), minlength=len(masks) + 1)[1:].tolist()
        for number, area, shown in zip(sample.annotation_ids, areas, left, strict=True):
            if shown < area:
                kind, what = ("overlap", "the later one is on top") if shown else ("hidden", "lost under later ones")
                lost.append(Fault(kind, sample.path, f"annotation {number}", what, sample.path))
    return lost


def label_file(labels: npt.NDArray[np.int32], n_objects: int) -> tuple[str, bytes]:
    """A label image `[h, w]` as the suffix and bytes of a file: 16-bit PNG, or 32-bit TIFF where that is too small."""
    file = io.BytesIO()
    if n_objects <= MOST_IN_16_BITS:
        Image.fromarray(labels.astype(np.uint16)).save(file, "PNG")
        return ".png", file.getvalue()
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib")
    return ".tif", file.getvalue()
