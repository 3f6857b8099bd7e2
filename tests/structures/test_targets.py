"""Targets seen through maps and under pasted objects, against full canvases."""

import dataclasses

import pytest
import torch
from networks import annotated
from oracles.seen import box_of, seen_grid, seen_mask
from scipy.ndimage import map_coordinates
from torch import Tensor

from halfpixel.ops import affine, boxes
from halfpixel.structures.source_masks import grids_of
from halfpixel.structures.targets import SMALLEST_VISIBLE_PX, Targets

SIZE_HW = (60, 70)
FRAME_HW = (48, 56)


def discs(seed: int, n: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(70) + 0.5, indexing="ij")
    masks = []
    for cx, cy, r, stretch in torch.rand(n, 4, generator=generator).tolist():
        masks.append(((x - 70 * cx) / (1 + stretch)) ** 2 + (y - 60 * cy) ** 2 < (4 + 6 * r) ** 2)
    return torch.stack(masks)


def look(angle: float = 30, zoom: float = 1.5) -> Tensor:
    return affine.compose(
        affine.shift(33, 31), affine.rotate(angle), affine.scale(1 / zoom, 1 / zoom), affine.shift(-28, -24)
    )


def seen(dense: Tensor, to_source: Tensor, crowds: Tensor | None = None) -> Targets:
    labels = torch.arange(len(dense)) % 2
    ignored = annotated(dense[:0] if crowds is None else crowds, labels[: 0 if crowds is None else len(crowds)])
    return Targets.seen(annotated(dense, labels), ignored, to_source, FRAME_HW, seed=5)


@pytest.mark.parametrize(("angle", "zoom"), [(0, 1.3), (30, 1.5), (90, 1.4), (-140, 2.5)])
def test_boxes_labels_and_crowds_of_what_is_seen(angle: float, zoom: float) -> None:
    dense, crowds, to_source = discs(9), discs(10)[:5], look(angle, zoom)
    found = seen(dense, to_source, crowds)
    areas = torch.stack([seen_mask(mask, to_source, FRAME_HW).sum() / 64 for mask in dense])
    assert ((areas == 0) | (areas > 12)).all()  # none that could be taken either way
    visible = torch.nonzero(areas >= SMALLEST_VISIBLE_PX).ravel()
    assert 3 < len(visible) < 8
    assert found.labels.tolist() == (visible % 2).tolist()
    expected = torch.stack([box_of(seen_mask(dense[k], to_source, FRAME_HW)) for k in visible])
    # the points of the oracle miss thin tips
    assert (found.boxes_xyxy - expected).abs().max() < 0.6
    assert boxes.iou(found.boxes_xyxy, expected).diagonal().min() > 0.95
    assert found.size_hw == FRAME_HW
    shown = [seen_mask(mask, to_source, FRAME_HW) for mask in crowds]
    expected = torch.stack([box_of(one) for one in shown if one.sum() / 64 >= SMALLEST_VISIBLE_PX])
    assert boxes.iou(found.ignored_xyxy, expected).diagonal().min() > 0.95
    assert len(found.ignored_xyxy) == len(expected)


def test_what_is_hardly_seen_is_neither_object_nor_background() -> None:
    """Of three squares the frame shows one whole, two pixels of the next, nothing of the third."""
    dense = torch.zeros(3, *SIZE_HW, dtype=torch.bool)
    dense[0, 5:15, 5:15], dense[1, 20:22, 55:65], dense[2, 30:40, 58:68] = True, True, True
    found = seen(dense, affine.shift(0, 0))
    assert found.boxes_xyxy.tolist() == [[5, 5, 15, 15]]
    assert found.ignored_xyxy.tolist() == [[55, 20, 56, 22]]


def test_grids_against_full_canvases() -> None:
    dense, to_source = discs(0), look()
    found = seen(dense, to_source)
    matches = torch.arange(len(found)).repeat(2)
    regions = torch.cat([found.boxes_xyxy, boxes.expand(found.boxes_xyxy, 0.2) + 1])
    grids = found.mask_grids(matches, regions, 14)
    canvases = [torch.nn.functional.pad(m.crop, _around(m.offset_xy, m.crop)) for m in found.masks]
    expected = torch.stack(
        [seen_grid(canvases[k], to_source, region, 14) for k, region in zip(matches, regions, strict=True)]
    )
    assert (grids - expected).abs().mean() < 0.01
    assert found.mask_grids(matches[:0], regions[:0], 14).shape == (0, 14, 14)


def _around(offset_xy: tuple[int, int], crop: Tensor) -> tuple[int, int, int, int]:
    (x, y), (height, width) = offset_xy, crop.shape
    return x, SIZE_HW[1] - x - width, y, SIZE_HW[0] - y - height


