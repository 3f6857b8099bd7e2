import numpy as np
import torch
from scenes import blocks, dataset, sample

from halfpixel.evaluation.detection.size_ranges import group_by_size, size_ranges


def squares(*sides):
    return dataset(sample(blocks([(0, 0, side, side) for side in sides], size_hw=(200, 200))))


def test_coco_ranges_and_quarters():
    ranges = size_ranges(squares(*range(1, 101)))
    assert [(one.of, one.low_px, one.high_px) for one in ranges[:3]] == [
        ("COCO", 0, 1024), ("COCO", 1024, 9216), ("COCO", 9216, None)
    ]  # fmt: skip
    quarters = ranges[3:]
    areas = np.arange(1, 101.0) ** 2
    assert np.bincount(group_by_size(areas, quarters)).tolist() == [25, 25, 25, 25]
    assert [one.name for one in ranges[:2]] == ["COCO: under 1,024 px", "COCO: 1,024 to 9,216 px"]
    assert quarters[-1].name.endswith("px and over")


def test_an_edge_belongs_to_the_range_above():
    ranges = size_ranges(squares(1))[:3]
    assert group_by_size(np.array([0.0, 1023, 1024, 9215, 9216, 1e9]), ranges).tolist() == [0, 0, 1, 1, 2, 2]


def test_fewer_quarters_where_areas_are_equal():
    assert [one.of for one in size_ranges(squares(5, 5, 5, 5, 5, 5))] == ["COCO"] * 3
    assert [one.of for one in size_ranges(squares(5, 6))] == ["COCO"] * 3
    assert [(one.low_px, one.high_px) for one in size_ranges(squares(5, 5, 5, 9, 9))[3:]] == [(0, 81), (81, None)]
    assert len(size_ranges(dataset())) == 3


def test_ranges_follow_the_files_areas():
    data = squares(5, 6, 7, 8)
    data.samples[0].areas_px.copy_(torch.tensor([100.0, 200, 300, 400]))
    assert [one.low_px for one in size_ranges(data)[3:]] == [0, 175, 250, 325]
