import json
from dataclasses import replace

import pytest
from scenes import blocks, dataset, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.evaluate import evaluate


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


def test_quality_and_counts_are_at_the_threshold_and_ap_is_not():
    result = evaluate(*three_images(), threshold=0.5, max_detections=1000)
    assert result.mask_ap.ar_max == 1
    assert (result.mask_ap.max_detections, result.box_ap.kind) == (1000, "box")
    first = result.overall.quality[0]
    assert (first.counts.iou, first.counts.tp, first.counts.fp, first.counts.fn) == (0.5, 2, 1, 1)
    assert first.counts.quality == 0.5
    assert first.interval.low <= 0.5 <= first.interval.high
    assert (result.overall.n_images, result.overall.n_objects) == (3, 3)
    assert (result.overall.count.mae, result.overall.count.bias) == (pytest.approx(2 / 3), 0)
    assert [(one.true, one.predicted) for one in result.images] == [((2,), (1,)), ((1,), (2,)), ((0,), (0,))]


def test_slices_by_an_attribute():
    result = evaluate(*three_images(), threshold=0.5, max_detections=100)
    assert (result.slice_by, list(result.slices)) == ("modality", ["bright", "dark"])
    bright, dark = result.slices["bright"], result.slices["dark"]
    assert (bright.n_images, bright.n_objects, bright.quality[0].counts.quality) == (1, 1, 0.5)
    assert (bright.quality[0].interval, bright.count_mae_interval) == (None, None)
    assert (dark.n_images, dark.n_objects, dark.quality[0].counts.quality, dark.count.mae) == (2, 2, 0.5, 0.5)
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
    assert document["overall"]["quality"][0]["quality"] == 0.5
    assert document["slices"]["bright"]["quality"][0]["interval"] is None
    assert document["mask_ap"]["ap_large"] is None
    assert document["images"][1] == {
        "image_id": 2, "file_name": "image-2.png", "true": {"cell": 1}, "predicted": {"cell": 2}
    }  # fmt: skip
    assert "not COCO AP" in document["definitions"]["quality"]
    assert "seed 0" in document["definitions"]["count_mae"]


@pytest.mark.parametrize("n", [0, 2])
def test_nothing_annotated_and_nothing_predicted(n):
    data = dataset(*(sample(blocks([]), k) for k in range(n)))
    document = evaluate(data, [blocks([])] * n, threshold=0.5, max_detections=100).to_json()
    json.dumps(document, allow_nan=False)
    assert document["overall"]["quality"][0]["quality"] is None
    assert document["overall"]["count"]["mae"] == (0 if n else None)


def test_classes_have_their_own_counts_and_saturation_is_told():
    names = ("fig", "date")
    truth = blocks([(0, 0, 10, 10), (20, 0, 30, 10)], labels=[0, 1], names=names)
    predicted = replace(blocks([(0, 0, 10, 10)], names=names), saturated=True)
    result = evaluate(dataset(sample(truth), names=names), [predicted], threshold=0.5, max_detections=100)
    assert result.n_saturated == 1
    assert {name: error.mae for name, error in result.overall.count_per_class.items()} == {"fig": 0, "date": 1}
    assert result.mask_ap.per_class == {"fig": pytest.approx(1), "date": 0}


def test_bad_threshold():
    with pytest.raises(ArgumentError, match=r"in 0\.\.1, got 1\.5"):
        evaluate(dataset(), [], threshold=1.5, max_detections=100)
