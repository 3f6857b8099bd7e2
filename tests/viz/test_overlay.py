import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.viz.overlay import count_caption, default_zoom, draw_overlay

SIZE_HW = (60, 90)


def instances(masks: torch.Tensor, names: tuple[str, ...] = ("cell",), score: float = 0.9) -> Instances:
    crops = CropMasks.from_dense(masks)
    n = len(crops)
    labels = torch.arange(n) % len(names)
    return Instances(crops.size_hw, crops.boxes_xyxy(), torch.full((n,), score), labels, names, crops)


def rectangle(x1: int, y1: int, x2: int, y2: int, size_hw: tuple[int, int] = SIZE_HW) -> torch.Tensor:
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def grey(value: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    return np.full((*size_hw, 3), value, dtype=np.uint8)


def changed(picture: np.ndarray, background: int) -> np.ndarray:
    return (picture.astype(int) != background).any(-1)


@pytest.mark.parametrize("zoom", [1, 2, 5])
def test_draws_inside_the_mask_and_nowhere_else(zoom: int) -> None:
    mask = rectangle(10, 12, 50, 40)
    mask[20:25, 20:30] = False
    picture = draw_overlay(grey(200), instances(mask[None]), zoom=zoom, labels=False)
    expected = np.kron(mask.numpy(), np.ones((zoom, zoom), dtype=bool))
    assert picture.shape == (60 * zoom, 90 * zoom, 3)
    assert picture.dtype == np.uint8
    # corners are rounded, nothing else differs
    assert (changed(picture, 200) ^ expected).sum() <= 8 * zoom**2


def test_touching_objects_keep_two_lines() -> None:
    red, blue = np.array([255, 0, 0], dtype=np.uint8), np.array([0, 0, 255], dtype=np.uint8)
    objects = instances(torch.stack([rectangle(10, 10, 40, 50), rectangle(40, 10, 70, 50)]))
    picture = draw_overlay(
        grey(255), objects, zoom=4, line_px=3, fill=0, labels=False, colours=np.stack([red, blue]), brighten=False
    )
    across = picture[120]  # a row through the middle of both
    is_red = (across == red).all(-1)
    is_blue = (across == blue).all(-1)
    assert is_red[:160].sum() == 6
    assert is_red[160:].sum() == 0
    assert is_blue[160:].sum() == 6
    assert is_blue[:160].sum() == 0
    assert (across[158:162].max(-1) < 130).any()  # the hairlines between them are dark


@pytest.mark.parametrize("background", [0, 255])
def test_outlines_stand_out_on_dark_and_bright(background: int) -> None:
    objects = instances(torch.stack([rectangle(5, 5, 35, 35), rectangle(45, 5, 80, 50)]))
    picture = draw_overlay(grey(background), objects, labels=False).astype(int)
    luminance = picture @ np.array([0.2126, 0.7152, 0.0722])
    zoom = default_zoom(SIZE_HW)
    for x, y in ((5, 20), (45, 20)):
        edge = luminance[y * zoom, x * zoom : (x + 1) * zoom]
        assert np.abs(edge - background).max() > 90


def test_small_objects_lie_on_top_of_large_ones() -> None:
    colours = np.array([[0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    small_first = instances(torch.stack([rectangle(30, 20, 50, 40), rectangle(5, 5, 85, 55)]))
    picture = draw_overlay(grey(100), small_first, zoom=4, fill=1.0, labels=False, colours=colours)
    assert tuple(picture[120, 160]) == (0, 255, 0)
    assert tuple(picture[120, 60]) == (255, 0, 0)


def test_single_pixels_and_empty_masks() -> None:
    masks = torch.stack([rectangle(30, 20, 31, 21), rectangle(0, 0, 0, 0), rectangle(89, 59, 90, 60)])
    picture = draw_overlay(grey(150), instances(masks), zoom=4)
    drawn = changed(picture, 150)
    assert drawn[80:84, 120:124].any()
    assert drawn[236:, 356:].any()
    assert drawn.sum() <= 2 * 16


def test_masks_partly_outside_are_cut_off() -> None:
    objects = instances(rectangle(0, 0, 30, 30)[None]).translate(-20, -20, (15, 12))
    picture = draw_overlay(grey(150, (15, 12)), objects, zoom=1)
    assert changed(picture, 150)[:9, :9].any()
    assert not changed(picture, 150)[10:].any()


def test_boxes_keep_their_fractions() -> None:
    boxes = torch.tensor([[10.5, 10.0, 40.0, 30.0], [-5.0, -5.0, 200.0, 8.0], [50.0, 50.0, 50.0, 50.0]])
    objects = Instances(SIZE_HW, boxes, torch.ones(3), torch.zeros(3, dtype=torch.int64), ("cell",))
    white = np.full((3, 3), 255, dtype=np.uint8)
    picture = draw_overlay(grey(200), objects, zoom=1, line_px=1, fill=0, labels=False, colours=white)
    assert picture.shape == (*SIZE_HW, 3)
    half, full = (200 - int(picture[20, x].max()) for x in (10, 39))
    assert 0 < half < 0.6 * full  # the left edge covers half a pixel, the right one a whole pixel


def test_labels_stay_on_their_own_object_and_need_room() -> None:
    names = ("nucleus", "platelet")
    objects = instances(torch.stack([rectangle(2, 2, 60, 58), rectangle(60, 2, 66, 58)]), names)
    plain = draw_overlay(grey(120), objects, zoom=8, labels=False)
    written = draw_overlay(grey(120), objects, zoom=8)
    different = (plain != written).any(-1)
    assert different[:, : 60 * 8].sum() > 200
    assert not different[:, 60 * 8 :].any()
    rows, columns = np.nonzero(different)
    assert 2 * 8 < columns.min() < columns.max() < 60 * 8
    assert abs(rows.mean() - 30 * 8) < 16


def test_labels_avoid_what_lies_on_top() -> None:
    objects = instances(torch.stack([rectangle(0, 0, 90, 60), rectangle(20, 10, 70, 50)]), ("table", "plate"))
    plain = draw_overlay(grey(120), objects, zoom=8, labels=False)
    written = draw_overlay(grey(120), objects[torch.tensor([0, 1])], zoom=8)
    alone = draw_overlay(grey(120), objects[torch.tensor([1])], zoom=8) != draw_overlay(
        grey(120), objects[torch.tensor([1])], zoom=8, labels=False
    )
    different = (plain != written).any(-1)
    inside = np.s_[10 * 8 : 50 * 8, 20 * 8 : 70 * 8]
    # on the plate there is its own label and nothing of the table's
    assert np.array_equal(different[inside], alone.any(-1)[inside])
    assert different.sum() > different[inside].sum() > 0


def test_one_class_writes_scores_only_where_they_tell_something() -> None:
    large = torch.stack([rectangle(0, 0, 45, 60), rectangle(45, 0, 90, 60)])
    small = torch.stack([rectangle(x, 0, x + 6, 6) for x in range(0, 90, 6)])
    for masks, score, expected in ((large, 0.9, True), (large, 1.0, False), (small, 0.9, False)):
        objects = instances(masks, score=score)
        plain, written = (draw_overlay(grey(120), objects, zoom=8, labels=on) for on in (False, True))
        assert (plain != written).any() == expected


def test_default_zoom_reaches_a_thousand_pixels() -> None:
    assert default_zoom((256, 256)) == 4
    assert default_zoom((520, 696)) == 2
    assert default_zoom((1040, 1388)) == 1
    assert default_zoom((1, 1)) == 8
    assert draw_overlay(grey(9, (256, 200)), instances(torch.zeros(0, 256, 200).bool())).shape == (1024, 800, 3)


def test_caption_adds_a_bar_below() -> None:
    objects = instances(rectangle(10, 10, 50, 50)[None])
    without = draw_overlay(grey(150), objects)
    for caption in (count_caption(objects), "a very long caption " * 60):
        picture = draw_overlay(grey(150), objects, caption=caption)
        assert picture.shape[1] == without.shape[1]
        assert np.array_equal(picture[: len(without)], without)
        bar = picture[len(without) :]
        assert len(bar) > 20
        assert bar.max() > 200  # letters
        assert (bar[:, -8:] == bar[0, 0]).all()  # that end before the edge
        assert (bar[[0, -1]] == bar[0, 0]).all()


def test_count_caption() -> None:
    objects = instances(torch.stack([rectangle(0, 0, 9, 9)] * 3), ("date", "fig", "hazelnut"))
    assert count_caption(objects) == "date 1, fig 1, hazelnut 1"
    chosen = objects[torch.tensor([1, 1, 2])].above(0.5)
    assert count_caption(chosen) == "fig 2, hazelnut 1  |  score >= 0.50"
    assert "there may be more" in count_caption(replace(chosen, saturated=True))
    assert count_caption(instances(torch.zeros(0, 5, 5).bool())) == "cell 0"


def test_dark_images_are_brightened_unless_told_not_to() -> None:
    image = grey(10)
    image[:30] = 40
    none = instances(torch.zeros(0, *SIZE_HW).bool())
    picture = draw_overlay(image, none, zoom=1)
    assert picture[0, 0, 0] == 255
    assert picture[-1, 0, 0] == 64
    assert np.array_equal(draw_overlay(image, none, zoom=1, brighten=False), image)
    assert np.array_equal(draw_overlay(grey(0), none, zoom=1), grey(0))
    assert image[0, 0, 0] == 40  # the caller's array is left alone


def test_bad_input_says_what_was_expected() -> None:
    objects = instances(rectangle(10, 10, 50, 50)[None])
    with pytest.raises(ImageError, match=r"\[60, 90\]"):
        draw_overlay(np.zeros(SIZE_HW, dtype=np.uint8), objects)
    with pytest.raises(ImageError, match="float64"):
        draw_overlay(np.zeros((*SIZE_HW, 3)), objects)
    with pytest.raises(ImageError, match="90, 60"):
        draw_overlay(grey(0, (90, 60)), objects)
    for wrong in ({"zoom": 0}, {"line_px": 0.0}, {"fill": 1.5}, {"colours": np.zeros((2, 3), dtype=np.uint8)}):
        with pytest.raises(ArgumentError):
            draw_overlay(grey(0), objects, **wrong)


def test_three_hundred_objects_take_about_a_second() -> None:
    y, x = np.mgrid[:50, :50]
    disc = torch.from_numpy(np.hypot(y - 24.5, x - 24.5) < 25)
    places = np.random.default_rng(0).integers(0, (1338, 990), (300, 2))
    masks = CropMasks((disc,) * 300, torch.from_numpy(places), (1040, 1388))
    labels = torch.zeros(300, dtype=torch.int64)
    objects = Instances((1040, 1388), masks.boxes_xyxy(), torch.full((300,), 0.8), labels, ("cell",), masks)
    start = time.process_time()
    draw_overlay(grey(120, (1040, 1388)), objects)
    assert time.process_time() - start < 5  # measured 0.4 s; the margin is for slow machines
