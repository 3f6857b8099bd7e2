"""Generated cells: the truth is true, and touching cells touch."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, label

from halfpixel.data.synthetic import moving_cells, touching_cells
from halfpixel.errors import ArgumentError


def test_every_cell_is_one_piece_of_its_own() -> None:
    cells = touching_cells((200, 240), 40, seed=1)
    assert len(cells.objects) == 40
    assert cells.objects.masks is not None
    dense = cells.objects.masks.dense()
    assert int(dense.sum(0).max()) == 1
    assert all(label(mask)[1] == 1 for mask in dense.numpy())
    inside = [float(cells.picture[mask.numpy()].mean()) for mask in dense]
    assert min(inside) > 2 * float(cells.picture[~dense.any(0).numpy()].mean())


def test_touching_cells_melt_in_a_semantic_mask_and_others_do_not() -> None:
    apart, together = (touching_cells((300, 300), 40, touching=share, seed=2).objects for share in (0.0, 1.0))
    assert apart.masks is not None
    assert together.masks is not None
    assert label(apart.masks.dense().any(0).numpy())[1] == 40
    assert label(together.masks.dense().any(0).numpy())[1] < 5
    first = together.masks.dense().numpy()
    for k in range(40):  # each has a neighbour
        assert (binary_dilation(first[k]) & np.delete(first, k, axis=0).any(0)).any()


def test_sizes_are_as_asked_for() -> None:
    objects = touching_cells((400, 400), 60, touching=0, radius_px=(10, 10), seed=3).objects
    assert objects.masks is not None
    inner = (objects.boxes_xyxy[:, :2] > 0).all(1) & (objects.boxes_xyxy[:, 2:] < 400).all(1)
    assert objects.masks.areas_px()[inner].double().mean() == pytest.approx(math.pi * 100, rel=0.05)


def test_the_same_seed_gives_the_same_image() -> None:
    a, b, c = (touching_cells((90, 100), 10, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(a.picture, b.picture)
    assert torch.equal(a.objects.boxes_xyxy, b.objects.boxes_xyxy)
    assert not np.array_equal(a.picture, c.picture)


def test_cells_stay_in_their_regions() -> None:
    regions = [(50.0, 60.0, 150.0, 160.0), (300.0, 300.0, 380.0, 390.0)]
    objects = touching_cells((400, 400), 40, radius_px=(5, 6), regions_xyxy=regions, seed=4).objects
    centres = (objects.boxes_xyxy[:, :2] + objects.boxes_xyxy[:, 2:]) / 2
    found = [((centres > torch.tensor(r[:2]) - 4) & (centres < torch.tensor(r[2:]) + 4)).all(1) for r in regions]
    assert (found[0] | found[1]).all()
    assert min(int(one.sum()) for one in found) > 5


def test_a_crowded_image_gets_fewer_than_asked_for() -> None:
    assert 0 < len(touching_cells((40, 40), 500, seed=0).objects) < 60


def test_none_at_all() -> None:
    cells = touching_cells((30, 40), 0)
    assert len(cells.objects) == 0
    assert cells.picture.shape == (30, 40, 3)


@pytest.mark.parametrize("wrong", [{"touching": 1.5}, {"radius_px": (0, 3)}, {"radius_px": (5, 3)}])
def test_numbers_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="expected a size"):
        touching_cells((30, 40), 3, **wrong)  # type: ignore[arg-type]


def test_cells_of_a_film_move_straight_on_and_keep_their_numbers() -> None:
    film = list(moving_cells((200, 200), 25, 12, speed_px=(1, 2), seed=2))
    assert len(film) == 12
    ways: dict[int, list[tuple[int, float, float]]] = {}
    for frame, cells in enumerate(film):
        objects = cells.objects
        assert objects.track_ids is not None
        assert objects.masks is not None
        assert (objects.masks.areas_px() > 0).all()
        boxes = objects.boxes_xyxy
        inside = ((boxes[:, :2] > 0) & (boxes[:, 2:] < 200)).all(1)
        for track, (x0, y0, x1, y1) in zip(objects.track_ids[inside].tolist(), boxes[inside].tolist(), strict=True):
            ways.setdefault(track, []).append((frame, (x0 + x1) / 2, (y0 + y1) / 2))
    long = [np.array(way) for way in ways.values() if len(way) > 8]
    assert len(long) > 5
    steps = [np.hypot(*(way[-1, 1:] - way[0, 1:])) / (way[-1, 0] - way[0, 0]) for way in long]
    assert 0.8 < min(steps) < max(steps) < 2.2
    first, last = ({*cells.objects.track_ids.tolist()} for cells in (film[0], film[-1]))
    assert last - first  # some came, some went
    assert first - last


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"speed_px": (3, 1)}, {"n": -1}])
def test_films_that_there_are_not(wrong: dict[str, object]) -> None:
    how = {"n": 3, "frames": 3, **wrong}
    with pytest.raises(ArgumentError, match="expected a size"):
        next(moving_cells((50, 50), **how))
