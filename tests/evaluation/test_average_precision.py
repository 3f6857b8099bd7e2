import re
from dataclasses import replace

import pytest
import torch
from scenes import SIZE_HW, blocks, dataset, random_blobs, sample

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.coco.average_precision import coco_ap

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
         "ar_1", "ar_10", "ar_max", "ar_small", "ar_medium", "ar_large")  # fmt: skip


@pytest.mark.parametrize(("kind", "block", "results"), [("mask", "segm", "fakesegm"), ("box", "bbox", "fakebbox")])
def test_the_published_numbers(shared_data, kind, block, results):
    folder = shared_data / "coco-oracle"
    text = (folder / "val2014_fake_eval_res.txt").read_text()
    text = text.split(f"type={block}")[1].split("type=")[0]
    published = [float(number) for number in re.findall(r"\] = (\d\.\d{3})", text)]
    assert len(published) == 12

    data = read_coco(folder / "instances_val2014_100.json")
    predictions = read_coco_results(folder / f"instances_val2014_{results}100_results.json", data)
    assert len(data.samples) == 100
    assert sum(len(one) == 0 for one in predictions) == 1
    result = coco_ap(data, predictions, kind=kind)
    assert [f"{getattr(result, name):.3f}" for name in NAMES] == [f"{number:.3f}" for number in published]


def test_a_perfect_prediction():
    objects = blocks([(0, 0, 5, 5), (10, 10, 20, 20)], [0.9, 0.8])
    for kind in ("mask", "box"):
        result = coco_ap(dataset(sample(objects)), [objects], kind=kind)
        assert (result.kind, result.max_detections) == (kind, 100)
        assert (result.ap, result.ap50, result.ap_small, result.ar_1, result.ar_max) == pytest.approx((1, 1, 1, 0.5, 1))


def test_what_is_undefined_is_none():
    names = ("cell", "nut")
    objects = blocks([(0, 0, 5, 5)], names=names)
    result = coco_ap(dataset(sample(objects), names=names), [objects], kind="mask")
    assert (result.ap_medium, result.ap_large, result.ar_medium, result.ar_large) == (None,) * 4
    assert result.per_class == {"cell": pytest.approx(1), "nut": None}
    nothing = coco_ap(dataset(sample(blocks([]))), [blocks([])], kind="mask")
    assert [getattr(nothing, name) for name in NAMES] == [None] * 12
    assert coco_ap(dataset(), [], kind="box").ap is None


def test_objects_without_predictions():
    result = coco_ap(dataset(sample(blocks([(0, 0, 5, 5)]))), [blocks([])], kind="mask")
    assert (result.ap, result.ar_max, result.per_class) == (0, 0, {"cell": 0})


def test_ap_is_at_our_limit_not_at_100():
    size_hw = (200, 400)
    boxes = [(20 * column, 20 * row, 20 * column + 9, 20 * row + 9) for row in range(10) for column in range(15)]
    objects = blocks(boxes, torch.linspace(0.9, 0.1, 150).tolist(), size_hw=size_hw)
    data = dataset(sample(objects))
    assert coco_ap(data, [objects], kind="mask", max_detections=1000).ap == pytest.approx(1)
    assert coco_ap(data, [objects], kind="mask", max_detections=150).ar_max == 1
    # 67 of the 101 recall levels lie at or under 2/3
    assert coco_ap(data, [objects], kind="mask", max_detections=100).ap == pytest.approx(67 / 101)
    few = coco_ap(data, [objects], kind="box", max_detections=3)
    assert (few.ar_1, few.ar_10, few.ar_max) == pytest.approx((1 / 150, 3 / 150, 3 / 150))
    assert "at most 1,000 of" in coco_ap(data, [objects], kind="mask", max_detections=1000).definition


def test_a_crowd_region_counts_neither_way():
    truth = blocks([(0, 0, 10, 10)])
    predicted = blocks([(21, 21, 29, 29), (0, 0, 10, 10)], [0.9, 0.8])
    crowd = blocks([(20, 20, 40, 40)])
    assert coco_ap(dataset(sample(truth, ignored=crowd)), [predicted], kind="mask").ap == pytest.approx(1)
    assert coco_ap(dataset(sample(truth)), [predicted], kind="mask").ap == pytest.approx(0.5)


def test_sizes_follow_the_files_areas():
    objects = blocks([(0, 0, 10, 10)])
    one = replace(sample(objects), areas_px=torch.tensor([2000.0]))
    result = coco_ap(dataset(one), [objects], kind="mask")
    assert (result.ap_small, result.ap_medium) == (None, pytest.approx(1))


def test_equal_to_another_implementation():
    faster = pytest.importorskip("faster_coco_eval")
    generator = torch.Generator().manual_seed(3)
    truths = [random_blobs(12, generator, n_classes=2) for _ in range(4)]
    # right, right, a little off, and wrong
    predictions = [one.translate(k // 2, 0, SIZE_HW) for k, one in enumerate(truths[:3])]
    predictions.append(random_blobs(30, generator, n_classes=2))
    names = truths[0].class_names
    data = dataset(*(sample(one, image_id=k + 5) for k, one in enumerate(truths)), names=names)
    annotations, results = [], []
    for one, predicted in zip(data.samples, predictions, strict=True):
        objects = one.objects
        for rle, label, area in zip(objects.masks.rles(), objects.labels.tolist(), one.areas_px, strict=True):
            annotation = {"image_id": one.image_id, "category_id": label + 1, "segmentation": rle, "iscrowd": 0}
            annotations.append({**annotation, "id": len(annotations) + 1, "area": float(area), "bbox": [0, 0, 1, 1]})
        for rle, label, score in zip(predicted.masks.rles(), predicted.labels.tolist(), predicted.scores, strict=True):
            result = {"image_id": one.image_id, "category_id": label + 1, "segmentation": rle, "score": float(score)}
            results.append(result)
    truth = faster.COCO({
        "images": [{"id": one.image_id, "height": one.size_hw[0], "width": one.size_hw[1]} for one in data.samples],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": annotations,
    })  # fmt: skip
    oracle = faster.COCOeval_faster(truth, truth.loadRes(results), "segm", print_function=lambda *_: None)
    oracle.params.maxDets = [1, 4, 5]
    oracle.evaluate()
    oracle.accumulate()
    precision = oracle.eval["precision"][..., 0, -1]
    result = coco_ap(data, predictions, kind="mask", max_detections=5)
    assert 0.1 < result.ap < 0.9
    assert result.ap == pytest.approx(precision.mean(), abs=1e-9)
    assert list(result.per_class.values()) == pytest.approx([precision[:, :, k].mean() for k in range(2)], abs=1e-9)


def test_masks_are_needed_for_mask_ap_only():
    objects = blocks([(0, 0, 5, 5)], masks=False)
    data = dataset(sample(blocks([(0, 0, 5, 5)])))
    assert coco_ap(data, [objects], kind="box").ap == pytest.approx(1)
    with pytest.raises(ArgumentError, match=r"image-1\.png: mask AP needs masks"):
        coco_ap(data, [objects], kind="mask")


def test_a_limit_below_one():
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        coco_ap(dataset(), [], kind="mask", max_detections=0)
