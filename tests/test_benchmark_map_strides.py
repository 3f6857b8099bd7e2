"""The benchmark of maps' strides, on drawn discs."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def strides(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("map_strides")


def disc(radius: float) -> Tensor:
    side = int(2 * radius) + 2
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    return (x - side / 2) ** 2 + (y - side / 2) ** 2 < radius**2


@pytest.mark.parametrize("offset_xy", [(0, 0), (5, 2), (7, 3)])
def test_cells_lie_where_they_do_in_the_image(strides: ModuleType, offset_xy: tuple[int, int]) -> None:
    mask = disc(6)
    around = strides.padded(mask, offset_xy, 4)
    assert around.sum() == mask.sum()
    assert all(side % 4 == 0 for side in around.shape)
    rows, columns = torch.nonzero(around, as_tuple=True)
    seen_rows, seen_columns = torch.nonzero(mask, as_tuple=True)
    assert (columns.min() - seen_columns.min() - offset_xy[0]) % 4 == 0
    assert (rows.min() - seen_rows.min() - offset_xy[1]) % 4 == 0


def test_finer_maps_hold_more_and_shares_more_than_halves(strides: ModuleType) -> None:
    def iou(stride: int, soft: bool) -> float:
        truth, seen = strides.padded(disc(6), (3, 2), stride), strides.drawn(disc(6), (3, 2), stride, soft)
        return float((truth & seen).sum() / (truth | seen).sum())

    assert iou(1, soft=True) == 1
    assert iou(2, soft=True) > 0.95
    assert iou(2, soft=True) > iou(4, soft=True) > iou(8, soft=True)
    assert iou(2, soft=True) > iou(2, soft=False)


def test_the_small_are_told_apart(strides: ModuleType) -> None:
    row = strides.summary([(100, 0.5), (149, 0.7), (150, 0.9)])
    assert (row["objects"], row["small"]) == (3, 2)
    assert row["small_median"] == pytest.approx(0.6)
