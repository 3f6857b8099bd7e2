"""Anchors against torchvision's generator, and by hand."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from halfpixel.nn.anchors import anchor_boxes

CPU = torch.device("cpu")
SIZES = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
STRIDES = (4, 8, 16, 32, 64)


@pytest.mark.parametrize("image_hw", [(800, 1088), (96, 160), (224, 800)])
def test_the_torchvision_alignment_equals_torchvision(image_hw: tuple[int, int]) -> None:
    # the coarsest level is every second cell of the one before it, so 25 cells become 13
    maps_hw = [(image_hw[0] // s, image_hw[1] // s) for s in STRIDES[:4]]
    maps_hw.append((-(-maps_hw[3][0] // 2), -(-maps_hw[3][1] // 2)))
    generator = AnchorGenerator(tuple((size,) for size in SIZES), (RATIOS,) * 5)
    maps = [torch.zeros(1, 1, *hw) for hw in maps_hw]
    (expected,) = generator(ImageList(torch.zeros(1, 3, *image_hw), [image_hw]), maps)
    found = anchor_boxes(maps_hw, image_hw, SIZES, RATIOS, STRIDES, "torchvision", CPU)
    torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=0)


def test_the_torchvision_alignment_s_coarsest_stride() -> None:
    found = anchor_boxes([(13, 17)], (800, 1088), (512,), (1.0,), (64,), "torchvision", CPU)[0]
    centres = ((found[:, :2] + found[:, 2:]) / 2).reshape(13, 17, 2)
    assert centres[1, 0, 1] - centres[0, 0, 1] == 61
    assert centres[0, 1, 0] - centres[0, 0, 0] == 64


def test_half_pixel_anchors_by_hand() -> None:
    levels = anchor_boxes([(2, 3), (1, 2)], (8, 12), (6, 10.0), (1.0, 4.0), (4, 8), "half_pixel", CPU)
    assert [len(level) for level in levels] == [12, 4]
    fine = levels[0].reshape(2, 3, 2, 4)  # row, column, ratio
    torch.testing.assert_close(fine[0, 0, 0], torch.tensor([-1.0, -1.0, 5.0, 5.0]))  # centred on (2, 2)
    torch.testing.assert_close(fine[1, 2, 0], torch.tensor([7.0, 3.0, 13.0, 9.0]))  # centred on (10, 6)
    torch.testing.assert_close(fine[0, 1, 1], torch.tensor([4.5, -4.0, 7.5, 8.0]))  # 3 wide, 12 high, at (6, 2)
    torch.testing.assert_close(levels[1][2], torch.tensor([7.0, -1.0, 17.0, 9.0]))  # centred on (12, 4)


def test_anchors_keep_their_area_and_ratio() -> None:
    (found,) = anchor_boxes([(1, 1)], (16, 16), (24,), (0.5, 1.0, 2.0, 3.0), (16,), "half_pixel", CPU)
    width, height = (found[:, 2:] - found[:, :2]).unbind(1)
    torch.testing.assert_close(width * height, torch.full((4,), 576.0))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0, 3.0]))


def test_centres_can_be_at_the_corners_of_cells() -> None:
    (middle,) = anchor_boxes([(2, 3)], (16, 24), (24,), (1.0,), (8,), "half_pixel", CPU)
    (corner,) = anchor_boxes([(2, 3)], (16, 24), (24,), (1.0,), (8,), "half_pixel", CPU, centre=0.0)
    assert torch.equal(middle - corner, torch.full((6, 4), 4.0))
    assert corner[0].tolist() == [-12, -12, 12, 12]
