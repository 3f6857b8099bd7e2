"""Every object belongs to one piece; an image in pieces gives the objects of the whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfpixel import load
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.tiles import Tile, merge, tiles
from halfpixel.evaluation.detection.overlaps import iou_matrix
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZES = [(100, 100), (100, 101), (1000, 130), (37, 900), (513, 640)]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize(("most_px", "margin_px"), [(100, 10), (128, 30), (64, 0), (5000, 50)])
def test_cores_cover_the_image_once_and_pieces_are_small_enough(
    size_hw: tuple[int, int], most_px: int, margin_px: int
) -> None:
    covered = np.zeros(size_hw, int)
    for tile in tiles((0, 0, size_hw[1], size_hw[0]), size_hw, most_px, margin_px):
        x0, y0, x1, y1 = tile.core_xyxy
        covered[y0:y1, x0:x1] += 1
        u0, v0, u1, v1 = tile.outer_xyxy
        assert max(u1 - u0, v1 - v0) <= most_px
        for core, outer, edge in [(x0, u0, 0), (y0, v0, 0), (-x1, -u1, -size_hw[1]), (-y1, -v1, -size_hw[0])]:
            assert outer == max(core - margin_px, edge) or outer == core == edge
    assert (covered == 1).all()


def test_an_image_that_fits_is_one_piece() -> None:
    assert tiles((0, 0, 80, 60), (60, 80), 80, 20) == [Tile((0, 0, 80, 60), (0, 0, 80, 60))]


def test_a_region_is_cut_inside_of_itself() -> None:
    pieces = tiles((100, 50, 300, 90), (400, 400), 120, 10)
    assert [piece.core_xyxy for piece in pieces] == [(100, 50, 200, 90), (200, 50, 300, 90)]
    assert [piece.outer_xyxy for piece in pieces] == [(100, 50, 210, 90), (190, 50, 300, 90)]


def test_pieces_begin_on_the_grid_of_the_whole_image() -> None:
    pieces = tiles((0, 0, 4000, 3000), (3000, 4000), 1400, 96)
    assert {piece.core_xyxy[0] for piece in pieces} == {0, 1024, 2048, 3072}
    assert all(value % 32 == 0 for piece in pieces for value in piece.outer_xyxy[:2])


def found(
    boxes: list[tuple[int, int, int, int]], scores: list[float], size_hw: tuple[int, int] = (60, 200)
) -> Instances:
    dense = torch.zeros(len(boxes), *size_hw, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(dense, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    masks = CropMasks.from_dense(dense)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Instances(size_hw, masks.boxes_xyxy(), torch.tensor(scores), labels, ("a",), masks)


def test_merging() -> None:
    pieces = [
        Tile((x0, 0, x1, 60), (max(x0 - 40, 0), 0, min(x1 + 40, 200), 60))
        for x0, x1 in ((0, 67), (67, 133), (133, 200))
    ]
    first = found([(10, 10, 20, 20), (62, 10, 72, 20), (90, 30, 99, 40)], [0.6, 0.7, 0.9])
    second = found([(62, 10, 73, 20), (90, 30, 100, 40), (66, 40, 72, 50)], [0.8, 0.5, 0.4])
    third = found([(150, 5, 160, 15), (90, 30, 100, 40)], [0.3, 0.95])
    merged = merge(list(zip(pieces, (first, second, third), strict=True)), 40)
    # of the one at the border the better, in the middle the middle's own, all by their scores
    assert merged.boxes_xyxy.tolist() == [
        [62, 10, 73, 20],
        [10, 10, 20, 20],
        [90, 30, 100, 40],
        [66, 40, 72, 50],
        [150, 5, 160, 15],
    ]
    assert merged.scores.tolist() == pytest.approx([0.8, 0.6, 0.5, 0.4, 0.3])
    assert merged.masks is not None
    assert torch.equal(merged.masks.boxes_xyxy(), merged.boxes_xyxy)


PAIR = [Tile((0, 0, 100, 60), (0, 0, 140, 60)), Tile((100, 0, 200, 60), (60, 0, 200, 60))]


@pytest.mark.parametrize("with_masks", [True, False])
def test_what_one_tile_saw_as_one_object_and_its_neighbour_as_two(with_masks: bool) -> None:
    whole, halves = [(84, 10, 116, 30)], [(84, 10, 100, 30), (101, 10, 116, 30), (102, 12, 112, 20)]
    for first, second, expected in [
        ([0.9], [0.5, 0.8, 0.7], [0.9]),
        ([0.6], [0.5, 0.8, 0.7], [0.8, 0.7]),  # of one tile, one inside the other: both stay
    ]:
        one, other = found(whole, first), found(halves, second)
        if not with_masks:
            one, other = replace(one, masks=None), replace(other, masks=None)
        merged = merge(list(zip(PAIR, (one, other), strict=True)), 40)
        assert merged.scores.tolist() == pytest.approx(expected)


def test_an_object_that_its_tile_cuts_off_gives_way_to_the_whole_one() -> None:
    cut, whole = found([(66, 10, 140, 30)], [0.9]), found([(62, 10, 152, 30)], [0.6])
    merged = merge(list(zip(PAIR, (cut, whole), strict=True)), 40)
    assert merged.boxes_xyxy.tolist() == [[62, 10, 152, 30]]
    # at the image's own edge nothing is cut off
    cut, whole = found([(66, 0, 136, 60)], [0.9]), found([(66, 1, 136, 59)], [0.6])
    assert merge(list(zip(PAIR, (cut, whole), strict=True)), 40).scores.tolist() == pytest.approx([0.9])


def test_objects_without_pixels_stay() -> None:
    empty = found([(20, 10, 20, 10)], [0.4])
    assert len(merge(list(zip(PAIR, (empty, found([(150, 10, 160, 20)], [0.6])), strict=True)), 40)) == 2


@pytest.fixture(scope="module")
def nuclei() -> Predictor:
    return load("nuclei")


def test_in_pieces_as_in_one(nuclei: Predictor) -> None:
    """Touching cells across two cuts each way: as many objects, in the same places."""
    cells = touching_cells((230, 260), 45, touching=0.6, radius_px=(6, 9), seed=2)
    whole = nuclei.predict(cells.picture)
    rules = replace(nuclei.info.input, longest_side=450)  # 150 pixels of the image, 37 of them margin on either side
    pieces = Predictor(nuclei.model, replace(nuclei.info, input=rules)).predict(cells.picture)
    assert len(tiles((0, 0, 260, 230), (230, 260), 150, 37)) >= 6
    assert len(pieces) == len(whole) > 40
    assert whole.masks is not None
    assert pieces.masks is not None
    ious = iou_matrix(whole, pieces).max(1)
    assert np.sort(ious)[1] > 0.85
    assert torch.equal(pieces.scores, pieces.scores.sort(descending=True).values)
    assert pieces.masks.soft is not None
    again = pieces.masks.at_threshold(0.5)
    # moving a box rounds, and low precision has many values of exactly one half
    assert (again.areas_px() - pieces.masks.areas_px()).abs().max() <= 1


def test_the_limit_is_of_the_whole_image(nuclei: Predictor) -> None:
    cells = touching_cells((150, 160), 20, seed=1)
    rules = replace(nuclei.info.input, longest_side=270)
    few = Predictor(nuclei.model, replace(nuclei.info, input=rules)).predict(cells.picture, limit=6)
    assert len(few) == 6
    assert few.saturated
