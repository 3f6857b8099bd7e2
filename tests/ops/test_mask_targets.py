"""Mask targets against RoIAlign on the full canvas, and what exactness is worth when targets become masks again."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from oracles.seen import seen_grid
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.mask_targets import mask_targets
from halfpixel.ops.paste import Alignment
from halfpixel.structures.masks import CropMasks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from alignment import median_interval, round_trip_ious, truncation_ious

SIZE_HW = (48, 60)


def ellipse(centre_xy: tuple[float, float], radii: tuple[float, float]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(48.0) + 0.5, torch.arange(60.0) + 0.5, indexing="ij")
    return ((x - centre_xy[0]) / radii[0]) ** 2 + ((y - centre_xy[1]) / radii[1]) ** 2 < 1


MASKS = {
    "inside": ellipse((30, 20), (11, 7)),
    "in the corner": ellipse((0, 0), (14, 9)),
    "at the far corner": ellipse((58, 47), (14, 9)),
    "one pixel": ellipse((30.5, 20.5), (0.4, 0.4)),
    "everything": torch.ones(SIZE_HW, dtype=torch.bool),
}


def targets_of(crop: Tensor, offset_xy: tuple[int, int], boxes: Tensor, *how: Any, **more: Any) -> Tensor:
    """Of one mask in several regions."""
    return mask_targets([crop] * len(boxes), torch.tensor([offset_xy]).expand(len(boxes), 2), boxes, *how, **more)


def regions() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(20, 2, 2, generator=generator) * torch.tensor([70.0, 58.0]) - 5
    usual = torch.cat([corners.amin(1), corners.amax(1)], 1)
    odd = [
        [0.0, 0.0, 60.0, 48.0],
        [-20.0, -20.0, 80.0, 70.0],  # around the canvas
        [30.2, 20.1, 30.9, 20.8],  # within a pixel
        [100.0, 100.0, 120.0, 130.0],  # wholly outside
        [-40.0, 10.0, -20.0, 30.0],
    ]
    return torch.cat([usual, torch.tensor(odd)])


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("output_size", [5, 28])
@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
def test_equal_adaptive_roi_align_on_the_canvas(alignment: Alignment, output_size: int, name: str) -> None:
    mask, boxes = MASKS[name], regions()
    cropped = CropMasks.from_dense(mask[None])
    found = targets_of(cropped.crops[0], tuple(cropped.offsets_xy[0].tolist()), boxes, SIZE_HW, output_size, alignment)
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    expected = torchvision.ops.roi_align(
        mask[None, None].float(), rois, output_size, 1.0, -1, aligned=alignment == "half_pixel"
    )[:, 0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert expected.max() > 0.2


def test_a_crop_with_a_margin_gives_the_same() -> None:
    mask, boxes = MASKS["inside"], regions()
    tight = CropMasks.from_dense(mask[None])
    offset_xy = tuple(tight.offsets_xy[0].tolist())
    whole = targets_of(mask, (0, 0), boxes, SIZE_HW, 14)
    torch.testing.assert_close(targets_of(tight.crops[0], offset_xy, boxes, SIZE_HW, 14), whole, atol=1e-6, rtol=0)


def test_no_regions_and_an_empty_crop() -> None:
    crop = torch.ones(3, 4, dtype=torch.bool)
    assert targets_of(crop, (2, 2), torch.zeros(0, 4), SIZE_HW, 28).shape == (0, 28, 28)
    assert not targets_of(crop[:0], (2, 2), regions(), SIZE_HW, 28).any()


def test_the_region_s_own_box_gives_the_share_of_each_cell() -> None:
    """A 4 x 4 object in a region of twice its width: the left cells full, the right ones empty."""
    crop = torch.ones(4, 4, dtype=torch.bool)
    targets = targets_of(crop, (10, 10), torch.tensor([[10.0, 10.0, 18.0, 14.0]]), SIZE_HW, 2)
    assert targets[0, 0, 0] > 0.9
    assert targets[0, 0, 1] < 0.1


def test_what_exactness_gains_on_small_objects() -> None:
    """Objects 10 pixels across, at any fraction of a pixel: targets and pasting, ours against torchvision's."""
    exact = round_trip_ious(10, "half_pixel", count=150, seed=0)
    legacy = round_trip_ious(10, "torchvision", count=150, seed=0)
    low, _ = median_interval(exact, seed=1)
    _, high = median_interval(legacy, seed=1)
    assert low > 0.95
    assert high < 0.90
    # pasting alone: the same probabilities, truncated against exact (DESIGN.md: a median IoU of .84)
    assert truncation_ious(10, count=150, seed=0).median() < 0.88


