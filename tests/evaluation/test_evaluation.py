import json
import sys
from dataclasses import replace

import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.evaluation import evaluate
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks


def three_images():
    pair = blocks([(0, 0, 10, 10), (20, 0, 30, 10)])
    one = blocks([(5, 5, 15, 15)])
    data = dataset(
        sample(pair, 1, attributes={"modality": "dark"}),
        sample(one, 2, attributes={"modality": "bright"}),
        sample(blocks([]), 3, attributes={"modality": "dark"}),
    )
    predictions = [
        blocks([(0, 0, 10, 10), (20, 0, 30, 10)], [0.9, 0.3]),
        blocks([(5, 5, 15, 15), (30, 20, 40, 30)], [0.8, 0.7]),
        blocks([], []),
    ]
    return data, predictions


def test_accuracy_and_counts_are_at_the_threshold_and_ap_is_not():
    result = evaluate(*three_images(), threshold=0.5, max_detections=1000)
    assert result.mask_ap.ar_max == 1
    assert (result.mask_ap.max_detections, result.box_ap.kind) == (1000, "box")
    first = result.overall.detection[0]
    assert (first.counts.iou, first.counts.tp, first.counts.fp, first.counts.fn) == (0.5, 2, 1, 1)
    assert first.counts.accuracy == 0.5
    assert first.interval.low <= 0.5 <= first.interval.high
    assert (result.overall.n_images, result.overall.n_objects) == (3, 3)
    assert (result.overall.count.mae, result.overall.count.bias) == (pytest.approx(2 / 3), 0)
    assert [(one.true, one.predicted) for one in result.images] == [((2,), (1,)), ((1,), (2,)), ((0,), (0,))]


def test_slices_by_an_attribute():
    result = evaluate(*three_images(), threshold=0.5, max_detections=100)
    assert (result.slice_by, list(result.slices)) == ("modality", ["bright", "dark"])
    bright, dark = result.slices["bright"], result.slices["dark"]
    assert (bright.n_images, bright.n_objects, bright.detection[0].counts.accuracy) == (1, 1, 0.5)
    assert (bright.detection[0].interval, bright.count_mae_interval) == (None, None)
    assert (dark.n_images, dark.n_objects, dark.detection[0].counts.accuracy, dark.count.mae) == (2, 2, 0.5, 0.5)
    assert (evaluate(*three_images(), threshold=0.5, max_detections=100, slice_by="stain").slice_by) is None


def test_images_without_the_attribute_are_unknown():
    data, predictions = three_images()
    data = replace(data, samples=(*data.samples[:2], replace(data.samples[2], attributes={})))
    result = evaluate(data, predictions, threshold=0.5, max_detections=100)
    assert {name: one.n_images for name, one in result.slices.items()} == {"bright": 1, "dark": 1, "unknown": 1}


def test_json_is_plain_and_strict():
    result = evaluate(*three_images(), threshold=0.5, max_detections=100)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document == result.to_json()
    assert document["overall"]["detection"][0]["accuracy"] == 0.5
    assert document["slices"]["bright"]["detection"][0]["intervals"] == {}
    assert sorted(document["overall"]["detection"][0]["intervals"]) == [
        "accuracy", "f1", "mean_matched_iou", "precision", "quality", "recall"
    ]  # fmt: skip
    assert document["mask_ap"]["ap_large"] is None
    assert document["images"][1] == {
        "image_id": 2, "file_name": "image-2.png", "true": {"cell": 1}, "predicted": {"cell": 2},
        "error_types": {"false positive": {"annotated": 0, "predicted": 1}},
        "mistakes": {"false positive": {"annotated": 0, "predicted": 1}},
    }  # fmt: skip
    assert not {"error_types", "mistakes"} & set(document)
    assert "not COCO AP" in document["definitions"]["accuracy"]
    assert "seed 0" in document["definitions"]["intervals"]


@pytest.mark.parametrize("n", [0, 2])
def test_nothing_annotated_and_nothing_predicted(n):
    data = dataset(*(sample(blocks([]), k) for k in range(n)))
    document = evaluate(data, [blocks([])] * n, threshold=0.5, max_detections=100).to_json()
    json.dumps(document, allow_nan=False)
    assert document["overall"]["detection"][0]["accuracy"] is None
    assert document["overall"]["count"]["mae"] == (0 if n else None)