def block(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(1, *SIZE_HW, dtype=torch.bool)
    mask[0, y0:y1, x0:x1] = True
    return mask


def test_pasted_objects_hide_what_is_below_in_the_output_frame() -> None:
    """Two images with maps of their own: visible parts as on full canvases of the frame."""
    below, above = discs(2), discs(3, 3)
    to_one, to_other = look(20, 1.4), look(-65, 0.8)
    pasted = seen(above, to_other)
    found = seen(below, to_one).pasted_over(pasted)
    cover = torch.stack([seen_mask(mask, to_other, FRAME_HW) for mask in above]).any(0)
    left = [seen_mask(mask, to_one, FRAME_HW) & ~cover for mask in below]
    whole = [seen_mask(mask, to_one, FRAME_HW) for mask in below]
    shares = [float(a.sum() / b.sum().clamp(min=1)) for a, b in zip(left, whole, strict=True)]
    assert any(0 < share < 0.95 for share in shares)
    expected = [box_of(one) for one, share in zip(left, shares, strict=True) if one.sum() / 64 >= 4 and share >= 0.1]
    own = found[: len(found) - len(pasted)]
    torch.testing.assert_close(found.boxes_xyxy[len(own) :], pasted.boxes_xyxy)
    assert (own.boxes_xyxy - torch.stack(expected)).abs().max() < 1.6  # a source pixel is 1.4 wide
    grids = own.mask_grids(torch.arange(len(own)), own.boxes_xyxy, 14)
    kept = [one for one, share in zip(left, shares, strict=True) if one.sum() / 64 >= 4 and share >= 0.1]
    for grid, box, one in zip(grids, own.boxes_xyxy, kept, strict=True):
        if one.sum() / 64 > 100:  # in slivers the interpolated edge is all there is
            dense = seen_grid(one, affine.scale(8, 8), box, 14)
            assert (grid - dense).abs().mean() < 0.06


def test_hidden_objects_are_dropped_and_halves_stay() -> None:
    identity = affine.shift(0, 0)
    below = torch.cat([block(5, 5, 15, 15), block(20, 5, 30, 15), block(5, 30, 15, 40), block(40, 30, 50, 40)])
    above = torch.cat([block(4, 4, 16, 16), block(25, 0, 40, 20), block(5, 30, 15, 39)])
    crowd = block(4, 4, 12, 12)
    found = seen(below, identity, crowd).pasted_over(seen(above, identity))
    # the first is hidden wholly, the second half; of the third exactly a tenth is left; the fourth is untouched
    torch.testing.assert_close(
        found.boxes_xyxy[:3],
        torch.tensor([[20.0, 5, 25, 15], [5, 39, 15, 40], [40, 30, 50, 40]]),
        atol=1e-4,
        rtol=0,
    )
    assert len(found) == 6
    assert found.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.ignored_xyxy.shape == (1, 4)  # what is hidden of a crowd stays ignored
    (grid,) = found.mask_grids(torch.tensor([0]), torch.tensor([[20.0, 5, 30, 15]]), 10)
    assert (grid[1:-1, 1:4] > 0.99).all()
    assert (grid[:, 6:] < 0.01).all()


def test_objects_out_of_sight_are_not_looked_at() -> None:
    far = annotated(block(0, 0, 3, 3), torch.tensor([0]))
    assert far.masks is not None
    poison = dataclasses.replace(far.masks, crops=(torch.ones(3, 3, dtype=torch.bool, device="meta"),))
    objects = dataclasses.replace(far, masks=poison)
    assert len(Targets.seen(objects, far[:0], affine.shift(10, 10), FRAME_HW)) == 0


def test_instances_as_they_are() -> None:
    objects = annotated(discs(4), torch.arange(8) % 2)
    found = Targets.from_instances(objects, torch.tensor([[1.0, 2, 3, 4]]), seed=9)
    assert torch.equal(found.boxes_xyxy, objects.boxes_xyxy)
    assert (found.seed, found.size_hw, len(found.ignored_xyxy)) == (9, SIZE_HW, 1)
    assert len(found[found.labels == 1]) == len(found[found.labels == 1].masks) == 4
    with pytest.raises(ValueError, match="8 boxes, 8 labels, 7 masks"):
        dataclasses.replace(found, masks=found.masks[:7])


def test_random_choices_depend_on_seed_and_purpose_alone() -> None:
    def draw(targets: Targets, purpose: int) -> list[int]:
        return torch.randperm(20, generator=targets.generator(purpose)).tolist()

    one, other = (Targets.from_instances(annotated(discs(4), torch.zeros(8).long()), seed=seed) for seed in (1, 2))
    assert draw(one, 0) == draw(one, 0)
    assert len({tuple(draw(targets, purpose)) for targets in (one, other) for purpose in (0, 1)}) == 4


def test_a_map_of_which_object_each_pixel_shows() -> None:
    """Against the masks drawn on the same grid, and through a map that enlarges twice and shifts."""
    dense = torch.zeros(3, 20, 24, dtype=torch.bool)
    dense[0, 2:9, 3:8], dense[1, 2:9, 8:15], dense[2, 15:, 20:] = True, True, True
    objects = annotated(dense, torch.tensor([0, 1, 0]))
    expected = (dense * torch.arange(1, 4)[:, None, None]).sum(0)
    assert torch.equal(Targets.from_instances(objects).label_map(), expected)
    halved = affine.compose(affine.shift(2, 1), affine.scale(0.5, 0.5))
    seen = Targets.seen(objects, objects[:0], halved, (30, 32))
    enlarged = expected.repeat_interleave(2, 0).repeat_interleave(2, 1)[2:32, 4:36]
    assert torch.equal(seen.label_map(), enlarged)


def test_without_objects_the_map_is_empty() -> None:
    objects = annotated(torch.zeros(0, 5, 6, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(Targets.from_instances(objects).label_map(), torch.zeros(5, 6, dtype=torch.int64))


@pytest.mark.parametrize("angle", [0, 25])
def test_masks_on_a_grid_are_shares_of_its_cells(angle: float) -> None:
    """Against the mean of a canvas that is seen pixel by pixel, each in sixteen parts."""
    dense, to_source = discs(2), look(angle, 1.3)
    targets = seen(dense, to_source)
    found = targets.masks_on((16, 12), (64, 72))
    assert found.shape == (len(targets), 16, 12)
    wide = torch.tensor([[0.0, 0.0, 72.0, 64.0]])
    for k, mask in enumerate(targets.masks):
        (fine,) = grids_of([mask], wide, 576, "half_pixel")
        expected = torch.nn.functional.adaptive_avg_pool2d(fine[None, None], (16, 12))[0, 0]
        torch.testing.assert_close(found[k], expected, atol=0.1, rtol=0)
        assert (found[k] - expected).abs().mean() < 0.01
    assert found.amax((1, 2)).max() > 0.95
    assert targets[:0].masks_on((4, 5), (64, 80)).shape == (0, 4, 5)


@pytest.mark.parametrize("angle", [0, 90, 25])
def test_masks_at_points_are_interpolated(angle: float) -> None:
    dense, to_source = discs(3), look(angle)
    found = seen(dense, to_source)
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([56.0, 48.0])
    x, y = affine.apply(to_source, points).T
    shown = [mask for mask in dense if seen_mask(mask, to_source, FRAME_HW).sum() / 64 >= SMALLEST_VISIBLE_PX]
    values = [interpolated(mask, x, y) for mask in shown]
    assert 0.02 < torch.stack(values).mean() < 0.5
    torch.testing.assert_close(found.masks_at(points).double(), torch.stack(values), atol=1e-5, rtol=0)
    k = int(torch.stack(values).sum(1).argmax())
    pasted = shown[k].roll(3, 1)
    hidden = dataclasses.replace(found.masks[k], hidden_by=seen(pasted[None], to_source).masks)
    expected = values[k] * (1 - interpolated(pasted, x, y))
    assert 0 < expected.sum() < values[k].sum()
    torch.testing.assert_close(hidden.at(points).double(), expected, atol=1e-5, rtol=0)
    assert found[:0].masks_at(points).shape == (0, 500)


def interpolated(mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = mask.shape
    at = [(y - 0.5).numpy(), (x - 0.5).numpy()]
    values = torch.from_numpy(map_coordinates(mask.numpy().astype(float), at, order=1, mode="nearest"))
    return values * ((x >= 0) & (y >= 0) & (x <= width) & (y <= height))


def test_what_others_cover_of_a_region() -> None:
    """Sums of all other objects' grids, one after the other, at most 1."""
    masks = torch.zeros(4, 40, 48, dtype=torch.bool)
    masks[0, 5:20, 5:20] = True
    masks[1, 5:20, 20:35] = True
    masks[2, 12:30, 14:26] = True  # over both
    masks[3, 35:39, 40:46] = True  # far away
    target = Targets.from_instances(annotated(masks, torch.zeros(4, dtype=torch.int64)))
    matches = torch.tensor([0, 1, 3, 0])
    regions = torch.tensor([[3.0, 3, 22, 22], [15, 2, 38, 25], [38, 33, 48, 40], [0, 0, 48, 40]])
    others = target.other_grids(matches, regions, 12)
    for region, own, grid in zip(regions, matches.tolist(), others, strict=True):
        each = [target.mask_grids(torch.tensor([j]), region[None], 12)[0] for j in range(4) if j != own]
        torch.testing.assert_close(grid, torch.stack(each).sum(0).clamp(max=1))
    assert others[2].max() == 0
    assert others[0].max() == 1
    assert target.other_grids(matches[:0], regions[:0], 12).shape == (0, 12, 12)
