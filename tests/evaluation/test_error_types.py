from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, random_blobs

from halfpixel.evaluation.detection.error_types import (
    ERROR_TYPES,
    classify_errors,
    count_error_types,
    tally_error_types,
)
from halfpixel.evaluation.detection.object_matching import match_image
from halfpixel.structures.masks import CropMasks

CLASSES = ("fig", "date")


def told(truth, predicted, ignored=None):
    """Annotated and predicted objects of each name, those that have some."""
    errors = classify_errors(truth, predicted, ignored)
    found = {name: (errors.truths[name].tolist(), errors.predictions[name].tolist()) for name in ERROR_TYPES}
    return {name: one for name, one in found.items() if one != ([], [])}


def test_all_right():
    objects = blocks([(0, 0, 10, 10), (20, 0, 30, 10)])
    assert told(objects, objects) == {}
    assert told(blocks([]), blocks([])) == {}


def test_miss_and_false_positive():
    assert told(blocks([(0, 0, 10, 10)]), blocks([(30, 30, 40, 40)])) == {
        "miss": ([0], []),
        "false positive": ([], [0]),
    }
    # they touch, but with an IoU of 10 / 190
    assert told(blocks([(0, 0, 10, 10)]), blocks([(9, 0, 19, 10)])) == {"miss": ([0], []), "false positive": ([], [0])}


def test_merge_of_two_that_are_both_lost():
    truth, predicted = blocks([(0, 0, 10, 10), (12, 0, 22, 10)]), blocks([(0, 0, 22, 10)])
    assert told(truth, predicted) == {"merge": ([0, 1], [0])}
    ((who, whom),) = classify_errors(truth, predicted).merges
    assert (who, whom.tolist()) == (0, [0, 1])


def test_merge_that_fits_one_of_three_well():
    truth = blocks([(0, 0, 20, 20), (22, 0, 26, 4), (22, 6, 26, 10)])
    predicted = blocks([(0, 0, 26, 20)])
    assert told(truth, predicted) == {"merge": ([1, 2], [])}
    errors = classify_errors(truth, predicted)
    assert [(who, whom.tolist()) for who, whom in errors.merges] == [(0, [0, 1, 2])]
    (merge,) = (one for one in count_error_types(tally_error_types(errors, truth, predicted)) if one.name == "merge")
    assert (merge.events, merge.truths, merge.predictions, merge.effect) == (1, 2, 0, -2)


def test_over_objects_that_were_found_is_no_merge():
    truth = blocks([(0, 0, 10, 10), (12, 0, 22, 10)])
    predicted = blocks([(0, 0, 10, 10), (12, 0, 22, 10), (0, 0, 22, 10)])
    assert told(truth, predicted) == {"false positive": ([], [2])}
    # one of them lost: the other is still found, so that nothing is merged, only badly outlined
    assert told(truth, predicted[[0, 2]])["localisation"] == ([1], [1])


def test_half_covered_is_not_merged():
    truth = blocks([(0, 0, 10, 10), (20, 0, 30, 10)])
    assert told(truth, blocks([(5, 0, 25, 10)])) == {"localisation": ([0, 1], [0])}


def test_split_into_two_halves():
    truth, predicted = blocks([(0, 0, 20, 10)]), blocks([(0, 0, 9, 10), (11, 0, 20, 10)])
    assert told(truth, predicted) == {"split": ([0], [0, 1])}
    # one piece is large enough to be its partner
    predicted = blocks([(0, 0, 12, 10), (13, 0, 20, 10)])
    assert told(truth, predicted) == {"split": ([], [1])}
    errors = classify_errors(truth, predicted)
    assert [(who, pieces.tolist()) for who, pieces in errors.splits] == [(0, [0, 1])]
    (split,) = (one for one in count_error_types(tally_error_types(errors, truth, predicted)) if one.name == "split")
    assert (split.events, split.effect) == (1, 1)


def test_duplicate():
    truth = blocks([(0, 0, 10, 10)])
    assert told(truth, blocks([(0, 0, 10, 10), (0, 0, 10, 9)])) == {"duplicate": ([], [1])}
    assert told(truth, blocks([(0, 0, 10, 9), (0, 0, 10, 10)])) == {"duplicate": ([], [0])}


def test_localisation():
    # IoU 60 / 140
    assert told(blocks([(0, 0, 10, 10)]), blocks([(4, 0, 14, 10)])) == {"localisation": ([0], [0])}


