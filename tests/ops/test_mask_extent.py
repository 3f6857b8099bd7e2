"""Boxes and areas of what a frame shows of a mask, against many points in every pixel."""

import pytest
import torch
from oracles.seen import box_of, seen_mask
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.boxes import iou
from halfpixel.ops.mask_extent import covers, visible_extents

FRAME_HW = (32, 40)


def blob(seed: int, side: int = 30) -> Tensor:
    """A slanted ellipse, with a hole."""
    generator = torch.Generator().manual_seed(seed)
    angle, long, short = (torch.rand(3, generator=generator) * torch.tensor([180.0, 5.0, 3.0])).tolist()
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    points = affine.apply(affine.rotate(angle), torch.stack([x, y], -1) - side / 2)
    mask = (points[..., 0] / (9 + long)) ** 2 + (points[..., 1] / (3 + short)) ** 2 < 1
    mask[side // 2, side // 2] = False
    return mask


def looking(angle: float, zoom: float, dx: float, dy: float) -> Tensor:
    """From the frame's middle to (dx, dy) of the mask."""
    centre = affine.shift(-FRAME_HW[1] / 2, -FRAME_HW[0] / 2)
    return affine.compose(affine.shift(dx, dy), affine.rotate(angle), affine.scale(1 / zoom, 1 / zoom), centre)


def visible_extent(mask: Tensor, to_crop: Tensor, frame_hw: tuple[int, int]) -> tuple[Tensor, float]:
    """Of one mask whose image it is."""
    boxes, areas = visible_extents([mask], torch.zeros(1, 2, dtype=torch.int64), to_crop, frame_hw)
    return boxes[0], float(areas[0])


@pytest.mark.parametrize("angle", [0, 90, 30, 45, 137.0])
@pytest.mark.parametrize("zoom", [0.4, 1.0, 2.7])
@pytest.mark.parametrize(("dx", "dy"), [(15, 15), (2, 4), (29, 15)])
def test_against_many_points(angle: float, zoom: float, dx: float, dy: float) -> None:
    for seed in range(2):
        mask, to_crop = blob(seed), looking(angle, zoom, dx, dy)
        seen = seen_mask(mask, to_crop, FRAME_HW)
        box, area = visible_extent(mask, to_crop, FRAME_HW)
        if not seen.any():
            assert area == 0
            continue
        # a thin tip may pass between the points
        assert (box - box_of(seen)).abs().max() < 0.5
        assert iou(box[None], box_of(seen).double()[None]) > 0.93
        assert area == pytest.approx(float(seen.sum()) / 64, rel=0.08, abs=3 * zoom * zoom)


def test_boxes_from_the_corners_of_turned_boxes_are_far_too_wide() -> None:
    ours, corners = [], []
    for seed in range(40):
        mask, to_crop = blob(seed), looking(20.0 + 50 * (seed % 2), 1.2, 15, 15)
        truth = box_of(seen_mask(mask, to_crop, FRAME_HW)).double()
        ours.append(iou(visible_extent(mask, to_crop, FRAME_HW)[0][None], truth[None]))
        rows, columns = torch.nonzero(mask.any(1)).ravel(), torch.nonzero(mask.any(0)).ravel()
        x0, y0, x1, y1 = (float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        turned = affine.apply(affine.invert(to_crop), torch.tensor([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))
        box = torch.cat([turned.amin(0), turned.amax(0)]).clamp(min=0)
        box[2:] = box[2:].minimum(torch.tensor([40.0, 32.0]))
        corners.append(iou(box[None], truth[None]))
    assert torch.cat(corners).median() < 0.75
    assert torch.cat(ours).median() > 0.98


def test_whole_pixels_are_exact() -> None:
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[2:5, 3:9] = True
    box, area = visible_extent(mask, affine.shift(5, 0), FRAME_HW)
    torch.testing.assert_close(box, torch.tensor([0.0, 2, 4, 5]).double(), atol=2e-6, rtol=0)
    assert area == 12
    box, area = visible_extent(mask, affine.scale(-0.5, 0.5), FRAME_HW)  # mirrored out of sight
    assert area == 0


def test_a_part_that_only_touches_the_frame_is_not_in_the_box() -> None:
    mask = torch.ones(10, 10, dtype=torch.bool)
    mask[3:, 4:] = False  # below row 3 it ends where the frame begins
    box, area = visible_extent(mask, affine.shift(4, 0), FRAME_HW)
    torch.testing.assert_close(box, torch.tensor([0.0, 0, 6, 3]).double(), atol=2e-6, rtol=0)
    assert area == 18


def test_a_mask_all_around_the_frame() -> None:
    """No outline is in sight."""
    box, area = visible_extent(torch.ones(200, 200, dtype=torch.bool), looking(33.0, 1.0, 100, 100), FRAME_HW)
    torch.testing.assert_close(box, torch.tensor([0.0, 0, 40, 32]).double(), atol=2e-6, rtol=0)
    assert area == pytest.approx(40 * 32, rel=0.02)


def test_nothing() -> None:
    assert visible_extent(torch.zeros(3, 4, dtype=torch.bool), affine.shift(0, 0), FRAME_HW)[1] == 0
    assert not covers(torch.ones(3, 4, dtype=torch.bool), torch.tensor([[4.0, 1], [-0.1, 1], [1, 3.0]]).double()).any()
    assert covers(torch.ones(3, 4, dtype=torch.bool), torch.tensor([[3.9, 2.9], [0, 0]]).double()).all()
