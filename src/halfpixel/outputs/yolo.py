"""YOLO segmentation written: `images/`, `labels/` with one line an object, and `data.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml  # type: ignore[import-untyped]
from scipy.ndimage import binary_fill_holes
from scipy.spatial import cKDTree

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.yolo import label_file_of
from halfpixel.outputs.dataset_writer import DatasetWriter, copy_image, lost_beside_masks
from halfpixel.structures.masks import CropMasks, Ring


def write_yolo(dataset: Dataset, out: Path, stems: Sequence[str]) -> list[Issue]:
    """Copy the images to `out/images/` and write `out/labels/` and `out/data.yaml`.

    An outline runs halfway between the centres of the object's outermost pixels and their neighbours; read again, it
    gives the same pixels. Several parts of an object are joined by lines of no width, as Ultralytics' own converter
    does it.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders.

    Returns:
        What is not kept: holes (`holes`: filled), several parts (`parts`: joined), and what `lost_beside_masks` says.
    """
    lost = []
    for sample, stem in zip(dataset.samples, stems, strict=True):
        copy_image(sample.path, out, stem)
        labels = out / label_file_of(Path("images") / f"{stem}.png")
        lines = []
        assert sample.objects.masks is not None, "data sets have masks"
        filled, n_filled = _fill(sample.objects.masks)
        scale = np.array(sample.size_hw[::-1], dtype=np.float64)
        polygons = zip(filled.polygons(), n_filled, sample.objects.labels.tolist(), sample.annotation_ids, strict=True)
        for parts, n_hole, label, annotation_id in polygons:
            where = f"annotation {annotation_id}"
            if n_hole:
                lost.append(Issue("holes", sample.path, where, f"filled ({n_hole} px here)", sample.path))
            if len(parts) > 1:
                what = f"joined by lines of no width ({len(parts)} parts here)"
                lost.append(Issue("parts", sample.path, where, what, sample.path))
            outline = (_join([part[0] for part in parts]) / scale).ravel().tolist()
            lines.append(" ".join([str(label), *(f"{value:.9g}" for value in outline)]) + "\n")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(lines), encoding="utf-8")
    content = {"train": "images", "val": "images", "names": dict(enumerate(dataset.class_names))}
    (out / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return lost + lost_beside_masks(dataset)


def _fill(masks: CropMasks) -> tuple[CropMasks, list[int]]:
    """The masks without holes, and how many pixels that added to each."""
    around = np.ones((3, 3), dtype=np.bool_)  # background hangs together over corners
    crops = [(binary_fill_holes(crop.numpy(), around), offset_xy) for crop, offset_xy in masks.placed()]
    added = [
        int(np.count_nonzero(crop)) - area for (crop, _), area in zip(crops, masks.areas_px().tolist(), strict=True)
    ]
    return CropMasks.from_crops(crops, masks.size_hw), added


def _join(rings: Sequence[Ring]) -> npt.NDArray[np.float64]:
    """One outline of several: from its nearest point to each further ring, around it, and back the same way."""
    path = rings[0]
    for ring in rings[1:]:
        distances, nearest = cKDTree(ring).query(path)
        here = int(np.argmin(distances))
        there = int(nearest[here])
        path = np.concatenate([path[: here + 1], ring[there:], ring[: there + 1], path[here:]])
    return path


WRITER = DatasetWriter("yolo", write_yolo)
