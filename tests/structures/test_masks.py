"""CropMasks against dense canvases, which are slow and plain."""

import hotcoco.mask
import numpy as np
import pytest
import torch
from skimage.measure import grid_points_in_poly
from torch import Tensor

from halfpixel.ops import rle
from halfpixel.structures.masks import CropMasks, Ring, SoftMasks

SIZE_HW = (24, 31)


def random_dense(n: int = 12, seed: int = 0) -> Tensor:
    """Blobs with holes and parts, some cut by the canvas, one empty, one full, one of a single pixel."""
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE_HW
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    dense = torch.zeros(n, height, width, dtype=torch.bool)
    for mask in dense:
        for _ in range(2):
            cx, cy, radius = (torch.rand(3, generator=generator) * torch.tensor([width, height, 8])).tolist()
            distance = ((x - cx) ** 2 + (y - cy) ** 2).sqrt()
            mask |= (distance < radius + 1) & (distance > radius * 0.4)
    dense[0] = False
    dense[1] = True
    dense[2] = False
    dense[2, 5, 6] = True
    return dense


def soft_masks(boxes: list[list[float]], alignment: str = "half_pixel") -> SoftMasks:
    probabilities = torch.rand(len(boxes), 28, 28, generator=torch.Generator().manual_seed(0))
    return SoftMasks(probabilities.unbind(), torch.tensor(boxes), alignment)


@pytest.fixture
def dense() -> Tensor:
    return random_dense()


@pytest.fixture
def masks(dense: Tensor) -> CropMasks:
    return CropMasks.from_dense(dense)


def test_dense_and_back(dense: Tensor, masks: CropMasks) -> None:
    assert torch.equal(masks.dense(), dense)
    assert len(masks) == 12
    assert torch.equal(masks.areas_px(), dense.sum((1, 2)))
    assert masks.crops[0].numel() == 0
    assert masks.crops[2].shape == (1, 1)


def test_crops_do_not_hold_on_to_the_canvas(dense: Tensor, masks: CropMasks) -> None:
    before = masks.dense()
    dense.logical_not_()
    assert torch.equal(masks.dense(), before)


def test_boxes_are_tight(dense: Tensor, masks: CropMasks) -> None:
    for mask, box in zip(dense, masks.boxes_xyxy().tolist(), strict=True):
        y, x = torch.nonzero(mask, as_tuple=True)
        if len(x):
            assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        else:
            assert box[0] == box[2]
            assert box[1] == box[3]


def test_boxes_ignore_empty_margins() -> None:
    crop = torch.zeros(6, 7, dtype=torch.bool)
    crop[2, 3:5] = True
    masks = CropMasks((crop,), torch.tensor([[10, 4]]), SIZE_HW)
    assert masks.boxes_xyxy().tolist() == [[13, 6, 15, 7]]


def test_no_masks() -> None:
    none = CropMasks.empty(SIZE_HW)
    assert len(none) == 0
    assert none.dense().shape == (0, *SIZE_HW)
    assert none.areas_px().shape == (0,)
    assert none.boxes_xyxy().shape == (0, 4)
    assert not none.label_image().any()
    assert none.rles() == []
    assert none.polygons() == []
    assert none.resize((5, 5)).dense().shape == (0, 5, 5)
    assert len(CropMasks.from_dense(torch.zeros(0, 4, 5, dtype=torch.bool))) == 0


def test_crops_and_their_company_must_match() -> None:
    crop, offset = torch.ones(2, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="2 crops but 1 offsets"):
        CropMasks((crop, crop), offset, SIZE_HW)
    with pytest.raises(ValueError, match="1 crops but 2 probability maps"):
        CropMasks((crop,), offset, SIZE_HW, soft=soft_masks(BOXES[:2]))


# COCO run lengths ---------------------------------------------------------------------------------------------------


def test_run_lengths_equal_hotcoco(dense: Tensor, masks: CropMasks) -> None:
    for mask, found in zip(dense.numpy(), masks.rles(), strict=True):
        expected = hotcoco.mask.encode(np.asfortranarray(mask))
        assert found == {"size": list(SIZE_HW), "counts": expected["counts"].decode("ascii")}


def test_run_lengths_and_back(dense: Tensor, masks: CropMasks) -> None:
    counts = [rle.decompress(one["counts"]) for one in masks.rles()]
    assert torch.equal(CropMasks.from_rle(counts, SIZE_HW).dense(), dense)


# Label images -------------------------------------------------------------------------------------------------------


