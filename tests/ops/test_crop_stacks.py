"""Crops in stacks: each once, as it was, with nothing around it."""

import pytest
import torch

from halfpixel.ops import crop_stacks as stacks


def test_every_crop_with_pixels_is_in_one_stack() -> None:
    generator = torch.Generator().manual_seed(0)
    sides = torch.randint(0, 12, (60, 2), generator=generator).tolist()
    crops = [torch.rand(*side, generator=generator) < 0.5 for side in sides]
    found = list(stacks.crop_stacks(crops))
    assert len(found) == 1
    rows, stack = found[0]
    assert sorted(rows) == [k for k, side in enumerate(sides) if min(side) > 0]
    for k, one in zip(rows, stack, strict=True):
        height, width = crops[k].shape
        assert torch.equal(one[:height, :width], crops[k])
        assert one.sum() == crops[k].sum()


def test_large_crops_do_not_fill_up_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CELLS_AT_ONCE", 500)
    crops = [torch.ones(40, 40, dtype=torch.bool), *[torch.ones(4, 4, dtype=torch.bool)] * 40]
    found = [(rows, tuple(stack.shape)) for rows, stack in stacks.crop_stacks(crops)]
    assert found == [(list(range(1, 32)), (31, 4, 4)), (list(range(32, 41)), (9, 4, 4)), ([0], (1, 40, 40))]
    # with ten cells more for each row and column a crop takes 96
    assert [len(rows) for rows, _ in stacks.crop_stacks(crops[1:], cells_per_side=10)] == [5] * 8