def test_exactness_matters_less_the_larger_the_object() -> None:
    gaps = [
        (round_trip_ious(side, "half_pixel", 60, 0).median() - round_trip_ious(side, "torchvision", 60, 0).median())
        for side in (8, 16, 48)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > 0


CENTRE = (affine.shift(30.5, 22.0), affine.shift(-28.0, -25.5))
"""From the frame's middle to the canvas's."""

MAPS = {
    "half the size": affine.scale(2.0, 1.6),
    "three times the size": affine.scale(1 / 3, 1 / 3),
    "mirrored": affine.scale(-1, 1),
    "upside down": affine.scale(0.8, -1.3),
    "a quarter turn": affine.rotate(90),
    "three quarters, smaller": affine.compose(affine.rotate(270), affine.scale(1.5, 1.5)),
    "a quarter turn of the mirrored": affine.compose(affine.scale(-1, 1), affine.rotate(90)),
}


def through(step: Tensor) -> Tensor:
    return affine.compose(CENTRE[0], step, CENTRE[1])


def moved(name: str, to_source: Tensor | None, boxes: Tensor, alignment: Alignment = "half_pixel") -> Tensor:
    cropped = CropMasks.from_dense(MASKS[name][None])
    offset_xy = tuple(cropped.offsets_xy[0].tolist())
    return targets_of(cropped.crops[0], offset_xy, boxes, SIZE_HW, 14, alignment, to_source)


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
@pytest.mark.parametrize("name", ["inside", "everything"])
@pytest.mark.parametrize("step", MAPS)
def test_sampling_points_equals_the_products(step: str, name: str, alignment: Alignment) -> None:
    """A hair of rotation takes the general way."""
    boxes = regions() + torch.tensor([0.013, 0.017, 0.029, 0.023])
    separable = moved(name, through(MAPS[step]), boxes, alignment)
    general = moved(name, through(affine.compose(MAPS[step], affine.rotate(1e-9))), boxes, alignment)
    torch.testing.assert_close(general, separable, atol=1e-4, rtol=0)
    assert separable.max() > 0.02


def test_the_identity_changes_no_bit() -> None:
    for alignment in ("half_pixel", "torchvision"):
        plain = moved("in the corner", None, regions(), alignment)  # type: ignore[arg-type]
        assert torch.equal(moved("in the corner", affine.shift(0, 0), regions(), alignment), plain)  # type: ignore[arg-type]


OTHERS = {
    "turned by 30 degrees": affine.rotate(30),
    "turned, mirrored, smaller": affine.compose(affine.scale(-1.4, 1.4), affine.rotate(200)),
    "turned and larger": affine.compose(affine.rotate(-45), affine.scale(0.4, 0.4)),
}


@pytest.mark.parametrize("name", ["inside", "everything"])
@pytest.mark.parametrize("step", MAPS | OTHERS)
def test_against_a_dense_oracle(step: str, name: str) -> None:
    to_source, boxes = through((MAPS | OTHERS)[step]), regions()[:10]
    found = moved(name, to_source, boxes)
    expected = torch.stack([seen_grid(MASKS[name], to_source, box, 14) for box in boxes]).float()
    # as many samples as pixels, against twelve a side: cells that an outline crosses differ a little
    assert (found - expected).abs().quantile(0.98) < 0.13
    assert (found - expected).abs().mean() < 0.01
    assert expected.max() > 0.05


def test_shifted_and_turned_masks_give_the_grids_of_the_changed_canvas() -> None:
    mask, boxes = MASKS["inside"], regions()
    as_is = targets_of(mask, (0, 0), boxes, SIZE_HW, 14)
    shifted = targets_of(mask, (0, 0), boxes + 3, SIZE_HW, 14, to_source=affine.shift(-3, -3))
    torch.testing.assert_close(shifted, as_is, atol=1e-5, rtol=0)
    # the canvas turned clockwise is 60 high and 48 wide; (x, y) of it was at (y, 48 - x)
    turned = targets_of(torch.rot90(mask, -1), (0, 0), boxes, (60, 48), 14)
    back = affine.compose(affine.shift(0, 48), affine.rotate(-90))
    torch.testing.assert_close(targets_of(mask, (0, 0), boxes, SIZE_HW, 14, to_source=back), turned, atol=1e-5, rtol=0)
