import copy
import json
import re
from pathlib import Path

import hotcoco.mask as hotcoco_mask
import numpy as np
import pytest
import torch

from halfpixel.data.formats.coco import read_coco, read_coco_polygons, read_coco_results, write_coco
from halfpixel.errors import AnnotationError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

HEIGHT, WIDTH = 12, 16
SQUARE = [3.0, 2.0, 9.0, 2.0, 9.0, 8.0, 3.0, 8.0]  # 6 x 6 pixels from (3, 2)
CANVAS = np.zeros((HEIGHT, WIDTH), np.uint8)
CANVAS[4:7, 10:15] = 1
UNCOMPRESSED = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT + 4] + [3, 9] * 4 + [3, HEIGHT + 5]}
COMPRESSED = {"size": [HEIGHT, WIDTH], "counts": hotcoco_mask.encode(CANVAS)["counts"].decode()}
DATA_SET = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, "modality": "grey-dark"},
        {"id": 3, "file_name": "sub/b.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "segmentation": [SQUARE], "bbox": [2.5, 2, 6.75, 6], "area": 36.5},
        {"id": 2, "image_id": 7, "category_id": 4, "segmentation": UNCOMPRESSED, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 4, "segmentation": COMPRESSED, "iscrowd": 0},
    ],
    "categories": [{"id": 9, "name": "cell"}, {"id": 4, "name": "tree"}],
}


def saved(tmp_path, content, name="instances.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(**keys):
    """The data set with these keys of its first annotation changed."""
    content = copy.deepcopy(DATA_SET)
    content["annotations"][0] |= keys
    return content


def run_lengths(counts, size=(HEIGHT, WIDTH)):
    """A segmentation of run lengths; None for a key that is not there."""
    parts = {"size": size and list(size), "counts": counts}
    return {"segmentation": {key: value for key, value in parts.items() if value is not None}}


def same_objects(one, other):
    assert one.size_hw == other.size_hw
    assert one.class_names == other.class_names
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)
    assert torch.equal(one.masks.dense(), other.masks.dense())