def test_label_image_and_back() -> None:
    labels = torch.zeros(SIZE_HW, dtype=torch.int32)
    labels[2:6, 3:9] = 7
    labels[3:5, 4:6] = 0  # a hole
    labels[10, 30] = 2
    labels[20:24, 0:2] = 900
    labels[0:2, 28:31] = 900  # a second part
    labels[15, 15] = -1  # ignored by everybody who uses negative numbers
    masks = CropMasks.from_label_image(labels)
    assert torch.equal(masks.dense(), torch.stack([labels == 2, labels == 7, labels == 900]))
    back = masks.label_image()
    assert back.dtype == torch.int32
    assert torch.equal(back, 1 * (labels == 2) + 2 * (labels == 7) + 3 * (labels == 900))


@pytest.mark.parametrize("shape", [(4, 5), (0, 5), (4, 0)])
def test_label_image_of_nothing(shape: tuple[int, int]) -> None:
    assert len(CropMasks.from_label_image(torch.zeros(shape, dtype=torch.int64))) == 0


def test_the_first_mask_is_painted_on_top(dense: Tensor, masks: CropMasks) -> None:
    on_top = torch.zeros(SIZE_HW, dtype=torch.int32)
    for k in reversed(range(len(dense))):
        on_top[dense[k]] = k + 1
    assert torch.equal(masks.label_image(), on_top)
    assert torch.equal(masks.label_image(order=[1, 2]), 2 * dense[1] + dense[2].int())


# Moving, choosing, scaling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 5), (-4, -2), (30, -23), (40, 0), (0, -50)])
@pytest.mark.parametrize("size_hw", [None, (10, 12), (60, 70)])
def test_translate_moves_and_cuts(
    dense: Tensor, masks: CropMasks, dx: int, dy: int, size_hw: tuple[int, int] | None
) -> None:
    moved = masks.translate(dx, dy, size_hw)
    height, width = size_hw or SIZE_HW
    expected = torch.zeros(len(dense), height, width, dtype=torch.bool)
    for k, i, j in torch.nonzero(dense).tolist():
        if 0 <= i + dy < height and 0 <= j + dx < width:
            expected[k, i + dy, j + dx] = True
    assert torch.equal(moved.dense(), expected)
    assert torch.equal(moved.areas_px(), expected.sum((1, 2)))
    assert all(one["size"] == [height, width] for one in moved.rles())
    back = moved.translate(-dx, -dy, SIZE_HW)
    assert torch.equal(back.dense(), dense), "cutting must not lose what lies outside"


def test_translate_copies_nothing(masks: CropMasks) -> None:
    moved = masks.translate(5, 5)
    assert moved.crops is masks.crops
    assert moved.offsets_xy is masks.offsets_xy


def test_choosing(dense: Tensor) -> None:
    masks = CropMasks.from_dense(dense)
    by_number = torch.tensor([3, 1, 1])
    by_truth = torch.arange(12) % 3 == 0
    assert torch.equal(masks[by_number].dense(), dense[by_number])
    assert torch.equal(masks[by_truth].dense(), dense[by_truth])
    assert len(masks[torch.zeros(12, dtype=torch.bool)]) == 0
    assert torch.equal(masks.translate(2, 1)[by_number].dense(), masks.translate(2, 1).dense()[by_number])


@pytest.mark.parametrize("size_hw", [(48, 62), (24, 31), (12, 15), (37, 19), (100, 8), (1, 1)])
@pytest.mark.parametrize("shift_xy", [(0, 0), (-6, 4)])
def test_resize_equals_resizing_the_canvas(
    masks: CropMasks, size_hw: tuple[int, int], shift_xy: tuple[int, int]
) -> None:
    masks = masks.translate(*shift_xy)
    values = torch.nn.functional.interpolate(masks.dense()[None].double(), size_hw, mode="bilinear")[0]
    unclear = (values - 0.5).abs() < 1e-5
    found = masks.resize(size_hw)
    assert found.size_hw == size_hw
    assert torch.equal(found.dense() | unclear, (values > 0.5) | unclear)
    assert unclear.float().mean() < 0.1
    crop_pixels = sum(crop.numel() for crop in found.crops[2:])
    assert crop_pixels < 0.8 * len(masks) * size_hw[0] * size_hw[1] or size_hw == (1, 1), "crops, not canvases"


def test_resize_keeps_areas_in_proportion() -> None:
    disc = torch.zeros(1, 60, 60, dtype=torch.bool)
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    disc[0] = (x - 29.5) ** 2 + (y - 29.5) ** 2 < 20**2
    masks = CropMasks.from_dense(disc)
    for factor in (0.5, 2, 3):
        area = masks.resize((int(60 * factor), int(60 * factor))).areas_px().item()
        assert area == pytest.approx(masks.areas_px().item() * factor**2, rel=0.03)


# Probability maps ---------------------------------------------------------------------------------------------------

