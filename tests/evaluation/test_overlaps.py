import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, random_blobs

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.detection.overlaps import alike, areas_px, compared_by, intersections, iou_matrix
from halfpixel.structures.masks import CropMasks


def dense_iou(a: CropMasks, b: CropMasks) -> np.ndarray:
    """Oracle: full canvases."""
    x, y = a.dense().flatten(1).double(), b.dense().flatten(1).double()
    common = x @ y.T
    union = x.sum(1)[:, None] + y.sum(1)[None] - common
    return torch.where(union > 0, common / union.clamp(min=1), 0).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_iou_matrix_against_full_canvases(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = random_blobs(30, generator), random_blobs(20, generator)
    # moved partly off the canvas
    a, b = a.translate(-6, 4, a.size_hw), b.translate(7, -5, b.size_hw)
    found = iou_matrix(a, b)
    assert found.dtype == np.float32
    assert found.max() > 0.2
    np.testing.assert_allclose(found, dense_iou(a.masks, b.masks), atol=1e-7)


def test_iou_of_empty_masks_is_zero():
    empty = blocks([(3, 3, 3, 3), (4, 4, 6, 4)])
    full = blocks([(0, 0, 10, 10)])
    assert iou_matrix(empty, empty).tolist() == [[0, 0], [0, 0]]
    assert iou_matrix(full, empty).tolist() == [[0, 0]]
    assert iou_matrix(full, full[:0]).shape == (1, 0)


def test_iou_matrix_needs_one_canvas():
    with pytest.raises(ArgumentError, match=r"\(40, 50\) and \(7, 7\)"):
        iou_matrix(blocks([]), blocks([], size_hw=(7, 7)))


def test_400_by_400_objects_are_fast():
    generator = torch.Generator().manual_seed(0)
    a, b = (random_blobs(400, generator, (1000, 1000), longest=60) for _ in range(2))
    start = time.process_time()
    iou_matrix(a, b)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("seed", range(4))
def test_boxes_against_plain_arithmetic(seed):
    rng = np.random.default_rng(seed)
    corners = torch.from_numpy(np.sort(rng.uniform(0, 40, (25, 2, 2)), axis=1).reshape(25, 4))
    some = replace(random_blobs(25, torch.Generator().manual_seed(seed)), masks=None, boxes_xyxy=corners.float())
    a, b = some[:12], some[12:]
    found, (common, a_px, b_px) = iou_matrix(a, b), intersections(a, b)
    for i, (x0, y0, x1, y1) in enumerate(a.boxes_xyxy.tolist()):
        for j, (u0, v0, u1, v1) in enumerate(b.boxes_xyxy.tolist()):
            shared = max(min(x1, u1) - max(x0, u0), 0) * max(min(y1, v1) - max(y0, v0), 0)
            both = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
            assert common[i, j] == pytest.approx(shared, abs=1e-4)
            assert found[i, j] == pytest.approx(shared / both, abs=1e-6)
    assert a_px == pytest.approx(areas_px(a, "box"))
    assert b_px == pytest.approx(areas_px(b, "mask"))  # there are none


def test_whole_rectangles_overlap_alike_by_masks_and_boxes():
    a = blocks([(0, 0, 10, 10), (3, 4, 20, 9), (2, 2, 2, 2)])
    b = blocks([(5, 5, 15, 15), (0, 0, 10, 10), (30, 30, 40, 40)])
    expected = intersections(a, b)
    for by_boxes in ((replace(a, masks=None), b), (a, replace(b, masks=None))):
        for found, wanted in zip(intersections(*by_boxes), expected, strict=True):
            assert found.tolist() == wanted.tolist()


def test_what_objects_are_compared_by():
    with_masks = blocks([(0, 0, 10, 10)])
    without = replace(with_masks, masks=None)
    assert compared_by([with_masks, with_masks[:0]]) == "mask"
    assert compared_by([with_masks, without[:0]]) == "mask"  # an image without objects says nothing
    assert compared_by([with_masks, without]) == "box"
    assert [one.masks for one in alike(with_masks, without)] == [None, None]
    assert [len(one.masks) for one in alike(with_masks, without[:0])] == [1, 0]
