"""A small COCO data set and predictions for it, for the tests of readers and writers."""

import json
from pathlib import Path

import hotcoco.mask as hotcoco_mask
import numpy as np
import torch

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

HEIGHT, WIDTH = 12, 16
SQUARE = [3.0, 2.0, 9.0, 2.0, 9.0, 8.0, 3.0, 8.0]  # 6 x 6 pixels from (3, 2)
CANVAS = np.zeros((HEIGHT, WIDTH), np.uint8)
CANVAS[4:7, 10:15] = 1
UNCOMPRESSED = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT + 4] + [3, 9] * 4 + [3, HEIGHT + 5]}
COMPRESSED = {"size": [HEIGHT, WIDTH], "counts": hotcoco_mask.encode(CANVAS)["counts"].decode()}
DATA_SET = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, "modality": "grey-dark"},
        {"id": 3, "file_name": "sub/b.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "segmentation": [SQUARE], "bbox": [2.5, 2, 6.75, 6], "area": 36.5},
        {"id": 2, "image_id": 7, "category_id": 4, "segmentation": UNCOMPRESSED, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 4, "segmentation": COMPRESSED, "iscrowd": 0},
    ],
    "categories": [{"id": 9, "name": "cell"}, {"id": 4, "name": "tree"}],
}


def saved(folder: Path, content: object, name: str = "instances.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def some_predictions(seed: int, n: int, class_names: tuple[str, ...] = ("tree", "cell")) -> Instances:
    rng = np.random.default_rng(seed)
    corners = rng.random((n, 4)).astype(np.float32) * 6
    return Instances(
        size_hw=(HEIGHT, WIDTH),
        boxes_xyxy=torch.from_numpy(corners + np.array([0, 0, 6, 6], np.float32)),
        scores=torch.from_numpy(np.sort(rng.random(n).astype(np.float32))[::-1].copy()),
        labels=torch.from_numpy(rng.integers(0, 2, n)),
        class_names=class_names,
        masks=CropMasks.from_dense(torch.from_numpy(rng.random((n, HEIGHT, WIDTH)) > 0.6)),
    )