BOXES = [[2.3, 3.1, 14.8, 20.2], [10.0, 0.0, 31.0, 24.0], [4.0, 4.0, 4.2, 4.1]]


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
def test_thresholds_after_the_fact(alignment: str) -> None:
    soft = soft_masks(BOXES, alignment)
    masks = CropMasks.from_soft(soft, SIZE_HW)
    assert torch.equal(masks.at_threshold(0.5).dense(), masks.dense())
    low, high = masks.at_threshold(0.2), masks.at_threshold(0.8)
    assert (low.areas_px() >= masks.areas_px()).all()
    assert low.areas_px().sum() > masks.areas_px().sum() > high.areas_px().sum() > 0
    assert torch.equal(low.dense(), CropMasks.from_soft(soft, SIZE_HW, 0.2).dense())
    assert torch.equal(low.at_threshold(0.8).dense(), high.dense())


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
@pytest.mark.parametrize(("shift_xy", "size_hw"), [((5, 7), (60, 60)), ((-9, -3), (60, 60)), ((-9, -12), (8, 10))])
def test_thresholds_after_moving(alignment: str, shift_xy: tuple[int, int], size_hw: tuple[int, int]) -> None:
    masks = CropMasks.from_soft(soft_masks(BOXES, alignment), SIZE_HW)
    moved = masks.translate(*shift_xy, size_hw)
    assert moved.areas_px().any()
    assert torch.equal(moved.at_threshold(0.5).dense(), moved.dense())
    expected = masks.at_threshold(0.3).translate(*shift_xy, size_hw)
    assert torch.equal(moved.at_threshold(0.3).dense(), expected.dense())


def test_choosing_takes_the_probabilities_along() -> None:
    masks = CropMasks.from_soft(soft_masks(BOXES), SIZE_HW)
    chosen = torch.tensor([1, 0])
    assert torch.equal(masks[chosen].at_threshold(0.3).dense(), masks.at_threshold(0.3).dense()[chosen])


def test_annotated_masks_have_no_thresholds(masks: CropMasks) -> None:
    with pytest.raises(ValueError, match="no probabilities"):
        masks.at_threshold(0.3)


# Polygons -----------------------------------------------------------------------------------------------------------


def filled(parts: list[list[Ring]], size_hw: tuple[int, int]) -> np.ndarray:
    """Even-odd filling at pixel centres."""
    canvas = np.zeros(size_hw, dtype=bool)
    for part in parts:
        for ring in part:
            canvas ^= grid_points_in_poly(size_hw, ring[:, ::-1] - 0.5)
    return canvas


def test_filling_the_outlines_gives_the_mask_back(dense: Tensor, masks: CropMasks) -> None:
    for mask, parts in zip(dense.numpy(), masks.polygons(), strict=True):
        np.testing.assert_array_equal(filled(parts, SIZE_HW), mask)


def test_noise_survives_the_outlines() -> None:
    noise = torch.rand(5, *SIZE_HW, generator=torch.Generator().manual_seed(3)) < 0.6
    for mask, parts in zip(noise.numpy(), CropMasks.from_dense(noise).polygons(), strict=True):
        np.testing.assert_array_equal(filled(parts, SIZE_HW), mask)


def test_holes_belong_to_their_part_and_islands_are_parts() -> None:
    mask = torch.zeros(1, 30, 30, dtype=torch.bool)
    mask[0, 2:20, 2:20] = True
    mask[0, 5:17, 5:17] = False  # a hole
    mask[0, 8:14, 8:14] = True  # an island in it
    mask[0, 10:12, 10:12] = False  # with a pond
    mask[0, 25:28, 25:28] = True  # far away
    (parts,) = CropMasks.from_dense(mask).polygons()
    extents = {tuple(part[0].min(0)): [tuple(hole.min(0)) for hole in part[1:]] for part in parts}
    assert extents == {(2.0, 2.0): [(5.0, 5.0)], (8.0, 8.0): [(10.0, 10.0)], (25.0, 25.0): []}


def test_outlines_lie_on_pixel_borders_and_move_along() -> None:
    mask = torch.zeros(1, *SIZE_HW, dtype=torch.bool)
    mask[0, 3:7, 10:20] = True
    masks = CropMasks.from_dense(mask)
    ((ring,),) = masks.polygons()[0]
    assert ring.min(0).tolist() == [10.0, 3.0]
    assert ring.max(0).tolist() == [20.0, 7.0]
    ((moved,),) = masks.translate(-2, 4).polygons()[0]
    np.testing.assert_array_equal(moved, ring + np.array([-2, 4]))


def test_touching_corners_are_separate_parts() -> None:
    mask = torch.eye(3, dtype=torch.bool)[None]
    (parts,) = CropMasks.from_dense(mask).polygons()
    assert [len(part) for part in parts] == [1, 1, 1]
