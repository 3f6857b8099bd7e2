"""Suppression by mask overlap against a dense greedy loop."""

import pytest
import torch
from torch import Tensor

from halfpixel.ops.mask_nms import AT_ONCE, suppress_masks
from halfpixel.structures.masks import CropMasks

SIZE_HW = (40, 50)


def blobs(n: int, seed: int) -> Tensor:
    """Random discs and rectangles, some with holes, every seventh one empty."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    masks = []
    for k in range(n):
        cx, cy, r = (torch.rand(3, generator=generator) * torch.tensor([50.0, 40.0, 9.0])).tolist()
        far = ((x - cx).square() + (y - cy).square()).sqrt() if k % 2 else torch.maximum((x - cx).abs(), (y - cy).abs())
        mask = (far < r + 3) & (far >= (2 if k % 3 == 0 else 0))
        masks.append(mask if k % 7 else torch.zeros_like(mask))
    return torch.stack(masks)


def greedily(masks: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for k in scores.argsort(descending=True, stable=True).tolist():
        if not masks[k].any():
            continue
        rivals = [j for j in kept if groups[j] == groups[k]]
        if all((masks[j] & masks[k]).sum() <= threshold * (masks[j] | masks[k]).sum() for j in rivals):
            kept.append(k)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_dense_loop(seed: int, classes: int, threshold: float) -> None:
    masks = blobs(45, seed)
    generator = torch.Generator().manual_seed(seed + 10)
    scores, groups = torch.rand(45, generator=generator), torch.randint(classes, (45,), generator=generator)
    cropped = CropMasks.from_dense(masks)
    kept = suppress_masks(cropped.crops, cropped.offsets_xy, scores, groups, threshold)
    assert kept.tolist() == greedily(masks, scores, groups, threshold)
    assert len(kept) < 38


def test_crops_need_not_be_tight() -> None:
    masks = blobs(20, 4)
    scores, groups = torch.linspace(0, 1, 20), torch.zeros(20, dtype=torch.int64)
    whole = suppress_masks(list(masks), torch.zeros(20, 2, dtype=torch.int64), scores, groups, 0.2)
    tight = CropMasks.from_dense(masks)
    assert whole.tolist() == suppress_masks(tight.crops, tight.offsets_xy, scores, groups, 0.2).tolist()


def test_equal_masks_of_different_groups_both_stay() -> None:
    crop = torch.ones(3, 3, dtype=torch.bool)
    offsets = torch.zeros(2, 2, dtype=torch.int64)
    scores = torch.tensor([0.4, 0.9])
    assert suppress_masks([crop, crop], offsets, scores, torch.tensor([0, 1]), 0.5).tolist() == [1, 0]
    assert suppress_masks([crop, crop], offsets, scores, torch.tensor([0, 0]), 0.5).tolist() == [1]


def test_what_was_suppressed_suppresses_nothing() -> None:
    """Three bars, each overlapping the next by half: the last one stays because the middle one went."""
    bar = torch.ones(1, 4, dtype=torch.bool)
    offsets = torch.tensor([[0, 0], [2, 0], [4, 0]])
    scores, groups = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    assert suppress_masks([bar] * 3, offsets, scores, groups, 0.3).tolist() == [0, 2]


def test_masks_of_different_sources_and_what_they_share() -> None:
    """A bar of eight pixels; its left half, once more as another tile saw it; and the bar's shifted copy."""
    crops = [torch.ones(1, 8, dtype=torch.bool), *[torch.ones(1, 4, dtype=torch.bool)] * 2]
    offsets, groups = torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    scores, sources = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1])

    def kept(iou: float, share: float) -> list[int]:
        return suppress_masks(crops, offsets, scores, groups, iou, share, sources).tolist()

    assert kept(0.5, 1.0) == [0, 1]  # the third equals the second, of another source
    assert kept(1.0, 0.7) == [0, 1]  # and lies inside of the first
    assert kept(1.0, 1.0) == [0, 1, 2]
    assert suppress_masks(crops, offsets, scores, groups, 1.0, 0.7).tolist() == [0]
    crops[2], offsets[2, 0] = torch.ones(1, 8, dtype=torch.bool), 3  # shares 5 of 8
    assert kept(1.0, 0.6) == [0, 1]
    assert kept(1.0, 5 / 8) == [0, 1, 2]


def test_no_masks() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert suppress_masks([], torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0), none, 0.5).tolist() == []
    empty = torch.zeros(0, 4, dtype=torch.bool)
    assert suppress_masks([empty], torch.tensor([[2, 2]]), torch.ones(1), torch.zeros(1).long(), 0.5).tolist() == []


def test_more_than_are_compared_at_once() -> None:
    masks = blobs(2 * AT_ONCE + 30, 7)
    n = len(masks)
    generator = torch.Generator().manual_seed(8)
    scores, groups = torch.rand(n, generator=generator), torch.randint(2, (n,), generator=generator)
    cropped = CropMasks.from_dense(masks)
    kept = suppress_masks(cropped.crops, cropped.offsets_xy, scores, groups, 0.3)
    assert kept.tolist() == greedily(masks, scores, groups, 0.3)
    assert 5 < len(kept) < n / 2


def test_an_overlap_of_just_the_threshold_is_allowed() -> None:
    """Two bars of four pixels that share two: an IoU of exactly one third, and of all that two such boxes can share."""
    bar, offsets, scores = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0, 0], [2, 0]]), torch.tensor([0.9, 0.8])
    groups = torch.zeros(2, dtype=torch.int64)
    assert suppress_masks([bar] * 2, offsets, scores, groups, 2 / 6).tolist() == [0, 1]
    assert suppress_masks([bar] * 2, offsets, scores, groups, 2 / 6 - 1e-9).tolist() == [0]
