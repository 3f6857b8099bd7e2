import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.detection.overlaps import (
    areas_px,
    intersections,
    iou_matrix,
    kind_of_comparison,
    reduced_to,
)
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
    """Oracle: one pair after the other, with the numbers of half-open boxes."""
    rng = np.random.default_rng(seed)
    corners = torch.from_numpy(np.sort(rng.uniform(0, 40, (25, 2, 2)), axis=1).reshape(25, 4))
    some = replace(random_blobs(25, torch.Generator().manual_seed(seed)), boxes_xyxy=corners.float())
    a, b = some[:12], replace(some[12:], masks=None)  # a's masks play no part
    found, (common, a_px, b_px) = iou_matrix(a, b, "box"), intersections(a, b, "box")
    for i, (x0, y0, x1, y1) in enumerate(a.boxes_xyxy.tolist()):
        for j, (u0, v0, u1, v1) in enumerate(b.boxes_xyxy.tolist()):
            shared = max(min(x1, u1) - max(x0, u0), 0) * max(min(y1, v1) - max(y0, v0), 0)
            both = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
            assert common[i, j] == pytest.approx(shared, abs=1e-4)
            assert found[i, j] == pytest.approx(shared / both, abs=1e-6)
    assert found.max() > 0.1
    assert a_px == pytest.approx(areas_px(a, "box"))
    assert b_px == pytest.approx([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in b.boxes_xyxy.tolist()])


def test_whole_rectangles_overlap_the_same_by_masks_and_boxes():
    a = blocks([(0, 0, 10, 10), (3, 4, 20, 9), (2, 2, 2, 2)])
    b = blocks([(5, 5, 15, 15), (0, 0, 10, 10), (30, 30, 40, 40)])
    for found, wanted in zip(intersections(a, b, "box"), intersections(a, b), strict=True):
        assert found.tolist() == wanted.tolist()


def test_boxes_are_no_masks():
    a = blocks([(0, 0, 10, 10)])
    for pair in ((a, replace(a, masks=None)), (replace(a, masks=None), a)):
        with pytest.raises(ArgumentError, match="these 1 objects have boxes only"):
            iou_matrix(*pair)
    assert iou_matrix(a, replace(a, masks=None)[:0]).shape == (1, 0)  # nothing has no masks, either


def test_one_kind_for_a_whole_comparison():
    masks, nothing = blocks([(0, 0, 10, 10)]), blocks([], masks=False)
    boxes = replace(masks, masks=None)
    data = dataset(sample(masks), sample(masks, 2))
    assert kind_of_comparison(data, [masks, masks[:0]]) == "mask"
    assert kind_of_comparison(data, [masks, nothing]) == "mask"  # an image without objects says nothing
    assert kind_of_comparison(data, [boxes, nothing]) == "box"
    assert kind_of_comparison(data, [nothing, nothing]) == "box"  # a model without masks that found nothing
    assert kind_of_comparison(data, [masks, masks], [boxes, boxes]) == "box"
    assert kind_of_comparison(dataset(sample(masks), replace(sample(masks, 2), objects=boxes)), [masks] * 2) == "box"
    assert kind_of_comparison(dataset(sample(masks, ignored=boxes)), [masks]) == "box"


def test_objects_reduced_to_what_they_are_compared_by():
    masks = blocks([(0, 0, 10, 10)])
    assert reduced_to("box", masks).masks is None
    assert reduced_to("mask", masks).masks is masks.masks
    assert len(reduced_to("mask", blocks([], masks=False)).masks) == 0