def test_everything_is_read(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    assert data.class_names == ("tree", "cell")
    assert data.category_ids == (4, 9)
    assert data.warnings == ()
    first, second = data.samples
    assert (first.image_id, first.size_hw, first.path) == (7, (HEIGHT, WIDTH), tmp_path / "a.png")
    assert first.attributes == {"modality": "grey-dark"}
    assert first.annotation_ids == (1, 3)
    assert first.objects.labels.tolist() == [1, 0]
    assert first.objects.scores.tolist() == [1, 1]
    assert first.objects.boxes_xyxy.tolist() == [[2.5, 2, 9.25, 8], [10, 4, 15, 7]]  # given; the mask's
    assert first.areas_px.tolist() == [36.5, 15]  # given; the mask's
    expected = np.stack([hotcoco_mask.decode(hotcoco_mask.frPoly(SQUARE, HEIGHT, WIDTH)), CANVAS])
    assert expected[0].sum() == 36
    np.testing.assert_array_equal(first.objects.masks.dense().numpy(), expected)
    np.testing.assert_array_equal(first.ignored.masks.dense()[0].numpy(), CANVAS)
    assert first.ignored.boxes_xyxy.tolist() == [[10, 4, 15, 7]]
    assert (len(second.objects), len(second.ignored), second.areas_px.shape) == (0, 0, (0,))
    assert second.path == tmp_path / "sub" / "b.png"


def test_where_images_are_looked_for(tmp_path):
    path = saved(tmp_path, DATA_SET)
    assert read_coco(path, tmp_path / "else").samples[0].path == tmp_path / "else" / "a.png"
    (tmp_path / "images").mkdir()
    assert read_coco(path).samples[0].path == tmp_path / "images" / "a.png"


def test_parts_of_a_polygon_mask_are_united(tmp_path):
    parts = [SQUARE, [6.2, 5.1, 14.3, 5.7, 12.9, 11.0], [1.0, 1.0, 2.0, 2.0]]
    (sample, _) = read_coco(saved(tmp_path, changed(segmentation=parts))).samples
    expected = hotcoco_mask.decode(hotcoco_mask.merge(hotcoco_mask.frPyObjects(parts[:2], HEIGHT, WIDTH)))
    np.testing.assert_array_equal(sample.objects.masks.dense()[0].numpy(), expected)


def test_a_box_partly_outside_is_cut(tmp_path):
    (sample, _) = read_coco(saved(tmp_path, changed(bbox=[-4.0, 2.5, 30.0, 20.0]))).samples
    assert sample.objects.boxes_xyxy[0].tolist() == [0, 2.5, WIDTH, HEIGHT]


def test_a_box_of_no_area_gives_way_to_the_masks(tmp_path):
    (sample, _) = read_coco(saved(tmp_path, changed(bbox=[3, 2, 0, 6]))).samples
    assert sample.objects.boxes_xyxy[0].tolist() == [3, 2, 9, 8]


@pytest.mark.parametrize(
    ("keys", "kind", "reason"),
    [
        ({"image_id": 99}, "unknown_image", "there is no image 99"),
        ({"category_id": 99}, "unknown_category", "there is no category 99"),
        ({"segmentation": [[1, 1, 5, 5]]}, "empty_mask", "no pixels .a polygon takes at least three points"),
        ({"segmentation": []}, "empty_mask", "no pixels"),
        ({"segmentation": [[4, 4, 4, 4, 4, 4]]}, "empty_mask", "no pixels$"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}, "empty_mask", "no pixels"),
        ({"segmentation": [[16, 1, 20, 1, 20, 5]]}, "outside_image", "polygons are outside of the 16 x 12 image"),
        ({"bbox": [WIDTH, 2, 5, 5]}, "outside_image", "outside of the 16 x 12 image"),
        ({"bbox": [-9, 2, 5, 5]}, "outside_image", "outside of the 16 x 12 image"),
        ({"bbox": [2, HEIGHT + 3.5, 5, 5]}, "outside_image", "outside of the 16 x 12 image"),
        ({"bbox": [2, -5, 5, 5]}, "outside_image", "outside of the 16 x 12 image"),
        ({"segmentation": [[1, 1, 5, 5, 9]]}, "unusable_polygon", "odd number of coordinates .5."),
        ({"segmentation": [[1, 1, 5, 5, 9, "2"]]}, "unusable_polygon", "'polygon 0' must be 6 finite numbers"),
        ({"segmentation": [[1, 1, 5, 5, 9, float("nan")]]}, "unusable_polygon", "must be 6 finite numbers"),
        ({"segmentation": [[1, 1, 5, 5, 9, 1e9]]}, "unusable_polygon", "reaches 1e.09 pixels away"),
        ({"segmentation": [1, 1, 5, 5, 9, 9]}, "unusable_polygon", "polygon 0 must be a list"),
        (run_lengths([HEIGHT * WIDTH], size=[WIDTH, HEIGHT]), "unusable_run_lengths", r"size .* of \[16, 12\]"),
        (run_lengths([HEIGHT * WIDTH], size=None), "unusable_run_lengths", "size .* of None"),
        (run_lengths([5, 5]), "unusable_run_lengths", "add up to 10"),
        (run_lengths([5, -5, 192]), "unusable_run_lengths", "whole numbers"),
        (run_lengths([5, 5.5]), "unusable_run_lengths", "whole numbers"),
        (run_lengths([2**64, 5]), "unusable_run_lengths", "add up to"),
        (run_lengths("55"), "unusable_run_lengths", "add up to 10"),
        (run_lengths("é"), "unusable_run_lengths", "characters outside"),
        (run_lengths(None), "unusable_run_lengths", "'counts' must be"),
        ({"bbox": [1, 2, 3]}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": "box"}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "unusable_box", "negative width or height"),
        ({"area": "36"}, "unusable_area", "'area' must be 1 finite number"),
        ({"area": float("nan")}, "unusable_area", "'area' must be 1 finite number"),
        ({"image_id": "7"}, "unusable_annotation", "it has an unusable 'image_id': '7'"),
        ({"category_id": True}, "unusable_annotation", "it has an unusable 'category_id': True"),
        ({"category_id": None}, "unusable_annotation", "it has no 'category_id'"),
        ({"segmentation": 5}, "unusable_annotation", "it has an unusable 'segmentation': 5"),
    ],
)
def test_faults_of_one_annotation_leave_it_out_and_say_so(tmp_path, keys, kind, reason):
    path = saved(tmp_path, changed(**keys))
    data = read_coco(path)
    (fault,) = data.warnings
    assert (fault.kind, fault.path, fault.where) == (kind, path, "annotation 1")
    assert re.search(rf"^left out, .*{reason}", fault.what)
    assert str(fault).startswith(f"{path}: annotation 1: left out, ")
    assert "\n" not in str(fault)
    assert fault.image == (None if "image_id" in keys else tmp_path / "a.png")
    assert data.samples[0].annotation_ids == (3,)
    assert len(data.samples[0].objects) == len(data.samples[0].areas_px) == 1


@pytest.mark.parametrize(("entry", "reason"), [(None, "JSON null"), ("1", "JSON string"), ({}, "has no 'id'")])
def test_an_annotation_without_an_id_goes_by_its_place(tmp_path, entry, reason):
    data = read_coco(saved(tmp_path, DATA_SET | {"annotations": [*DATA_SET["annotations"], entry]}))
    (fault,) = data.warnings
    assert (fault.kind, fault.where) == ("unusable_annotation", "annotations[3]")
    assert reason in fault.what
    assert data.samples[0].annotation_ids == (1, 3)


def test_annotations_that_share_an_id_are_kept(tmp_path):
    data = read_coco(saved(tmp_path, changed(id=3)))
    (fault,) = data.warnings
    assert (fault.kind, fault.where) == ("repeated_id", "annotation 3")
    assert fault.what == "2 annotations have this id; all of them are kept"
    assert data.samples[0].annotation_ids == (3, 3)
    assert data.samples[0].objects.labels.tolist() == [1, 0]


def test_polygons_as_they_stand_in_the_file(tmp_path):
    content = changed(segmentation=[SQUARE, [1, 2]])
    content["annotations"].append(None)
    assert read_coco_polygons(saved(tmp_path, content)) == {(7, 1): [SQUARE, [1, 2]]}
    assert read_coco_polygons(saved(tmp_path, [])) == {}
    with pytest.raises(AnnotationError, match="broken JSON"):
        read_coco_polygons(saved(tmp_path, "{"))


def without(name, key):
    content = copy.deepcopy(DATA_SET)
    del content[name][1][key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [],\n "annotations": [,]}', "broken JSON in line 2, column 18"),
        ("", "broken JSON in line 1"),
        ("[" * 100_000, "not a JSON file"),
        ("[1, 2]", "expected a COCO data set .a JSON object., got a JSON list"),
        ("3", "got a JSON number"),
        ("{}", "has no 'images'"),
        ({"images": [], "categories": []}, "has no 'annotations'"),
        ({"images": [], "annotations": []}, "has no 'categories'"),
        (DATA_SET | {"images": {}}, "'images' must be a list, got a JSON object"),
        (DATA_SET | {"images": [None]}, r"images\[0\] must be an object, got a JSON null"),
        (DATA_SET | {"annotations": {}}, "'annotations' must be a list, got a JSON object"),
        (DATA_SET | {"images": DATA_SET["images"][:1] * 2}, "'images' has more than one entry with the id 7"),
        (DATA_SET | {"categories": DATA_SET["categories"][:1] * 2}, "'categories' has more than one .* id 9"),
        (without("images", "width"), r"images\[1\] .id 3. has no 'width'"),
        (without("images", "file_name"), r"images\[1\] .id 3. has no 'file_name'"),
        (without("images", "id"), r"images\[1\] .id unknown. has no 'id'"),
        (without("categories", "name"), r"categories\[1\] .id 4. has no 'name'"),
        (
            DATA_SET | {"images": [DATA_SET["images"][0] | {"width": 0}]},
            "image 7: a size of 0 x 12 pixels",
        ),
    ],
)
def test_faults_of_the_file(tmp_path, content, message):
    path = saved(tmp_path, content)
    with pytest.raises(AnnotationError, match=message) as error:
        read_coco(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(AnnotationError, match="No such file"):
        read_coco(tmp_path / "missing.json")
    with pytest.raises(AnnotationError, match="directory"):
        read_coco(tmp_path)
    (tmp_path / "a.json").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="not a JSON file"):
        read_coco(tmp_path / "a.json")


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
        ("5", "expected a list of COCO results, got a JSON number"),
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