def test_class_confusion():
    truth = blocks([(0, 0, 10, 10)], labels=[0], names=CLASSES)
    predicted = blocks([(0, 0, 10, 9)], labels=[1], names=CLASSES)
    assert told(truth, predicted) == {"class confusion": ([0], [0])}
    # overlapping too little for that, another class is just wrong
    predicted = blocks([(4, 0, 14, 10)], labels=[1], names=CLASSES)
    assert told(truth, predicted) == {"miss": ([0], []), "false positive": ([], [0])}


def test_a_second_name_for_what_was_found_is_a_duplicate():
    truth = blocks([(0, 0, 10, 10)], labels=[0], names=CLASSES)
    predicted = blocks([(0, 0, 10, 10), (0, 0, 10, 10)], labels=[1, 0], names=CLASSES)
    assert told(truth, predicted) == {"duplicate": ([], [0])}


def test_classes_do_not_merge_or_split_each_other():
    truth = blocks([(0, 0, 10, 10), (12, 0, 22, 10)], labels=[0, 1], names=CLASSES)
    predicted = blocks([(0, 0, 22, 10)], labels=[0], names=CLASSES)
    assert told(truth, predicted) == {"localisation": ([0], [0]), "miss": ([1], [])}


def test_what_is_in_an_ignored_region_has_no_name():
    truth, crowd = blocks([(0, 0, 10, 10)]), blocks([(20, 20, 40, 40)])
    assert told(truth, blocks([(0, 0, 10, 10), (25, 25, 30, 30)]), crowd) == {}


def test_tally_by_class():
    truth = blocks([(0, 0, 10, 10), (20, 0, 30, 10)], labels=[0, 1], names=CLASSES)
    predicted = blocks([(0, 0, 10, 10), (40, 30, 45, 35)], labels=[1, 1], names=CLASSES)
    tally = tally_error_types(classify_errors(truth, predicted), truth, predicted)
    named = {
        (CLASSES[k], ERROR_TYPES[j]): tally[k, j].tolist() for k in range(2) for j in range(7) if tally[k, j].any()
    }
    assert named == {
        ("fig", "class confusion"): [0, 1, 0], ("date", "class confusion"): [1, 0, 1],
        ("date", "miss"): [1, 1, 0], ("date", "false positive"): [1, 0, 1],
    }  # fmt: skip


def slow_names(truth, predicted, ignored):
    """Oracle: sets of pixels, one object after another, straight from the definitions."""
    (match,) = match_image(truth, predicted, ignored, [0.5])
    a, b = ([set(map(tuple, mask.nonzero().tolist())) for mask in one.masks.dense()] for one in (truth, predicted))
    la, lb = truth.labels.tolist(), predicted.labels.tolist()
    partner = dict(match.pairs.tolist())
    lost, extra = match.false_negatives.tolist(), match.false_positives.tolist()

    def iou(i, j):
        return len(a[i] & b[j]) / max(len(a[i] | b[j]), 1)

    def mine(i, j):
        return partner.get(i) == j

    confused = [(i, j) for i in lost for j in extra if la[i] != lb[j] and iou(i, j) >= 0.5]
    double = {j for j in extra for i in partner if iou(i, j) >= 0.5}
    merged, cut = {}, {}
    for j in {*extra, *partner.values()}:
        under = [i for i in range(len(a)) if la[i] == lb[j] and 2 * len(a[i] & b[j]) > len(a[i])]
        under = [i for i in under if mine(i, j) or i in lost]
        if len(under) > 1:
            merged[j] = under
    for i in range(len(a)):
        within = [j for j in range(len(b)) if la[i] == lb[j] and 2 * len(a[i] & b[j]) > len(b[j])]
        free = {*extra} - double - {j for _, j in confused}
        within = [j for j in within if mine(i, j) or j in free]
        if len(within) > 1:
            cut[i] = within
    names_a, names_b = {}, {}
    for i in lost:
        if any(i == one for one, _ in confused):
            names_a[i] = "class confusion"
        elif any(i in under for under in merged.values()):
            names_a[i] = "merge"
        elif i in cut:
            names_a[i] = "split"
    for j in extra:
        if any(j == one for _, one in confused):
            names_b[j] = "class confusion"
        elif j in double:
            names_b[j] = "duplicate"
        elif j in merged:
            names_b[j] = "merge"
        elif any(j in pieces for pieces in cut.values()):
            names_b[j] = "split"
    near = [
        (i, j) for i in lost for j in extra
        if i not in names_a and j not in names_b and la[i] == lb[j] and iou(i, j) >= 0.1
    ]  # fmt: skip
    names_a |= {i: "localisation" for i, _ in near}
    names_b |= {j: "localisation" for _, j in near}
    return (
        {i: names_a.get(i, "miss") for i in lost},
        {j: names_b.get(j, "false positive") for j in extra},
        sorted((j, under) for j, under in merged.items()),
        sorted((i, pieces) for i, pieces in cut.items()),
    )


