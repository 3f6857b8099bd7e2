import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from masked import boxed, disc, masked, with_masks
from oracles.assignment import best_by_trial
from planted import Planted, film, ids_of, straight, switches

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.measure.linking import link, link_frames
from halfpixel.measure.track_rules import USUAL_RULES, TrackRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks


def followed_through(discs, n, rules=USUAL_RULES, **how):
    frames = list(film(discs, n, **how))
    return frames, list(link_frames((objects for objects, _ in frames), rules))


def test_discs_that_touch_keep_their_numbers() -> None:
    discs = [Planted(straight((20 + 12 * k, 30), (1.5, 0.5))) for k in range(5)]
    discs += [Planted(straight((20 + 12 * k, 41), (1.5, 0.5))) for k in range(5)]
    frames, linked = followed_through(discs, 30)
    ids = ids_of(frames, linked)
    assert switches(ids) == 0
    assert {len(track) for track in ids.values()} == {30}
    assert sorted(track[0] for track in ids.values()) == list(range(1, 11))


@pytest.mark.parametrize("apart", [4, 6, 9])
def test_paths_that_cross_do_not_swap_numbers(apart: float) -> None:
    """One passes before the other and hides up to two thirds of it."""
    discs = [Planted(straight((20, 20), (4, 2))), Planted(straight((100, 20 + apart), (-4, 2)))]
    frames, linked = followed_through(discs, 21)
    hidden = [objects.masks.areas_px()[numbers.index(1)] for objects, numbers in frames]
    assert (apart > 6) or min(hidden) < 0.7 * max(hidden)
    assert switches(ids_of(frames, linked)) == 0


def test_who_was_hidden_altogether_is_known_again() -> None:
    """A small disc passes behind a larger one: out of sight for a frame, and a sliver before and after.

    A sliver of less than `min_iou` is not known for what it is a part of: it is a track of one frame, and does not
    count.
    """
    discs = [Planted(lambda frame: (60, 40), radius=10, label=1), Planted(straight((20, 40), (5, 0)), radius=7)]
    frames, linked = followed_through(discs, 17, names=("cell", "pole"))
    assert [len(numbers) for _, numbers in frames].count(1) == 1
    areas = [area for objects, _ in frames for area in objects.masks.areas_px().tolist()]
    assert [area for area in areas if area < 80] == [20, 20]
    ids = ids_of(frames, linked)
    slivers = [track for track in ids[1] if ids[1].count(track) == 1]
    assert len(slivers) == 2
    assert switches({0: ids[0], 1: [track for track in ids[1] if track not in slivers]}) == 0


def test_a_pole_in_front_cuts_an_object_and_does_not_rename_it() -> None:
    pole = Planted(lambda frame: (60, 40), radius=4, label=1)
    discs = [pole, Planted(straight((20, 40), (3, 0)), radius=8)]
    frames, linked = followed_through(discs, 28, names=("cell", "pole"))
    assert min(len(numbers) for _, numbers in frames) == 2
    assert switches(ids_of(frames, linked)) == 0


@pytest.mark.parametrize(("max_gap", "found"), [(3, 1), (2, 2), (0, 2)])
def test_an_object_that_is_missed_for_three_frames(max_gap: int, found: int) -> None:
    """It has moved by 1.3 diameters meanwhile: only its velocity tells where to look for it."""
    discs = [Planted(straight((10, 40), (4, 0), missing=(8, 9, 10)))]
    frames, linked = followed_through(discs, 18, TrackRules(max_gap=max_gap))
    ids = ids_of(frames, linked)[0]
    assert len(ids) == 15
    assert len({*ids}) == found
    assert ids[7] == ids[0]


