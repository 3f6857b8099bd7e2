import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import image_draws
from halfpixel.evaluation.evaluation import evaluate
from halfpixel.evaluation.model_comparison import MEASURES, compare
from halfpixel.evaluation.per_image import Candidate, weighted_median

PAIR = [(0, 0, 10, 10), (12, 0, 22, 10)]


def candidate(predictions, name="some", threshold=0.5, limit=100) -> Candidate:
    return Candidate(name, predictions, threshold, limit)


def pairs(n):
    """Images of two objects each: A finds both (once with a false one), B draws one around both (once none)."""
    data = dataset(*(sample(blocks(PAIR), k, attributes={"modality": "ab"[k % 2]}) for k in range(n)))
    found = [blocks(PAIR) for _ in range(n)]
    found[0] = blocks([*PAIR, (30, 30, 40, 40)])
    melted = [blocks([(0, 0, 22, 10)]) for _ in range(n)]
    melted[1] = blocks([])
    return data, found, melted


def blobs(n=12, seed=0):
    """Ragged objects, and two sets of predictions that share something with them."""
    generator = torch.Generator().manual_seed(seed)
    samples, first, second = [], [], []
    for k in range(n):
        truth = random_blobs(9, generator, n_classes=2)
        samples.append(sample(truth, k, attributes={"modality": "ab"[k % 2]}))
        noise = random_blobs(4, generator, n_classes=2)
        for found, kept in ((first, 7), (second, 4)):
            scores = torch.rand(kept + 4, generator=generator).sort(descending=True).values
            both = type(truth).concatenate([truth[:kept], noise])
            found.append(replace(both, scores=scores))
    return dataset(*samples, names=("class 0", "class 1")), first, second


def test_a_melting_model():
    data, found, melted = pairs(12)
    result = compare(data, candidate(found, "sharp"), candidate(melted, "melted"), ap_resamples=20)
    overall = result.overall
    assert (overall.n_images, overall.n_objects, overall.area_px) == (12, 24, 2400)
    assert (overall.a.objects, overall.b.objects) == (25, 11)
    assert (overall.a.area_px, overall.b.area_px) == (2500, 11 * 220)
    assert {name: n for name, n in overall.a.events.items() if n} == {"false positive": 1}
    assert {name: n for name, n in overall.b.events.items() if n} == {"merge": 11, "miss": 2}
    number = overall.contrasts
    assert (number["count_mae"].a, number["count_mae"].b) == (1 / 12, 13 / 12)
    assert number["count_mae"].ratio == pytest.approx(1 / 13)
    assert (number["count_bias"].a, number["count_bias"].b) == (1 / 12, -13 / 12)
    assert number["merge"].b == pytest.approx(100 * 11 / 24)
    assert (number["merge"].ratio, number["merge"].ratio_interval.high) == (0, 0)
    assert (number["accuracy_50"].a, number["accuracy_50"].b) == (24 / 25, 0)
    assert (number["area_ratio"].a, number["area_ratio"].b) == (25 / 24, 11 * 220 / 2400)
    assert (number["median_area_ratio"].a, number["median_area_ratio"].b) == (1, None)
    assert number["mask_ap"].a > 0.9
    better = {name: one.better for name, one in number.items() if one.better}
    assert {better[name] for name in ("count_mae", "count_bias", "merge", "accuracy_50", "f1_75", "mask_ap")} == {"A"}
    assert "miss" not in better  # two in one image of twelve: chance
    assert (result.a.count.mae, result.b.events[1]["miss"]) == (1 / 12, 2)
    assert [len(one) for one in (result.areas_px, result.a.areas_px, result.b.areas_px)] == [24, 25, 11]


def test_each_side_has_the_numbers_of_its_evaluation():
    data, first, second = blobs()
    result = compare(data, candidate(first, threshold=0.3), candidate(second, threshold=0.6, limit=6), ap_resamples=40)
    for key, side, threshold, limit in (("a", first, 0.3, 100), ("b", second, 0.6, 6)):
        alone = evaluate(data, side, threshold=threshold, max_detections=limit, ap_resamples=40, ious=(0.5, 0.75))
        assert getattr(result, key).count == alone.overall.count
        parts = [(result.overall, alone.overall), *((result.slices[name], alone.slices[name]) for name in "ab")]
        for part, expected in parts:
            values = {
                "count_mae": (expected.count.mae, expected.count.intervals["mae"]),
                "count_bias": (expected.count.bias, expected.count.intervals["bias"]),
                "mask_ap": (expected.mask_ap, expected.mask_ap_interval),
            }
            for one in expected.detection:
                for name in ("accuracy", "precision", "recall", "f1"):
                    values[f"{name}_{100 * one.counts.iou:.0f}"] = getattr(one.counts, name), one.intervals[name]
            values |= {one.count.name: (one.per_100, one.interval) for one in expected.error_types}
            assert set(values) == set(MEASURES) - {"box_ap", "area_ratio", "median_area_ratio"}
            for name, (value, interval) in values.items():
                one = part.contrasts[name]
                assert getattr(one, key) == pytest.approx(value), name
                assert getattr(one, f"{key}_interval").low == pytest.approx(interval.low), name
                assert getattr(one, f"{key}_interval").high == pytest.approx(interval.high), name
            assert getattr(part, key).events == {one.count.name: one.count.events for one in expected.error_types}


