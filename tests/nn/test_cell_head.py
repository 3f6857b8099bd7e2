import math

import pytest
import torch
from networks import scene
from torch import Tensor

from halfpixel.nn.cell_head import NOBODY, CellLevel, assign_cells, cell_centres, middles, peaks, sizes_px


def objects(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes and middles somewhere in them, on 96 x 128 pixels."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([128.0, 96.0])
    centres = torch.rand(n, 2, generator=generator) * size
    half = torch.rand(n, 2, generator=generator) ** 2 * 30 + 2
    boxes_xyxy = torch.cat([(centres - half).clamp(min=0), torch.minimum(centres + half, size)], 1)
    share = 0.3 + 0.4 * torch.rand(n, 2, generator=generator)
    return boxes_xyxy, boxes_xyxy[:, :2] + share * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])


def one_by_one(
    boxes_xyxy: Tensor, middles_xy: Tensor, level: CellLevel, cells_hw: tuple[int, int], region: float
) -> list[int]:
    """Object by object, the largest first, so that the smallest has the last word."""
    owners = [NOBODY] * (cells_hw[0] * cells_hw[1])
    sizes = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes_xyxy.tolist()]
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        if not level.smallest_px <= math.sqrt(sizes[k]) <= level.largest_px:
            continue
        x0, y0, x1, y1 = boxes_xyxy[k].tolist()
        x, y = middles_xy[k].tolist()
        across, down = 128 / cells_hw[1], 96 / cells_hw[0]
        own = min(int(y / down), cells_hw[0] - 1), min(int(x / across), cells_hw[1] - 1)
        rows = range(
            math.floor((y - region * (y1 - y0) / 2) / down), math.floor((y + region * (y1 - y0) / 2) / down) + 1
        )
        columns = range(
            math.floor((x - region * (x1 - x0) / 2) / across), math.floor((x + region * (x1 - x0) / 2) / across) + 1
        )
        for row in {*rows, own[0]}:
            for column in {*columns, own[1]}:
                near = abs(row - own[0]) <= 1 and abs(column - own[1]) <= 1
                if near and 0 <= row < cells_hw[0] and 0 <= column < cells_hw[1]:
                    owners[row * cells_hw[1] + column] = k
    return owners


@pytest.mark.parametrize("cells_hw", [(12, 16), (9, 9), (24, 32)])
@pytest.mark.parametrize("level", [CellLevel(0, 1e9), CellLevel(16, 40)])
def test_cells_answer_for_the_objects_whose_middle_they_hold(cells_hw: tuple[int, int], level: CellLevel) -> None:
    boxes_xyxy, middles_xy = objects()
    of_size = sizes_px(boxes_xyxy, 0.4, by_reach=False)
    found = assign_cells(boxes_xyxy, of_size, middles_xy, level, cells_hw, (96, 128), 0.4)
    expected = one_by_one(boxes_xyxy, middles_xy, level, cells_hw, 0.4)
    assert found.tolist() == expected
    assert len(set(expected)) > 10


def test_no_objects() -> None:
    found = assign_cells(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 2), CellLevel(0, 9), (2, 3), (64, 96), 0.2)
    assert found.tolist() == [NOBODY] * 6


def test_centres() -> None:
    centres = cell_centres((2, 4), (32, 128), torch.device("cpu"))
    assert centres[0].tolist() == [16.0, 8.0]
    assert centres[5].tolist() == [48.0, 24.0]


def test_middles_are_centres_of_mass() -> None:
    _, target = scene(128, seed=3)
    for (x, y), mask in zip(middles(target).tolist(), target.masks, strict=True):
        rows, columns = torch.nonzero(mask.crop).float().mean(0).tolist()
        assert abs(x - (columns + 0.5 + mask.offset_xy[0])) < 0.3
        assert abs(y - (rows + 0.5 + mask.offset_xy[1])) < 0.3


def test_an_elongated_object_belongs_where_its_window_holds_it() -> None:
    """110 x 37 px is as large as a square of 64, but reaches 77 px from the outermost of its cells."""
    boxes_xyxy = torch.tensor([[0.0, 0.0, 110.0, 37.0], [0.0, 0.0, 64.0, 64.0]])
    assert sizes_px(boxes_xyxy, 0.4, by_reach=False).tolist() == pytest.approx([63.8, 64], abs=0.01)
    assert sizes_px(boxes_xyxy, 0.4, by_reach=True).tolist() == pytest.approx([77, 64])


def test_peaks() -> None:
    scores = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    found = peaks(scores)
    for c, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(7)).tolist():
        near = scores[0, c, max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
        assert bool(found[0, c, row, column]) == bool(scores[0, c, row, column] == near.max())
