"""How much of an object survives on maps of a stride, were the network perfect.

Models whose masks are made of maps that all objects share see an object in cells of two, four or eight pixels. Here the
maps are as good as they can be: each cell holds the share of it that the object covers, as a logit, or only whether
that is more than half, as models learn it whose targets are cut at the maps' resolution. The masks are then drawn as
halfpixel draws them, and compared with the annotated ones.

    python benchmarks/map_strides.py val.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.ops.assemble import assemble
from halfpixel.structures.masks import CropMasks, SoftMasks

STRIDES = (2, 4, 8)
SMALL_PX = 150
SURE = 1e-4
"""A cell that is covered wholly, or not at all, is that sure of it."""


def drawn(mask: Tensor, offset_xy: tuple[int, int], stride: int, soft: bool) -> Tensor:
    """The object as it comes back from perfect maps, with two cells of background around it.

    Args:
        mask: `[h, w]` booleans, the object's crop.
        offset_xy: its first pixel in the image, where cells begin at multiples of the stride.
        stride: of the maps, in pixels.
        soft: cells hold shares; otherwise whether they are more than half covered.

    Returns:
        What is drawn on the crop, with margins that bring it to whole cells: see `padded`.
    """
    around = padded(mask, offset_xy, stride)
    shares = nn.functional.avg_pool2d(around[None, None].float(), stride)
    shares = shares if soft else (shares >= 0.5).float()
    box = CropMasks.from_dense(around[None]).boxes_xyxy()
    row = torch.zeros(1, dtype=torch.int64)
    (logits,) = assemble(torch.logit(shares, SURE), torch.ones(1, 1), row, box, stride, finer=stride)
    masks = CropMasks.from_soft(SoftMasks((logits.sigmoid(),), box), (around.shape[0], around.shape[1]))
    return masks.dense()[0]


def padded(mask: Tensor, offset_xy: tuple[int, int], stride: int) -> Tensor:
    """The crop in a frame of whole cells, two more on every side."""
    left, top = (2 * stride + start % stride for start in offset_xy)
    right, bottom = (
        2 * stride + -(near + side) % stride for near, side in ((left, mask.shape[1]), (top, mask.shape[0]))
    )
    return nn.functional.pad(mask, (left, right, top, bottom))


def overlaps(dataset: Dataset, stride: int, soft: bool) -> list[tuple[int, float]]:
    """Area in pixels and IoU of every annotated object."""
    found = []
    for sample in dataset.samples:
        assert sample.objects.masks is not None
        for crop, offset_xy in sample.objects.masks.placed():
            if crop.any():
                truth, seen = padded(crop, offset_xy, stride), drawn(crop, offset_xy, stride, soft)
                found.append((int(truth.sum()), float((truth & seen).sum() / (truth | seen).sum())))
    return found


def summary(found: list[tuple[int, float]]) -> dict[str, float]:
    """Median and tenth percentile of the IoU, of all and of the small ones."""
    areas, ious = np.array(found).reshape(-1, 2).T
    small = ious[areas < SMALL_PX]
    row = {"objects": float(len(ious)), "median": float(np.median(ious)), "p10": float(np.quantile(ious, 0.1))}
    if len(small):
        row |= {"small": float(len(small)), "small_median": float(np.median(small))}
    return row


def main() -> None:
    """Measure and print a line for each stride and kind of map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="annotated images, in any format that halfpixel reads")
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES)
    given = parser.parse_args()
    dataset = halfpixel.read_dataset(given.data)
    for stride in given.strides:
        for soft in (True, False):
            row = {"stride": stride, "cells": "shares" if soft else "more than half"}
            print(json.dumps(row | summary(overlaps(dataset, stride, soft))), flush=True)


if __name__ == "__main__":
    main()
