import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.viz.blur import CELLS_ACROSS, blurred

NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
Y, X = np.mgrid[:120, :160]
FACE = ((X - 60) / 24) ** 2 + ((Y - 50) / 30) ** 2 <= 1
SMALL = (X - 130) ** 2 + (Y - 90) ** 2 <= 20
CORNER = (X > 150) & (Y < 12)


def instances(*masks: np.ndarray, labels: list[int] | None = None, with_masks: bool = True) -> Instances:
    crops = CropMasks.from_dense(torch.from_numpy(np.stack(masks)))
    n = len(crops)
    which = torch.tensor(labels if labels is not None else [0] * n)
    return Instances(
        (120, 160), crops.boxes_xyxy(), torch.ones(n), which, ("face", "car"), crops if with_masks else None
    )


def colours(picture: np.ndarray, where: np.ndarray) -> int:
    return len(np.unique(picture[where], axis=0))


@pytest.mark.parametrize("mask", [FACE, SMALL, CORNER])
@pytest.mark.parametrize("with_masks", [True, False])
def test_inside_only_cells_are_left_and_outside_nothing_changes(mask: np.ndarray, with_masks: bool) -> None:
    before = NOISE.copy()
    covered = blurred(NOISE, instances(mask, with_masks=with_masks))
    assert np.array_equal(NOISE, before)
    assert colours(covered, mask) <= (CELLS_ACROSS + 1) ** 2
    assert colours(NOISE, mask) > 0.99 * mask.sum()
    shape = mask if with_masks else mask.any(1)[:, None] & mask.any(0)[None]
    near, far = (binary_dilation(shape, np.ones((3, 3)), iterations=k) for k in (1, 4))
    assert (covered[near] != NOISE[near]).any(1).mean() > 0.98
    assert np.array_equal(covered[~far], NOISE[~far])


def test_finer_detail_makes_no_difference() -> None:
    """Pixels that change places within their cells leave no trace, so they cannot be brought back."""
    objects = instances(FACE, with_masks=False)
    covered = blurred(NOISE, objects)
    cells = covered.reshape(-1, 3)
    _, cell_of = np.unique(cells, axis=0, return_inverse=True)
    region = (covered != NOISE).any(2)
    region = binary_dilation(region, np.ones((3, 3))) & (np.abs(X - 60) < 24) & (np.abs(Y - 50) < 30)
    shuffled = NOISE.copy()
    rng = np.random.default_rng(1)
    for cell in np.unique(cell_of.reshape(120, 160)[region]):
        rows, columns = np.nonzero(region & (cell_of.reshape(120, 160) == cell))
        order = rng.permutation(len(rows))
        shuffled[rows, columns] = NOISE[rows[order], columns[order]]
    assert (shuffled != NOISE).any(2).sum() > 2000
    assert np.array_equal(blurred(shuffled, objects), covered)


def test_a_cell_has_the_mean_colour() -> None:
    flat = np.zeros((120, 160, 3), dtype=np.uint8)
    flat[:, 85:] = (200, 100, 50)
    assert np.array_equal(blurred(flat, instances(FACE & (X < 70))), flat)
    # 60 pixels and 3 more on each side make cells of 11: one goes from 80 to 90
    row = blurred(flat, instances((np.abs(Y - 60) < 30) & (np.abs(X - 79.5) < 30)))[60]
    assert row[79].tolist() == [0, 0, 0]
    assert np.unique(row[80:91], axis=0).tolist() == [[round(value * 6 / 11) for value in (200, 100, 50)]]
    assert row[91].tolist() == [200, 100, 50]


def test_only_the_chosen_classes_are_covered() -> None:
    objects = instances(FACE, SMALL, labels=[0, 1])
    only_face = blurred(NOISE, objects, ["face"])
    assert np.array_equal(only_face[SMALL], NOISE[SMALL])
    assert np.array_equal(only_face[FACE], blurred(NOISE, instances(FACE))[FACE])
    assert np.array_equal(blurred(NOISE, objects, []), NOISE)
    assert np.array_equal(blurred(NOISE, objects), blurred(NOISE, objects, ["car", "face"]))


def test_the_coarser_mosaic_wins_where_objects_overlap() -> None:
    nose = (X - 60) ** 2 + (Y - 50) ** 2 <= 40
    for objects in (instances(FACE, nose), instances(nose, FACE)):
        assert colours(blurred(NOISE, objects), FACE) <= (CELLS_ACROSS + 1) ** 2


def test_an_empty_mask_covers_its_box_and_no_objects_nothing() -> None:
    empty = CropMasks((torch.zeros(4, 4, dtype=torch.bool),), torch.tensor([[40, 40]]), (120, 160))
    box = torch.tensor([[40.0, 40.0, 60.0, 70.0]])
    covered = blurred(NOISE, Instances((120, 160), box, torch.ones(1), torch.tensor([0]), ("face",), empty))
    assert colours(covered, (X >= 40) & (X < 60) & (Y >= 40) & (Y < 70)) <= (CELLS_ACROSS + 1) ** 2
    none = Instances((120, 160), torch.zeros(0, 4), torch.ones(0), torch.zeros(0, dtype=torch.int64), ("face",))
    assert np.array_equal(blurred(NOISE, none), NOISE)


def test_a_box_outside_of_the_picture_does_no_harm() -> None:
    boxes = torch.tensor([[-30.0, -30.0, -5.0, -5.0], [170.0, 10.0, 190.0, 40.0], [-10.0, 100.0, 20.0, 140.0]])
    objects = Instances((120, 160), boxes, torch.ones(3), torch.zeros(3, dtype=torch.int64), ("face",))
    covered = blurred(NOISE, objects)
    assert np.array_equal(covered[:95], NOISE[:95])
    assert colours(covered, (X < 20) & (Y >= 100)) <= (CELLS_ACROSS + 1) ** 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match=r"\(120, 160\)"):
        blurred(NOISE[:100], instances(FACE))
    with pytest.raises(ImageError, match="uint8"):
        blurred(NOISE / 255, instances(FACE))
    with pytest.raises(ArgumentError, match="no class 'dog'; there are face, car"):
        blurred(NOISE, instances(FACE), ["dog"])
