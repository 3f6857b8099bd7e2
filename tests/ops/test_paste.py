"""Exact pasting against a slow loop, torchvision's pasting against torchvision."""

import itertools

import pytest
import torch
from oracles.paste import paste_slowly
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from halfpixel.ops import paste
from halfpixel.ops.paste import paste_mask, paste_masks

SIZE_HW = (13, 17)
Box = tuple[float, float, float, float]

ODD_BOXES: list[Box] = [
    (0.0, 0.0, 17.0, 13.0),  # the whole canvas
    (3.5, 2.5, 7.5, 8.5),  # edges on pixel centres: the first is in, the last is out
    (3.6, 2.6, 4.4, 3.4),  # no pixel centre at all
    (4.0, 4.0, 5.0, 5.0),  # one pixel
    (-6.3, -2.0, 4.2, 30.0),  # partly outside
    (16.2, 12.1, 40.0, 40.0),
    (-100.0, -100.0, 100.0, 100.0),  # around the canvas
]


def random_boxes(n: int) -> list[Box]:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(n, 2, 2, generator=generator) * 26 - 5
    low, high = corners.min(1).values, corners.max(1).values
    return [tuple(box) for box in torch.cat([low, high], 1).tolist()]


def random_mask(side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(side, side, generator=torch.Generator().manual_seed(side), dtype=dtype)


def on_canvas(values: Tensor, offset_xy: tuple[int, int], size_hw: tuple[int, int], empty: float) -> Tensor:
    canvas = torch.full(size_hw, empty, dtype=values.dtype)
    x, y = offset_xy
    assert x >= 0
    assert y >= 0
    canvas[y : y + values.shape[0], x : x + values.shape[1]] = values
    return canvas


@pytest.mark.parametrize("box", [*ODD_BOXES, *random_boxes(25)], ids=str)
@pytest.mark.parametrize("side", [1, 2, 7])
def test_exact_pasting_against_the_oracle(box: Box, side: int) -> None:
    mask = random_mask(side, torch.float64)
    found = on_canvas(*paste_mask(mask, box, SIZE_HW), SIZE_HW, empty=torch.nan)
    slow = [[torch.nan if v is None else v for v in row] for row in paste_slowly(mask.tolist(), box, SIZE_HW)]
    torch.testing.assert_close(found, torch.tensor(slow, dtype=torch.float64), equal_nan=True, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "box", [(5.0, 5.0, 5.0, 9.0), (5.5, 5.5, 5.5, 5.5), (40.0, 2.0, 50.0, 6.0), (-40.0, -9.0, -20.0, 9.0)]
)
@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
def test_nothing_to_paste(box: Box, alignment: str) -> None:
    values, (x, y) = paste_mask(random_mask(4), box, SIZE_HW, alignment)
    assert 0 <= x <= SIZE_HW[1]
    assert 0 <= y <= SIZE_HW[0]
    if alignment == "half_pixel" or box[0] != box[2]:  # torchvision draws a line for a box without width
        assert values.numel() == 0


def test_a_map_of_the_box_s_own_size_is_copied() -> None:
    mask = random_mask(6)
    values, offset_xy = paste_mask(mask, (3.0, 2.0, 9.0, 8.0), SIZE_HW)
    torch.testing.assert_close(values, mask)
    assert offset_xy == (3, 2)


def test_moving_the_box_by_whole_pixels_moves_the_paste() -> None:
    mask, box = random_mask(7), (3.25, 2.75, 8.5, 9.125)
    values, (x, y) = paste_mask(mask, box, (50, 50))
    moved, moved_xy = paste_mask(mask, (box[0] + 20, box[1] + 30, box[2] + 20, box[3] + 30), (50, 50))
    torch.testing.assert_close(moved, values, atol=1e-6, rtol=0)
    assert moved_xy == (x + 20, y + 30)


@pytest.mark.parametrize("side", [14, 28])
def test_torchvision_s_pasting_is_repeated(side: int) -> None:
    generator = torch.Generator().manual_seed(2)
    size_hw = (60, 80)
    corners = torch.rand(60, 2, 2, generator=generator) * torch.tensor([110.0, 90.0]) - 15
    boxes = torch.cat([corners.min(1).values, corners.max(1).values], 1)
    boxes = boxes[(boxes[:, 2] > 2) & (boxes[:, 3] > 2) & (boxes[:, 0] < 78) & (boxes[:, 1] < 58)]
    flat = torch.tensor([[20.0, 20.0, 20.0, 30.0], [5.0, 5.0, 5.0, 5.0], [7.2, 3.1, 7.3, 3.2], [0.0, 0.0, 80.0, 60.0]])
    whole = torch.tensor(list(itertools.product((4.0, 30.0), (7.0, 21.0), (50.0, 71.0), (33.0, 59.0))))
    boxes = torch.cat([boxes, flat, whole])
    masks = torch.rand(len(boxes), 1, side, side, generator=generator)
    expected = paste_masks_in_image(masks, boxes, size_hw)[:, 0]
    assert len(boxes) > 50
    for mask, box, canvas in zip(masks[:, 0], boxes.tolist(), expected, strict=True):
        found = on_canvas(*paste_mask(mask, tuple(box), size_hw, "torchvision"), size_hw, empty=0.0)
        torch.testing.assert_close(found, canvas, atol=2e-6, rtol=0)
        assert (found > 0.5).any() or canvas.max() <= 0.5


def test_torchvision_s_pasting_is_not_exact() -> None:
    """The reason for `alignment`: a box that truncation moves."""
    mask, box = torch.ones(28, 28), (10.9, 10.9, 20.9, 20.9)
    exact = on_canvas(*paste_mask(mask, box, (40, 40)), (40, 40), 0.0) > 0.5
    truncated = on_canvas(*paste_mask(mask, box, (40, 40), "torchvision"), (40, 40), 0.0) > 0.5
    assert exact.nonzero().min() == 11
    assert exact.sum() == 100
    assert not torch.equal(exact, truncated)


def many(n: int) -> tuple[Tensor, Tensor]:
    """Maps and boxes, some of them odd."""
    boxes = torch.tensor([*ODD_BOXES, *random_boxes(n - len(ODD_BOXES))])
    return torch.rand(n, 7, 7, generator=torch.Generator().manual_seed(3)), boxes


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
@pytest.mark.parametrize("n", [0, 1, 16, 17, 40])
def test_many_at_once_are_each_one(alignment: str, n: int) -> None:
    masks, boxes = many(40)
    crops, offsets_xy = paste_masks(masks[:n], boxes[:n], SIZE_HW, 0.5, alignment)
    assert len(crops) == len(offsets_xy) == n
    for mask, box, crop, offset_xy in zip(masks, boxes.tolist(), crops, offsets_xy.tolist(), strict=False):
        values, expected_xy = paste_mask(mask, tuple(box), SIZE_HW, alignment)
        assert tuple(offset_xy) == expected_xy
        assert torch.equal(crop, values > 0.5)
    assert n < 17 or sum(int(crop.sum()) for crop in crops) > 100


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
def test_row_blocks_have_the_same_pixels_as_the_whole(monkeypatch: pytest.MonkeyPatch, alignment: str) -> None:
    masks = torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(4))
    boxes = torch.rand(5, 4, generator=torch.Generator().manual_seed(5)) * 40
    boxes[:, 2:] += 250
    monkeypatch.setattr(paste, "BLOCK_PX", 10**9)
    whole, _ = paste_masks(masks, boxes, (300, 280), 0.5, alignment)
    for block_px in (1, 1000, 1 << 16):
        monkeypatch.setattr(paste, "BLOCK_PX", block_px)
        blocks, _ = paste_masks(masks, boxes, (300, 280), 0.5, alignment)
        assert all(torch.equal(a, b) for a, b in zip(blocks, whole, strict=True))


def test_no_floats_as_large_as_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """What memory depends on: nothing is larger than a row block."""
    sizes = []
    real = torch.lerp

    def watched(*given: Tensor) -> Tensor:
        sizes.append(real(*given).numel())
        return real(*given)

    monkeypatch.setattr(torch, "lerp", watched)
    ((crop,), _) = paste_masks(torch.ones(1, 28, 28), torch.tensor([[0.0, 0.0, 900.0, 700.0]]), (700, 900), 0.5)
    assert crop.all()
    assert crop.shape == (700, 900)
    assert max(sizes) <= paste.BLOCK_PX
    assert len(sizes) > 9


def test_equal_cells_give_their_own_value() -> None:
    """Rounding does not decide where two neighbours are both one half, as in a network of low precision they may be."""
    for box in random_boxes(20):
        values, _ = paste_mask(torch.full((5, 5), 0.5), box, SIZE_HW)
        assert (values == 0.5).all()