def random_scene(seed):
    generator = torch.Generator().manual_seed(seed)
    truth, predicted = (random_blobs(n, generator, n_classes=2, longest=22) for n in (16, 22))
    # some are found, one of them twice, and some are given the wrong class
    boxes, masks, labels = predicted.boxes_xyxy, list(predicted.masks.placed()), predicted.labels
    for k, one in enumerate([0, 0, 1, 2, 3]):
        crop, at = list(truth.masks.placed())[one]
        masks[k], labels[k] = (
            (crop & (torch.rand(crop.shape, generator=generator) < 0.9), at),
            truth.labels[one] ^ (k > 2),
        )
    found = CropMasks.from_crops([(crop.numpy(), at) for crop, at in masks], predicted.size_hw)
    predicted = replace(predicted, boxes_xyxy=boxes, masks=found)
    return truth, predicted, random_blobs(1, generator, n_classes=2, longest=20)


def test_names_against_pixel_sets():
    seen = set()
    for seed in range(40):
        truth, predicted, crowd = random_scene(seed)
        found = classify_errors(truth, predicted, crowd)
        names_a, names_b, merged, cut = slow_names(truth, predicted, crowd)
        for named, expected in ((found.truths, names_a), (found.predictions, names_b)):
            every = [k for name in ERROR_TYPES for k in named[name].tolist()]
            assert sorted(every) == sorted(expected)  # each exactly once
            assert {k: name for name in ERROR_TYPES for k in named[name].tolist()} == expected
        assert [(k, whom.tolist()) for k, whom in found.merges] == merged
        assert [(k, pieces.tolist()) for k, pieces in found.splits] == cut
        seen |= {*names_a.values(), *names_b.values()}
        assert len(found) == len(names_a) + len(names_b)
    assert seen == set(ERROR_TYPES)


def test_names_by_boxes_against_the_pixels_in_them():
    seen = set()
    for seed in range(40):
        scene = [replace(one, boxes_xyxy=one.masks.boxes_xyxy()) for one in random_scene(seed)]
        truth, predicted, crowd = (replace(one, masks=None) for one in scene)
        found = classify_errors(truth, predicted, crowd, kind="box")
        filled = [blocks(one.boxes_xyxy.int().tolist(), labels=one.labels.tolist(), names=CLASSES) for one in scene]
        names_a, names_b, merged, cut = slow_names(*filled)
        for named, expected in ((found.truths, names_a), (found.predictions, names_b)):
            assert {k: name for name in ERROR_TYPES for k in named[name].tolist()} == expected
        assert [(k, whom.tolist()) for k, whom in found.merges] == merged
        assert [(k, pieces.tolist()) for k, pieces in found.splits] == cut
        seen |= {*names_a.values(), *names_b.values()}
    assert seen == set(ERROR_TYPES)


def test_boxes_merge_and_split():
    """One box over two objects, and two halves of one; by hand."""
    truth = blocks([(0, 0, 10, 10), (10, 0, 20, 10), (0, 20, 20, 30)], masks=False)
    predicted = blocks([(0, 0, 20, 10), (0, 20, 9, 30), (11, 20, 20, 30)], masks=False)
    found = classify_errors(truth, predicted, kind="box")
    assert [(k, whom.tolist()) for k, whom in found.merges] == [(0, [0, 1])]
    assert [(k, pieces.tolist()) for k, pieces in found.splits] == [(2, [1, 2])]
    assert not any(len(found.truths[name]) for name in ("miss", "localisation"))


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_objects_plays_no_part(seed):
    truth, predicted, _ = random_scene(seed)
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randperm(len(one), generator=generator) for one in (truth, predicted))
    found, turned = classify_errors(truth, predicted), classify_errors(truth[first], predicted[second])
    for name in ERROR_TYPES:
        assert sorted(first[turned.truths[name]].tolist()) == found.truths[name].tolist()
        assert sorted(second[turned.predictions[name]].tolist()) == found.predictions[name].tolist()


def test_effects_add_up_to_the_count_error():
    for seed in range(10):
        truth, predicted, _ = random_scene(seed)
        counts = count_error_types(tally_error_types(classify_errors(truth, predicted), truth, predicted))
        assert sum(one.effect for one in counts) == len(predicted) - len(truth)
    assert count_error_types(np.zeros((0, 2, 7, 3), dtype=np.int64))[0].events == 0