def some_predictions(seed, n, class_names=("tree", "cell")):
    rng = np.random.default_rng(seed)
    corners = rng.random((n, 4)).astype(np.float32) * 6
    return Instances(
        size_hw=(HEIGHT, WIDTH),
        boxes_xyxy=torch.from_numpy(corners + np.array([0, 0, 6, 6], np.float32)),
        scores=torch.from_numpy(np.sort(rng.random(n).astype(np.float32))[::-1].copy()),
        labels=torch.from_numpy(rng.integers(0, 2, n)),
        class_names=class_names,
        masks=CropMasks.from_dense(torch.from_numpy(rng.random((n, HEIGHT, WIDTH)) > 0.6)),
    )


@pytest.mark.parametrize("category_ids", [None, (9, 4)])
def test_predictions_come_back_as_they_were(tmp_path, category_ids):
    """Image ids and category numbers need not be the data set's: names pair them."""
    data = read_coco(saved(tmp_path, DATA_SET))
    first, second = some_predictions(0, 5), some_predictions(1, 0)
    path = tmp_path / "predictions.json"
    write_coco(path, [(1, "b.png", second), (2, "a.png", first)], data.class_names, category_ids)
    found = read_coco_results(path, data)
    same_objects(found[0], first)
    same_objects(found[1], second)
    assert list(tmp_path.glob(".*")) == []


