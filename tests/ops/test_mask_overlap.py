import time

import numpy as np
import pytest
import torch

from halfpixel.ops.mask_overlap import PlacedCrops, common_pixels, overlapping_boxes


def random_boxes(rng: np.random.Generator, n: int, side: int = 30) -> np.ndarray:
    """Some are empty, and many share an edge."""
    low = rng.integers(-5, side, (n, 2))
    return np.concatenate([low, low + rng.integers(0, 9, (n, 2))], axis=1)


def all_pairs(a: np.ndarray, b: np.ndarray) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, (x0, y0, x1, y1) in enumerate(a.tolist())
        for j, (u0, v0, u1, v1) in enumerate(b.tolist())
        if min(x1, u1) > max(x0, u0) and min(y1, v1) > max(y0, v0)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_sweep_finds_what_a_look_at_all_pairs_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, int(rng.integers(0, 60))), random_boxes(rng, int(rng.integers(0, 60)))
    rows, columns = overlapping_boxes(a, b)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == all_pairs(a, b)


def placed(rng: np.random.Generator, n: int) -> PlacedCrops:
    crops = []
    for left, top, right, bottom in random_boxes(rng, n).tolist():
        crops.append((torch.from_numpy(rng.random((bottom - top, right - left)) < 0.6), (left, top)))
    return PlacedCrops.of(crops)


def pixels_of(masks: PlacedCrops, k: int) -> set[tuple[int, int]]:
    rows, columns = np.nonzero(masks.crops[k])
    left, top = masks.boxes_xyxy[k, :2].tolist()
    return {(top + y, left + x) for y, x in zip(rows.tolist(), columns.tolist(), strict=True)}


@pytest.mark.parametrize("seed", range(10))
def test_common_pixels_against_sets_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = placed(rng, 25), placed(rng, 30)
    rows, columns, common = common_pixels(a, b)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    found = {pair: pixels for pair, pixels in zip(pairs, common.tolist(), strict=True) if pixels}
    truth = {
        (i, j): len(shared)
        for i in range(len(a))
        for j in range(len(b))
        if (shared := pixels_of(a, i) & pixels_of(b, j))
    }
    assert found == truth
    assert a.areas_px.tolist() == [len(pixels_of(a, k)) for k in range(len(a))]


def test_time_follows_what_overlaps_and_not_all_pairs() -> None:
    """A row of 20,000 boxes: all pairs would be 400 million."""
    left = np.arange(20_000) * 10
    boxes = np.stack([left, 0 * left, left + 11, 0 * left + 5], axis=1)
    start = time.process_time()
    rows, _ = overlapping_boxes(boxes, boxes)
    assert time.process_time() - start < 1
    assert len(rows) == 3 * 20_000 - 2
