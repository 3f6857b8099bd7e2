"""Small annotated images for the tests of all formats."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from halfpixel.structures.masks import CropMasks

HEIGHT, WIDTH = 24, 32


def write_picture(path: Path, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(path)
    return path


def write_array(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def squares(*corners_xy: tuple[int, int], side: int = 5) -> np.ndarray:
    """Boolean masks `[n, h, w]` of squares."""
    masks = np.zeros((len(corners_xy), HEIGHT, WIDTH), dtype=bool)
    for mask, (x, y) in zip(masks, corners_xy, strict=True):
        mask[y : y + side, x : x + side] = True
    return masks


def write_coco_file(folder: Path, masks_of_images: list[np.ndarray], **of_first: object) -> Path:
    """A COCO data set: object k of an image belongs to category 5 or 9 in turn; `of_first` changes annotation 1."""
    import torch

    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 5, "name": "cell"}, {"id": 9, "name": "größe: 1"}]
    for k, masks in enumerate(masks_of_images, start=1):
        write_picture(folder / "images" / f"{k}.png")
        content["images"].append({"id": 10 * k, "file_name": f"{k}.png", "width": WIDTH, "height": HEIGHT})
        for n, rle in enumerate(CropMasks.from_dense(torch.from_numpy(masks)).rles()):
            number = len(content["annotations"]) + 1
            entry = {"id": number, "image_id": 10 * k, "category_id": (5, 9)[n % 2], "segmentation": rle}
            content["annotations"].append(entry | (of_first if number == 1 else {}))
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def dense(sample) -> np.ndarray:
    return sample.objects.masks.dense().numpy()


def kinds(dataset) -> list[str]:
    return [issue.kind for issue in dataset.warnings]
