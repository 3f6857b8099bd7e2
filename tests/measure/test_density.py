import numpy as np
import pytest
import torch
from masked import boxed, masked, with_masks

from halfpixel.errors import ArgumentError
from halfpixel.measure.density import counted_in_frame, density
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIDE = 240
"""Of a field that repeats itself without end in both directions."""


def field(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Ragged objects of 2 to 40 pixels, some in several pieces, and their first pixels (x, y) in the field."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(n):
        crop = rng.random(rng.integers(2, 40, 2)) < rng.choice([0.1, 0.5, 1.0])
        crop[0, 0] = True
        crops.append(crop)
    return crops, rng.integers(0, SIDE, (n, 2))


def seen_from(
    crops: list[np.ndarray], places: np.ndarray, corner_xy: tuple[int, int], size_hw: tuple[int, int]
) -> Instances:
    """What an image with this first pixel shows of the field."""
    height, width = size_hw
    shown, offsets = [], []
    for crop, place in zip(crops, places, strict=True):
        # the copies of the object that may reach into the image
        x0, y0 = (place - corner_xy) % SIDE
        for x in range(x0 - SIDE, width, SIDE):
            for y in range(y0 - SIDE, height, SIDE):
                if x + crop.shape[1] > 0 and y + crop.shape[0] > 0:
                    shown.append(torch.from_numpy(crop))
                    offsets.append((x, y))
    masks = CropMasks(tuple(shown), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2), size_hw)
    cut = [(crop, place) for crop, place in masks.placed() if crop.any()]
    places_xy = torch.tensor([place for _, place in cut], dtype=torch.int64).reshape(-1, 2)
    return with_masks(CropMasks(tuple(crop.clone() for crop, _ in cut), places_xy, size_hw))


def test_frames_that_tile_the_field_count_every_object_once() -> None:
    crops, places = field(60, seed=0)
    frame, guard = 60, 40  # the guard is as wide as the largest object
    total = 0
    for x in range(0, SIDE, frame):
        for y in range(0, SIDE, frame):
            image = seen_from(crops, places, (x - guard, y - guard), (frame + 2 * guard, frame + 2 * guard))
            found = density(image, unbiased=True, guard_px=guard)
            assert found.area_px == frame**2
            total += found.counted
    assert total == len(crops)


def test_the_counting_frame_is_unbiased_where_counting_all_is_not() -> None:
    crops, places = field(60, seed=1)
    truth = len(crops) / SIDE**2 * 1e6
    rng = np.random.default_rng(2)
    naive, framed, guarded = [], [], []
    for _ in range(150):
        image = seen_from(crops, places, tuple(rng.integers(0, SIDE, 2)), (160, 180))
        naive.append(density(image).per_megapixel)
        framed.append(density(image, unbiased=True).per_megapixel)
        guarded.append(density(image, unbiased=True, guard_px=40).per_megapixel)
    for values in (framed, guarded):
        error = np.std(values) / np.sqrt(len(values))
        assert error < 0.03 * truth
        assert abs(np.mean(values) - truth) < 3 * error
    assert np.mean(naive) > 1.15 * truth


def test_the_rule_at_each_edge() -> None:
    places = {
        "inside": (np.s_[15:18, 15:18], True),
        "fills the frame": (np.s_[10:30, 10:30], True),
        "over the left edge": (np.s_[15:18, 8:12], False),
        "over the top edge": (np.s_[8:12, 15:18], False),
        "over the right edge": (np.s_[15:18, 28:33], True),
        "over the bottom edge": (np.s_[28:33, 15:18], True),
        "over the top right corner, beyond the right edge's prolongation": (np.s_[8:12, 28:33], False),
        "over the bottom right corner": (np.s_[28:33, 28:33], True),
        "over the bottom left corner": (np.s_[28:33, 8:12], False),
        "outside, left of it": (np.s_[15:18, 2:10], False),
        "outside, right of it": (np.s_[15:18, 30:33], False),
        "around it": (np.s_[0:40, 0:50], False),
    }
    masks = []
    for where, _ in places.values():
        mask = np.zeros((40, 50), dtype=bool)
        mask[where] = True
        masks.append(mask)
    # in the frame, and coming back below it from beyond the left edge's prolongation; and above it, right of the corner
    hook, outside_hook = np.zeros((40, 50), dtype=bool), np.zeros((40, 50), dtype=bool)
    hook[25:36, 20] = hook[35, 5:20] = True
    outside_hook[20, 25:36] = outside_hook[5:20, 35] = True
    counted = counted_in_frame(masked(*masks, hook, outside_hook), (10, 10, 30, 30))
    assert dict(zip([*places, "hook", "outside hook"], counted.tolist(), strict=True)) == {
        **{name: counts for name, (_, counts) in places.items()},
        "hook": False,
        "outside hook": True,
    }


def test_boxes_count_as_rectangles() -> None:
    objects = boxed((0.2, 5, 9, 9), (0.6, 5, 9, 9), (1, 1, 5, 5), (47, 36, 50, 40), (3.6, 5, 3.9, 9))
    found = density(objects, unbiased=True)
    assert counted_in_frame(objects, (1, 1, 50, 40)).tolist() == [False, True, True, True, False]
    assert (found.counted, found.area_px) == (3, 49 * 39)
    assert density(objects).counted == 4


def test_units() -> None:
    objects = masked(np.eye(100, dtype=bool), np.eye(100, dtype=bool)[::-1])
    found = density(objects, pixel_size_um=2.0)
    assert (found.counted, found.area_px, found.unbiased) == (2, 10000, False)
    assert found.per_megapixel == 200
    assert found.per_mm2 == pytest.approx(2 / (0.2 * 0.2))
    assert density(objects).per_mm2 is None


def test_empty_masks_and_images_count_nothing() -> None:
    assert density(with_masks(CropMasks.empty((40, 50))), unbiased=True).per_megapixel == 0
    empty = masked(np.zeros((40, 50)))
    assert density(empty).counted == density(empty, unbiased=True).counted == 0


def test_a_guard_needs_room() -> None:
    for guard in (20, 100, -1):
        with pytest.raises(ArgumentError, match=f"a guard of {guard} pixels"):
            density(boxed(), unbiased=True, guard_px=guard)