def test_classes_have_their_own_counts_and_saturation_is_told():
    names = ("fig", "date")
    truth = blocks([(0, 0, 10, 10), (20, 0, 30, 10)], labels=[0, 1], names=names)
    predicted = replace(blocks([(0, 0, 10, 10)], names=names), saturated=True)
    result = evaluate(dataset(sample(truth), names=names), [predicted], threshold=0.5, max_detections=100)
    assert result.n_saturated == 1
    assert {name: one.count.mae for name, one in result.classes.items()} == {"fig": 0, "date": 1}
    fig, date = result.classes["fig"], result.classes["date"]
    assert (fig.n_objects, fig.detection[0].counts.accuracy, fig.mask_ap) == (1, 1, pytest.approx(1))
    assert (date.detection[0].counts.fn, date.detection[0].counts.accuracy, date.mask_ap) == (1, 0, 0)
    assert [one.count.truths for one in date.error_types if one.count.name == "miss"] == [1]
    assert result.mask_ap.per_class == {"fig": pytest.approx(1), "date": 0}


def crowded(seed, n=30):
    """Blobs, and predictions some of which are right."""
    generator = torch.Generator().manual_seed(seed)
    size_hw = (120, 120)
    truth = random_blobs(n, generator, size_hw, n_classes=2, longest=40)
    shifted = truth.translate(seed % 3, 0, size_hw)
    extra = random_blobs(n // 3, generator, size_hw, n_classes=2, longest=40)
    masks = CropMasks.from_crops(
        [(crop.numpy(), at) for one in (shifted, extra) for crop, at in one.masks.placed()], size_hw
    )
    scores = torch.rand(len(masks), generator=generator)
    labels = torch.cat([shifted.labels, extra.labels])
    return truth, Instances(size_hw, masks.boxes_xyxy(), scores, labels, truth.class_names, masks)


def several(n=5):
    pairs = [crowded(seed, 25 + seed) for seed in range(n)]
    samples = [sample(truth, k, attributes={"stain": "ab"[k % 2]}) for k, (truth, _) in enumerate(pairs)]
    return dataset(*samples, names=pairs[0][0].class_names), [predicted for _, predicted in pairs]


def test_classes_sizes_and_slices_each_add_up_to_the_whole():
    result = evaluate(*several(), threshold=0.3, max_detections=100, slice_by="stain")
    parts = {
        "classes": list(result.classes.values()),
        "slices": list(result.slices.values()),
        "COCO": [one for one in result.sizes if one.range.of == "COCO"],
        "quarters": [one for one in result.sizes if one.range.of == "quarter"],
    }
    assert [len(some) for some in parts.values()] == [2, 2, 3, 4]
    for some in parts.values():
        assert sum(one.n_objects for one in some) == result.overall.n_objects
        for k, whole in enumerate(result.overall.detection):
            for name in ("tp", "fp", "fn", "iou_sum"):
                total = sum(getattr(one.detection[k].counts, name) for one in some)
                assert total == pytest.approx(getattr(whole.counts, name))
    for some in (parts["classes"], parts["slices"]):
        for k, whole in enumerate(result.overall.error_types):
            assert sum(one.error_types[k].count.events for one in some) == whole.count.events
    error = result.overall.count
    assert sum(one.count.effect for one in result.overall.error_types) == error.predicted - error.true


def test_a_slice_is_the_same_as_a_data_set_of_its_own():
    data, predictions = several()
    options = {"threshold": 0.3, "max_detections": 100, "ap_resamples": 30}
    result = evaluate(data, predictions, **options, slice_by="stain")
    chosen = [k for k, one in enumerate(data.samples) if one.attributes["stain"] == "a"]
    alone = evaluate(
        replace(data, samples=tuple(data.samples[k] for k in chosen)), [predictions[k] for k in chosen], **options
    )
    assert 0.1 < result.slices["a"].mask_ap < 0.9
    assert result.slices["a"] == alone.overall


def test_every_number_has_an_interval_around_it():
    result = evaluate(*several(), threshold=0.3, max_detections=100, ap_resamples=100)
    for ap in (result.mask_ap, result.box_ap, result.mask_ap_100, result.box_ap_100):
        for name in ("ap", "ap50", "ap75", "ap_small", "ar_1", "ar_10", "ar_max", "ar_small"):
            assert ap.intervals[name].low < getattr(ap, name) < ap.intervals[name].high
        assert set(ap.per_class_intervals) == set(ap.per_class)
        assert all(ap.per_class_intervals[name].low < ap.per_class[name] for name in ap.per_class)
    for name in ("mae", "mape", "bias", "r2", "agreement_low", "agreement_high"):
        interval = result.overall.count.intervals[name]
        assert interval.low <= getattr(result.overall.count, name) <= interval.high
    fast = evaluate(*several(), threshold=0.3, max_detections=100)
    assert (fast.mask_ap.ap, fast.mask_ap.intervals) == (result.mask_ap.ap, {})


def test_cocos_limit_and_ours():
    size_hw = (200, 400)
    boxes = [(20 * column, 20 * row, 20 * column + 9, 20 * row + 9) for row in range(10) for column in range(15)]
    objects = blocks(boxes, torch.linspace(0.9, 0.1, 150).tolist(), size_hw=size_hw)
    result = evaluate(dataset(sample(objects)), [objects], threshold=0, max_detections=1000)
    assert (result.mask_ap.ap, result.mask_ap_100.ap) == pytest.approx((1, 67 / 101))
    assert (result.mask_ap.max_detections, result.mask_ap_100.max_detections) == (1000, 100)
    few = evaluate(dataset(sample(objects)), [objects], threshold=0, max_detections=3)
    assert (few.mask_ap.ar_max, few.mask_ap_100.ar_max) == pytest.approx((3 / 150, 100 / 150))


def test_boundary_ap_that_cannot_be_computed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    asked = evaluate(*three_images(), threshold=0.5, max_detections=100, boundary=True)
    assert asked.boundary_ap is None
    assert "pip install 'halfpixel[boundary]'" in asked.definitions["boundary_ap"]
    assert "not asked for" in evaluate(*three_images(), threshold=0.5, max_detections=100).boundary_note


def test_no_ious():
    with pytest.raises(ArgumentError, match="at least one IoU"):
        evaluate(dataset(), [], threshold=0.5, max_detections=100, ious=())


def test_bad_threshold():
    with pytest.raises(ArgumentError, match=r"in 0\.\.1, got 1\.5"):
        evaluate(dataset(), [], threshold=1.5, max_detections=100)


def test_boxes_of_whole_rectangles_are_measured_as_their_masks_are():
    data, predictions = three_images()
    crowd = blocks([(28, 18, 50, 40)])
    samples = (data.samples[0], replace(data.samples[1], ignored=crowd), data.samples[2])
    data = replace(data, samples=samples)
    by_masks = evaluate(data, predictions, threshold=0.2, max_detections=100, ap_resamples=20)
    boxes = [replace(one, masks=None) for one in predictions]
    by_boxes = evaluate(data, boxes, threshold=0.2, max_detections=100, ap_resamples=20, boundary=True)
    assert (by_masks.compared_by, by_boxes.compared_by) == ("mask", "box")
    assert (by_boxes.mask_ap, by_boxes.mask_ap_100, by_boxes.boundary_ap) == (None, None, None)
    assert "no masks" in by_boxes.boundary_note
    assert by_boxes.ap == by_boxes.box_ap == by_masks.box_ap
    parts = [(by_boxes.overall, by_masks.overall), *zip(by_boxes.sizes, by_masks.sizes, strict=True)]
    for one, other in [*parts, *((by_boxes.slices[name], by_masks.slices[name]) for name in by_masks.slices)]:
        assert one.ap == other.ap
        assert (one.mask_ap, other.box_ap) == (None, None)
        assert one.detection == other.detection
    assert by_boxes.overall.count == by_masks.overall.count
    assert by_boxes.overall.error_types == by_masks.overall.error_types
    written = by_boxes.to_json()
    assert (written["compared_by"], written["mask_ap"], written["overall"]["mask_ap"]) == ("box", None, None)
    assert "box IoU" in written["definitions"]["accuracy"]


def test_annotations_without_masks_are_compared_by_boxes():
    data, predictions = three_images()
    bare = tuple(replace(one, objects=replace(one.objects, masks=None)) for one in data.samples)
    by_boxes = evaluate(replace(data, samples=bare), predictions, threshold=0.2, max_detections=100)
    expected = evaluate(data, [replace(one, masks=None) for one in predictions], threshold=0.2, max_detections=100)
    assert by_boxes.compared_by == "box"
    assert by_boxes.overall == expected.overall
    assert by_boxes.sizes == expected.sizes


def test_a_model_without_masks_that_finds_nothing_is_one():
    data, predictions = three_images()
    nothing = [replace(one[:0], masks=None) for one in predictions]
    found = evaluate(data, nothing, threshold=0.2, max_detections=100)
    assert (found.compared_by, found.mask_ap, found.box_ap.ap) == ("box", None, 0)
    assert "compared by their boxes" in found.definitions["mask_ap"]