def test_written_file_is_a_coco_data_set(tmp_path):
    objects = some_predictions(0, 5)
    path = tmp_path / "predictions.json"
    write_coco(path, [(4, "a.png", objects), (5, "b.png", objects)], ("tree", "cell"), (30, 40))
    content = json.loads(path.read_text())
    assert content["images"][1] == {"id": 5, "file_name": "b.png", "width": WIDTH, "height": HEIGHT}
    assert content["categories"] == [{"id": 30, "name": "tree"}, {"id": 40, "name": "cell"}]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 11))
    entry = content["annotations"][7]
    assert set(entry) == {"id", "image_id", "category_id", "segmentation", "bbox", "area", "score", "iscrowd"}
    assert (entry["image_id"], entry["category_id"], entry["iscrowd"]) == (5, (30, 40)[objects.labels[2]], 0)
    assert entry["area"] == objects.masks.areas_px()[2] == hotcoco_mask.area(entry["segmentation"])
    x0, y0, x1, y1 = objects.boxes_xyxy[2].tolist()
    assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert entry["score"] == objects.scores[2].item()
    data = read_coco(path)
    assert data.warnings == ()
    assert torch.equal(data.samples[0].objects.masks.dense(), objects.masks.dense())
    assert data.samples[0].areas_px.tolist() == objects.masks.areas_px().tolist()


def test_predictions_without_masks(tmp_path):
    objects = some_predictions(0, 3)
    objects = Instances(objects.size_hw, objects.boxes_xyxy, objects.scores, objects.labels, objects.class_names)
    data = read_coco(saved(tmp_path, DATA_SET))
    write_coco(tmp_path / "boxes.json", [(7, "a.png", objects)], data.class_names)
    found = read_coco_results(tmp_path / "boxes.json", data)
    assert found[0].masks is None
    assert torch.equal(found[0].boxes_xyxy, objects.boxes_xyxy)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text("old")
    objects = some_predictions(0, 1)
    objects.scores[0] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_coco(path, [(7, "a.png", objects)], ("tree", "cell"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_occur_twice_are_told_apart_by_id(tmp_path):
    content = copy.deepcopy(DATA_SET)
    content["images"][1]["file_name"] = "sub/a.png"
    data = read_coco(saved(tmp_path, content))
    first, second = some_predictions(0, 2), some_predictions(1, 3)
    write_coco(tmp_path / "p.json", [(3, "sub/a.png", second), (7, "a.png", first)], data.class_names)
    assert [len(objects) for objects in read_coco_results(tmp_path / "p.json", data)] == [2, 3]
    write_coco(tmp_path / "p.json", [(1, "sub/a.png", second)], data.class_names)
    with pytest.raises(AnnotationError, match=r"image 1 .a.png. is not in the data set"):
        read_coco_results(tmp_path / "p.json", data)


def test_real_photographs_with_crowds_and_polygons(shared_data: Path):
    path = shared_data / "coco-ccby" / "instances.json"
    data = read_coco(path)
    assert data.warnings == ()
    entries = {entry["id"]: entry for entry in json.loads(path.read_text())["annotations"]}
    assert sum(len(sample.objects) for sample in data.samples) == 894
    assert sum(len(sample.ignored) for sample in data.samples) == 13
    for sample in data.samples:
        assert sample.path.is_file()
        crowds = [one for one in entries.values() if one["image_id"] == sample.image_id and one["iscrowd"]]
        objects = [entries[number] for number in sample.annotation_ids]
        for read, given in ((sample.objects, objects), (sample.ignored, crowds)):
            assert len(read) == len(given)
            for crop, entry in zip(read.masks.dense().numpy(), given, strict=True):
                run_lengths = hotcoco_mask.frPyObjects(entry["segmentation"], *sample.size_hw)
                merged = hotcoco_mask.merge(run_lengths) if isinstance(run_lengths, list) else run_lengths
                np.testing.assert_array_equal(crop, hotcoco_mask.decode(merged))
        expected = torch.tensor([entry["bbox"] for entry in objects]).reshape(-1, 4)
        expected[:, 2:] += expected[:, :2]
        torch.testing.assert_close(sample.objects.boxes_xyxy, expected)
        assert sample.areas_px.tolist() == [entry["area"] for entry in objects]


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