def test_the_same_images_are_drawn_for_both():
    """Oracle: a loop over the draws, with images as often as they were drawn."""
    data, first, second = blobs()
    sides = candidate(first), candidate(second)
    one = compare(data, *sides, seed=4)
    counts, areas = [], []
    for side in sides:
        kept = [objects.above(0.5) for objects in side.predictions]
        counts.append(np.array([len(o) - len(s.objects) for o, s in zip(kept, data.samples, strict=True)]))
        areas.append(np.array([int(o.masks.areas_px().sum()) for o in kept]))
    true_px = np.array([int(s.objects.masks.areas_px().sum()) for s in data.samples])
    ratios, differences, area_gaps = [], [], []
    for draw in image_draws(12, seed=4):
        images = np.repeat(np.arange(12), draw.astype(int))
        mae_a, mae_b = (np.abs(error[images]).mean() for error in counts)
        ratios.append(mae_a / mae_b)
        differences.append(mae_a - mae_b)
        area_gaps.append((areas[0][images].sum() - areas[1][images].sum()) / true_px[images].sum())
    for interval, drawn in (
        (one.overall.contrasts["count_mae"].ratio_interval, ratios),
        (one.overall.contrasts["count_mae"].difference_interval, differences),
        (one.overall.contrasts["area_ratio"].difference_interval, area_gaps),
    ):
        assert [interval.low, interval.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())


def test_a_model_against_itself():
    data, first, _ = blobs()
    result = compare(data, candidate(first), candidate(first), ap_resamples=20)
    for name, one in result.overall.contrasts.items():
        assert (one.difference or 0, one.better) == (0, None), name
        assert one.ratio in (None, 1)
        assert (one.difference_interval.low, one.difference_interval.high) == (0, 0)
    assert result.overall.contrasts["count_mae"].ratio == 1


def test_the_other_way_round():
    data, first, second = blobs()
    one, other = compare(data, candidate(first), candidate(second)), compare(data, candidate(second), candidate(first))
    turned = {"A": "B", "B": "A", None: None}
    for name, there in one.overall.contrasts.items():
        back = other.overall.contrasts[name]
        assert (there.a, there.b, there.better) == (back.b, back.a, turned[back.better])
    assert any(there.better for there in one.overall.contrasts.values())


def test_slices_of_few_images_name_no_winner():
    result = compare(pairs(12)[0], *(candidate(found) for found in pairs(12)[1:]))
    assert (result.slice_by, list(result.slices)) == ("modality", ["a", "b"])
    assert result.overall.contrasts["merge"].better == "A"
    for part in result.slices.values():
        assert part.n_images == 6
        assert {one.better for one in part.contrasts.values()} == {None}
        assert part.contrasts["merge"].difference_interval.high < 0
    assert compare(pairs(12)[0], *(candidate(found) for found in pairs(12)[1:]), slice_by="stain").slices == {}


@pytest.mark.parametrize("counts", [[], [(0, 0, 0)], [(0, 1, 0), (0, 0, 0)], [(1, 0, 0), (0, 0, 0)]])
def test_empty_images_are_defined(counts):
    """Annotated objects, and predictions of A and of B, none where there are none."""
    data = dataset(*(sample(blocks(PAIR[:n]), k) for k, (n, _, _) in enumerate(counts)))
    a, b = ([blocks(PAIR[: one[k]], masks=one[k] > 0) for one in counts] for k in (1, 2))
    result = compare(data, candidate(a), candidate(b), ap_resamples=10)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["n_images"] == len(counts)
    expected = np.mean([abs(found - n) for n, found, _ in counts]) if counts else None
    assert result.overall.contrasts["count_mae"].a == expected