def test_frames_that_cannot_be_read_are_bridged() -> None:
    discs = [Planted(straight((10, 40), (4, 0))), Planted(straight((110, 20), (-4, 1)))]
    frames = list(film(discs, 20))
    linked = list(link_frames(None if k in (6, 7, 13) else objects for k, (objects, _) in enumerate(frames)))
    assert [k for k, one in enumerate(linked) if one is None] == [6, 7, 13]
    ids = ids_of(frames, linked)
    assert switches(ids) == 0
    assert {len(track) for track in ids.values()} == {17}


def test_unread_frames_count_as_a_gap() -> None:
    discs = [Planted(straight((60, 40), (0, 0)))]
    frames = list(film(discs, 8))
    for unread, found in ((3, 1), (4, 2)):
        linked = link_frames(None if 2 <= k < 2 + unread else objects for k, (objects, _) in enumerate(frames))
        assert len({*ids_of(frames, list(linked))[0]}) == found


def test_classes_are_never_mixed() -> None:
    one = masked(disc(6, (20, 20)), names=("cell", "debris"), labels=[0])
    other = replace(one, labels=torch.tensor([1]))
    linked = list(link_frames([one, other, one]))
    assert [objects.track_ids.tolist() for objects in linked] == [[1], [2], [1]]


def test_boxes_stand_for_masks_that_there_are_not() -> None:
    frames = [boxed((10 + k, 5, 20 + k, 15), (30, 20 - k, 40, 30 - k)) for k in range(6)]
    for objects in link_frames(frames):
        assert objects.track_ids.tolist() == [1, 2]
        assert objects.masks is None


def test_empty_frames_and_empty_masks() -> None:
    nothing = with_masks(CropMasks.empty((40, 50)))
    empty = masked(np.zeros((40, 50)), disc(5, (20, 20)))
    linked = list(link_frames([nothing, empty, empty, nothing]))
    assert [one.track_ids.tolist() for one in linked] == [[], [1, 2], [3, 2], []]


def test_what_leaves_the_picture_is_expected_outside_of_it() -> None:
    """The part of a moved mask that is beyond the edge does not count against it."""
    discs = [Planted(straight((60, 40), (6, 0)), radius=9)]
    frames, linked = followed_through(discs, 12)
    assert [len(numbers) for _, numbers in frames][-2:] == [1, 1]
    assert switches(ids_of(frames, linked)) == 0


def test_frames_of_another_size_are_refused() -> None:
    frames = [masked(disc(5, (20, 20))), masked(disc(5, (20, 20), (50, 50)))]
    with pytest.raises(ImageError, match="a frame of 50 x 50 pixels in a film of 50 x 40"):
        list(link_frames(frames))


@pytest.mark.parametrize("wrong", [{"min_iou": 0}, {"min_iou": 1.1}, {"max_gap": -1}, {"min_frames": 0}])
def test_rules_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=f"`{next(iter(wrong))}` must be"):
        TrackRules(**wrong)


def test_only_the_last_mask_of_an_object_is_kept() -> None:
    """After many frames there is no more to carry than after a few."""
    rng = np.random.default_rng(0)
    followed = None
    sizes = []
    for _ in range(60):
        at = rng.uniform(10, 70, (4, 2))
        followed = link(followed, masked(*(disc(4, (x, y), (80, 120)) for x, y in at)), TrackRules(max_gap=2))
        sizes.append(sum(crop.numel() for crop in followed.masks.crops))
    assert followed.next_id > 100
    assert len(followed) <= 4 * 4
    assert max(sizes[30:]) <= 4 * 4 * 81


# Against slow oracles ------------------------------------------------------------------------------------------------


def pixels(objects: Instances, k: int, step: tuple[int, int] = (0, 0)) -> set[tuple[int, int]]:
    height, width = objects.size_hw
    ys, xs = np.nonzero(objects.masks[k].dense()[0].numpy())
    moved = {(int(y) + step[1], int(x) + step[0]) for y, x in zip(ys, xs, strict=True)}
    return {(y, x) for y, x in moved if 0 <= y < height and 0 <= x < width}


