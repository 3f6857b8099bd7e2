import json
from pathlib import Path

import pytest
from coco_files import COMPRESSED, DATA_SET, SQUARE, saved

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.errors import AnnotationError


def test_results_list_of_masks(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    results = [
        {"image_id": 7, "category_id": 9, "score": 0.25, "segmentation": COMPRESSED},
        {"image_id": 7, "category_id": 4, "score": 0.75, "segmentation": [SQUARE], "bbox": [1.5, 2, 3, 40]},
        {"image_id": 7, "category_id": 4, "score": 0.25, "segmentation": [SQUARE]},
        {"image_id": 7, "category_id": 4, "score": 0.0, "segmentation": []},
    ]
    first, second = read_coco_results(saved(tmp_path, results, "results.json"), data)
    assert first.scores.tolist() == [0.75, 0.25, 0.25, 0]
    assert first.labels.tolist() == [0, 1, 0, 0]
    assert first.boxes_xyxy.tolist() == [[1.5, 2, 4.5, 42], [10, 4, 15, 7], [3, 2, 9, 8], [0, 0, 0, 0]]
    assert first.masks.areas_px().tolist() == [36, 15, 36, 0]
    assert first.class_names == data.class_names
    assert (len(second), len(second.masks)) == (0, 0)


def test_results_list_of_boxes(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    results = [{"image_id": 3, "category_id": 9, "score": 1, "bbox": [1.5, 2, 3, 4]}]
    first, second = read_coco_results(saved(tmp_path, results, "results.json"), data)
    assert (len(first), first.masks) == (0, None)
    assert (second.boxes_xyxy.tolist(), second.masks) == ([[1.5, 2, 4.5, 6]], None)


def test_no_results_at_all(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    found = read_coco_results(saved(tmp_path, [], "results.json"), data)
    assert [len(objects) for objects in found] == [0, 0]


RESULT = {"image_id": 7, "category_id": 9, "score": 0.5, "segmentation": COMPRESSED}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,\n2", "broken JSON in line 2"),
        ("5", "list of COCO results.*JSON number"),
        ([{"image_id": 7, "category_id": 9}], r"results\[0\] .* has no 'score'"),
        ([RESULT, RESULT | {"image_id": 5}], "result 1 .counted from 0.: .* has no image 5"),
        ([RESULT | {"category_id": 5}], "has no such category 5"),
        ([RESULT | {"score": float("nan")}], "'score' must be 1 finite number"),
        (
            [RESULT, {"image_id": 7, "category_id": 9, "score": 1, "bbox": [0, 0, 1, 1]}],
            "has no 'segmentation', though",
        ),
        ([{"image_id": 7, "category_id": 9, "score": 1}], "'bbox'"),
        ([RESULT | {"segmentation": {"size": [5, 5], "counts": [25]}}], r"size .* of \[5, 5\]"),
        (DATA_SET, r"annotations\[0\] .id 1. has no 'score'"),
        (
            {"images": [{"id": 1, "file_name": "z.png"}], "annotations": [], "categories": []},
            "image 1 .z.png. is not in the data set",
        ),
    ],
)
def test_faults_of_results(tmp_path, content, message):
    data = read_coco(saved(tmp_path, DATA_SET))
    path = saved(tmp_path, content, "results.json")
    with pytest.raises(AnnotationError, match=message) as error:
        read_coco_results(path, data)
    assert str(error.value).startswith(f"{path}: ")


def test_published_results_are_read_whole(shared_data: Path):
    folder = shared_data / "coco-oracle"
    data = read_coco(folder / "instances_val2014_100.json")
    assert len(data.samples) == 100
    for kind in ("segm", "bbox"):
        path = folder / f"instances_val2014_fake{kind}100_results.json"
        found = read_coco_results(path, data)
        assert sum(map(len, found)) == len(json.loads(path.read_text())) == 734
        assert all((objects.masks is None) == (kind == "bbox") for objects in found)
        assert all(bool((objects.scores.diff() <= 0).all()) for objects in found)