def test_the_file_has_everything():
    data, found, melted = pairs(12)
    written = compare(data, candidate(found, "sharp", 0.4), candidate(melted, "melted", 0.6), ap_resamples=20).to_json()
    assert written["a"] | {"count": None} == {
        "name": "sharp", "threshold": 0.4, "max_detections": 100, "n_saturated": 0, "count": None,
    }  # fmt: skip
    assert written["images"][1] == {
        "image_id": 1, "file_name": "image-1.png", "true": 2,
        "a": {"predicted": 2, "error_types": {}, "mistakes": {}},
        "b": {"predicted": 0, "error_types": {"miss": 2}, "mistakes": {"miss": 2}},
    }  # fmt: skip
    for part in (written["overall"], written["slices"]["a"]):
        assert set(part["contrasts"]) == {*MEASURES, "quality_50", "quality_75"} - {"box_ap"}
    said = written["definitions"]
    assert "at least 0.4 (A) or 0.6 (B)" in said["count_mae"]
    stem = {name.removesuffix("_50").removesuffix("_75") for name in MEASURES}
    assert stem - {"box_ap"} <= set(said)


def test_classes_are_matched_by_name():
    truth = blocks(PAIR, labels=[0, 1], names=("cell", "vessel"))
    data = dataset(sample(truth), names=("cell", "vessel"))
    a = [blocks([*PAIR, (30, 30, 40, 40)], labels=[1, 0, 2], names=("vessel", "cell", "dirt"))]
    b = [blocks(PAIR, labels=[1, 0], names=("cell", "vessel"))]
    overall = compare(data, candidate(a), candidate(b)).overall
    assert overall.a.detection[0].accuracy == 1
    assert (overall.a.objects, overall.b.events["class confusion"]) == (2, 2)


def test_ignored_regions_count_neither_way():
    crowd = blocks([(25, 0, 45, 20)])
    data = dataset(sample(blocks(PAIR), ignored=crowd))
    result = compare(data, candidate([blocks([*PAIR, (30, 5, 40, 15)])]), candidate([blocks(PAIR)]))
    assert (result.n_ignored, result.overall.a.objects, result.overall.a.area_px) == (1, 2, 200)
    assert result.overall.contrasts["precision_50"].a == 1


def test_weighted_median_repeats_values():
    rng = np.random.default_rng(0)
    values = [rng.integers(0, 9, size=n).astype(float) for n in (3, 0, 1, 6, 2)]
    weights = rng.integers(0, 3, size=(200, 5)).astype(np.float32)
    weights[0], weights[1] = 0, (0, 1, 0, 0, 0)
    expected = []
    for row in weights.astype(int):
        drawn = np.concatenate([np.tile(one, times) for one, times in zip(values, row, strict=True)])
        expected.append(np.median(drawn) if drawn.size else np.nan)
    assert np.isnan(expected[0])
    assert np.isnan(expected[1])
    np.testing.assert_array_equal(weighted_median(values, weights), expected)
    assert np.isnan(weighted_median([], np.zeros((3, 0), dtype=np.float32))).all()


def test_what_does_not_fit():
    data, found, melted = pairs(2)
    with pytest.raises(ArgumentError, match=r"odd: the score threshold must be in 0\.\.1, got 1\.5"):
        compare(data, candidate(found, "odd", 1.5), candidate(melted))
    with pytest.raises(ArgumentError, match="expected 2 predictions, one per image, and got 1"):
        compare(data, candidate(found), candidate(melted[:1]))
    with pytest.raises(ArgumentError, match="max_detections must be at least 1"):
        compare(data, candidate(found, limit=0), candidate(melted))


def test_boxes_of_whole_rectangles_compare_as_their_masks_do():
    """A model with masks beside one without: both by their boxes."""
    data, found, melted = pairs(6)
    by_masks = compare(data, candidate(found), candidate(melted)).overall.contrasts
    by_boxes = compare(data, candidate(found), candidate([replace(one, masks=None) for one in melted]))
    assert by_boxes.compared_by == "box"
    contrasts = by_boxes.overall.contrasts
    assert set(contrasts) == set(MEASURES) - {"mask_ap", "area_ratio", "median_area_ratio"}
    assert "compared by their boxes" in by_boxes.definitions["area_ratio"]
    for name in set(contrasts) - {"box_ap"}:
        assert contrasts[name] == by_masks[name], name
    assert contrasts["box_ap"] == by_masks["mask_ap"]
    assert "box IoU" in by_boxes.definitions["accuracy"]