def slowly(frames: list[Instances], rules: TrackRules) -> list[list[int]]:
    """Linking with sets of pixels and by trying all pairs."""
    known: list[dict] = []
    number, found = 0, []
    for objects in frames:
        known = [{**one, "age": one["age"] + 1, "unseen": one["unseen"] + 1} for one in known]
        known = [one for one in known if one["unseen"] <= rules.max_gap + 1]
        gains, expected = {}, {}
        for i, one in enumerate(known):
            step = tuple(round(v * one["age"]) for v in one["velocity"] or (0.0, 0.0))
            expected[i] = pixels(one["objects"], one["row"], step)
            for j in range(len(objects)):
                seen = pixels(objects, j)
                iou = len(expected[i] & seen) / max(len(expected[i] | seen), 1)
                if iou >= rules.min_iou and int(objects.labels[j]) == one["label"]:
                    gains[i, j] = iou
        pairs = {j: i for i, j in best_by_trial(gains, len(known), len(objects))[1].items()}
        now = []
        for j in range(len(objects)):
            seen = pixels(objects, j)
            centre = np.mean([(x + 0.5, y + 0.5) for y, x in seen], axis=0)
            fresh = {"objects": objects, "row": j, "centre": centre, "age": 0, "unseen": 0,
                     "velocity": None, "label": int(objects.labels[j])}  # fmt: skip
            if j not in pairs:
                number += 1
                now.append({**fresh, "id": number})
                continue
            one = known[pairs[j]]
            if len(seen) < 0.7 * len(expected[pairs[j]]) and one["age"] <= rules.max_gap:
                now.append({**one, "unseen": 0})
            else:
                step = tuple((centre - one["centre"]) / one["age"])
                velocity = [(a + b) / 2 for a, b in zip(one["velocity"] or step, step, strict=True)]
                now.append({**fresh, "id": one["id"], "velocity": velocity})
        known = now + [one for i, one in enumerate(known) if i not in pairs.values()]
        found.append([one["id"] for one in now])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_linking_against_sets_of_pixels(seed: int) -> None:
    """Five objects of two classes on random ways, each missed now and then, or half hidden."""
    rng = np.random.default_rng(seed)
    at, speed, labels = rng.uniform(8, 32, (5, 2)), rng.uniform(-2.5, 2.5, (5, 2)), rng.integers(0, 2, 5)
    frames = []
    for _ in range(9):
        at = at + speed + rng.normal(0, 0.8, at.shape)
        shown = [k for k in range(5) if rng.random() < 0.8 and disc(4.3, tuple(at[k])).any()]
        drawn = [disc(4.3, tuple(at[k])) for k in shown]
        for k, mask in zip(shown, drawn, strict=True):
            mask[:, math.ceil(at[k, 0]) if rng.random() < 0.2 else 50 :] = False
        dense = np.stack(drawn) if drawn else np.zeros((0, 40, 50), dtype=bool)
        frames.append(with_masks(CropMasks.from_dense(torch.from_numpy(dense)), ("a", "b"), labels[shown].tolist()))
    rules = TrackRules(min_iou=0.2, max_gap=1)
    assert [objects.track_ids.tolist() for objects in link_frames(frames, rules)] == slowly(frames, rules)


def test_two_thousand_objects_a_frame() -> None:
    rng = np.random.default_rng(0)
    crop = torch.from_numpy(disc(9, (9, 9), (18, 18)))
    grid = np.stack(np.meshgrid(np.arange(50), np.arange(40)), axis=2).reshape(-1, 2) * 20 + 10
    frames = []
    for _ in range(3):
        offsets = torch.from_numpy(grid + rng.integers(-1, 2, grid.shape))
        frames.append(with_masks(CropMasks((crop,) * 2000, offsets, (830, 1030))))
    linked = link_frames(frames)
    next(linked)
    start = time.process_time()
    for objects in linked:
        assert objects.track_ids.tolist() == list(range(1, 2001))
    assert time.process_time() - start < 2 * 1.0
