"""What a first pass saved and lost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.prefilter_savings import Savings, evaluate_prefilter, lost_objects
from halfpixel.structures.instances import PrefilterPass


def one_pass(*regions, seconds=1.0, saved=None) -> PrefilterPass:
    return PrefilterPass(tuple(regions), seconds, saved)


def test_an_object_is_lost_when_its_larger_part_was_not_looked_at() -> None:
    truth = blocks([(0, 0, 10, 10), (6, 0, 16, 10), (5, 0, 15, 10), (4, 0, 14, 10), (30, 30, 34, 34)])
    assert lost_objects(truth, one_pass((0, 0, 10, 40))).tolist() == [False, True, True, False, True]
    assert not lost_objects(truth, None).any()
    assert lost_objects(truth, one_pass()).all()
    # two regions see it together
    assert lost_objects(truth, one_pass((0, 0, 8, 20), (8, 0, 16, 20))).tolist() == [False] * 4 + [True]


def test_lost_objects_are_those_of_dense_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        truth = random_blobs(20, generator)
        # regions that do not overlap: cells of a grid
        cells = [(x, y, x + 10, y + 8) for y in range(0, 40, 8) for x in range(0, 50, 10) if rng.random() < 0.5]
        seen = torch.zeros(truth.size_hw, dtype=torch.bool)
        for x0, y0, x1, y1 in cells:
            seen[y0:y1, x0:x1] = True
        assert truth.masks is not None
        dense = truth.masks.dense()
        wanted = (dense & seen).sum((1, 2)) <= (dense & ~seen).sum((1, 2))
        assert lost_objects(truth, one_pass(*cells)).tolist() == wanted.tolist()
        found.append(wanted.float().mean())
    assert 0.3 < float(torch.stack(found).mean()) < 0.7


def test_objects_without_masks_are_lost_by_their_boxes() -> None:
    truth = blocks([(0, 0, 10, 10), (6, 0, 16, 10), (5, 0, 15, 10), (4, 0, 14, 10), (30, 30, 34, 34)])
    for regions in [(), ((0, 0, 10, 40),), ((0, 0, 8, 20), (8, 0, 16, 20))]:
        wanted = lost_objects(truth, one_pass(*regions)).tolist()
        assert lost_objects(replace(truth, masks=None), one_pass(*regions)).tolist() == wanted
    assert not lost_objects(replace(truth, masks=None), None).any()


def test_savings_of_several_images() -> None:
    sizes = [(100, 200), (100, 100), (50, 100)]
    passes = [one_pass((0, 0, 50, 40), seconds=2.0, saved=6.0), None, one_pass((0, 0, 10, 10), seconds=3.0, saved=-1.0)]
    total = Savings.of(sizes, passes)
    assert total == Savings(3, 1, 35_000, 2_000 + 10_000 + 100, 5.0, 5.0)


def test_where_nothing_was_looked_at_other_images_tell_what_was_saved() -> None:
    sizes = [(100, 100), (200, 100)]
    looked = one_pass((0, 0, 50, 50), seconds=1.0, saved=3.0)  # the network alone: 4 s for 10,000 pixels
    total = Savings.of(sizes, [looked, one_pass(seconds=0.5)])
    assert total.seconds_saved == pytest.approx(4.0 * 3 - 1.5)
    assert Savings.of(sizes, [one_pass(), one_pass()]).seconds_saved is None
    assert Savings.of(sizes, [None, None]) == Savings(2, 2, 30_000, 30_000, 0, None)
    assert Savings.of([], []).area_px == 0


def test_lost_objects_of_a_data_set() -> None:
    first, second = blocks([(0, 0, 10, 10), (30, 0, 40, 10)]), blocks([(20, 20, 30, 30)])
    crowd = blocks([(30, 20, 40, 30)])  # is no object
    data = dataset(sample(first, 1), sample(second, 2, ignored=crowd))
    found = [replace(first[:1], prefilter=one_pass((0, 0, 16, 16), saved=1.0)), second]
    result = evaluate_prefilter(data, found)
    assert result is not None
    assert (result.n_objects, result.lost) == (3, 1)
    assert (result.savings.n_images, result.savings.n_everywhere) == (2, 1)
    assert evaluate_prefilter(data, [first, second]) is None
    with pytest.raises(ArgumentError, match="expected 2 predictions"):
        evaluate_prefilter(data, [first])
