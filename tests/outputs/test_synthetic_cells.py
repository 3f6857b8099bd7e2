from pathlib import Path

import numpy as np
import torch

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.outputs.synthetic_cells import write_cells


def test_there_and_back(tmp_path: Path) -> None:
    images = [touching_cells((80, 90), 8, seed=seed) for seed in (1, 2)]
    dataset = read_coco(write_cells(tmp_path, images))
    for sample, cells in zip(dataset.samples, images, strict=True):
        assert np.array_equal(read_image(sample.path), cells.picture)
        assert sample.objects.masks is not None
        assert cells.objects.masks is not None
        assert torch.equal(sample.objects.masks.dense(), cells.objects.masks.dense())
