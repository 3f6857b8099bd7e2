import copy
import json
import re
from pathlib import Path

import hotcoco.mask as hotcoco_mask
import numpy as np
import pytest
import torch
from coco_files import CANVAS, DATA_SET, HEIGHT, SQUARE, WIDTH, saved

from halfpixel.data.formats.coco import read_coco, read_coco_polygons
from halfpixel.errors import AnnotationError


def changed(**keys):
    """The data set with these keys of its first annotation changed."""
    content = copy.deepcopy(DATA_SET)
    content["annotations"][0] |= keys
    return content


def run_lengths(counts, size=(HEIGHT, WIDTH)):
    """A segmentation of run lengths; None for a key that is not there."""
    parts = {"size": size and list(size), "counts": counts}
    return {"segmentation": {key: value for key, value in parts.items() if value is not None}}


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
        ({"image_id": "a7"}, "unusable_annotation", "it has an unusable 'image_id': 'a7'"),
        ({"category_id": True}, "unusable_annotation", "it has an unusable 'category_id': True"),
        ({"category_id": None}, "unusable_annotation", "it has no 'category_id'"),
        ({"segmentation": 5}, "unusable_annotation", "it has an unusable 'segmentation': 5"),
    ],
)
def test_faults_of_one_annotation_leave_it_out_and_say_so(tmp_path, keys, kind, reason):
    path = saved(tmp_path, changed(**keys))
    data = read_coco(path)
    (issue,) = data.warnings
    assert (issue.kind, issue.path, issue.where) == (kind, path, "annotation 1")
    assert re.search(rf"^left out, .*{reason}", issue.what)
    assert str(issue).startswith(f"{path}: annotation 1: left out, ")
    assert "\n" not in str(issue)
    assert issue.image == (None if "image_id" in keys else tmp_path / "a.png")
    assert data.samples[0].annotation_ids == (3,)
    assert len(data.samples[0].objects) == len(data.samples[0].areas_px) == 1


def test_a_broken_string_among_sound_ones(tmp_path):
    """Those of an image are decoded together."""
    text = hotcoco_mask.encode(np.asfortranarray(CANVAS))["counts"].decode("ascii")
    content = copy.deepcopy(DATA_SET)
    first = content["annotations"][0]
    content["annotations"] = [first | run_lengths(one) | {"id": k} for k, one in enumerate((text, "55", "~", text))]
    data = read_coco(saved(tmp_path, content))
    assert [(one.where, one.kind) for one in data.warnings] == [
        ("annotation 1", "unusable_run_lengths"), ("annotation 2", "unusable_run_lengths")
    ]  # fmt: skip
    assert "add up to 10" in data.warnings[0].what
    assert "characters outside" in data.warnings[1].what
    assert data.samples[0].annotation_ids == (0, 3)
    for mask in data.samples[0].objects.masks.dense().numpy():
        np.testing.assert_array_equal(mask, CANVAS)


@pytest.mark.parametrize(
    ("keys", "kind", "reason"),
    [
        ({"bbox": [WIDTH, 2, 5, 5]}, "unusable_box", "outside of the 16 x 12 image"),
        ({"bbox": [-9, 2, 5, 5]}, "unusable_box", "outside of the 16 x 12 image"),
        ({"bbox": [2, HEIGHT + 3.5, 5, 5]}, "unusable_box", "outside of the 16 x 12 image"),
        ({"bbox": [2, -5, 5, 5]}, "unusable_box", "outside of the 16 x 12 image"),
        ({"bbox": [1, 2, 3]}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": "box"}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "unusable_box", "'bbox' must be 4 finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "unusable_box", "negative width or height"),
        ({"area": "36"}, "unusable_area", "'area' must be 1 finite number"),
        ({"area": float("nan")}, "unusable_area", "'area' must be 1 finite number"),
        ({"area": -5}, "unusable_area", "the area -5 is negative"),
    ],
)
def test_a_good_mask_is_kept_whatever_stands_beside_it(tmp_path, keys, kind, reason):
    path = saved(tmp_path, changed(**keys))
    data = read_coco(path)
    (issue,) = data.warnings
    assert (issue.kind, issue.path, issue.where, issue.image) == (kind, path, "annotation 1", tmp_path / "a.png")
    assert re.search(rf"{reason}.*; that of its mask is taken$", issue.what)
    (sample, _) = data.samples
    assert sample.annotation_ids == (1, 3)
    box, area = sample.objects.boxes_xyxy[0].tolist(), sample.areas_px[0].item()
    assert (box, area) == (([3, 2, 9, 8], 36.5) if kind == "unusable_box" else ([2.5, 2, 9.25, 8], 36))


def test_numbers_may_be_text_or_floats(tmp_path):
    content = changed(image_id="7", category_id=9.0, id="1")
    content["images"][0] |= {"id": "7", "width": float(WIDTH), "height": f"{HEIGHT}.0"}
    content["categories"][0]["id"] = "9"
    runs = [float(one) for one in content["annotations"][1]["segmentation"]["counts"]]
    content["annotations"][1]["segmentation"] = {"size": [float(HEIGHT), float(WIDTH)], "counts": runs}
    data, plain = read_coco(saved(tmp_path, content)), read_coco(saved(tmp_path, DATA_SET, "plain.json"))
    assert (data.warnings, data.category_ids) == ((), (4, 9))
    for one, other in zip(data.samples, plain.samples, strict=True):
        assert (one.image_id, one.size_hw, one.annotation_ids) == (other.image_id, other.size_hw, other.annotation_ids)
        np.testing.assert_array_equal(one.objects.masks.dense(), other.objects.masks.dense())
        np.testing.assert_array_equal(one.ignored.masks.dense(), other.ignored.masks.dense())
    assert list(read_coco_polygons(saved(tmp_path, content))) == [(7, 1)]


@pytest.mark.parametrize("value", ["0", "1", 2, float("nan"), [1], -1])
def test_what_is_no_crowd_mark_is_an_object(tmp_path, value):
    data = read_coco(saved(tmp_path, changed(iscrowd=value)))
    (issue,) = data.warnings
    assert (issue.kind, issue.where) == ("unusable_crowd", "annotation 1")
    assert "'iscrowd' must be 0 or 1, got" in issue.what
    assert data.samples[0].annotation_ids == (1, 3)


@pytest.mark.parametrize(("value", "ids"), [(True, (3,)), (1.0, (3,)), (False, (1, 3)), (None, (1, 3))])
def test_what_is_a_crowd_mark(tmp_path, value, ids):
    data = read_coco(saved(tmp_path, changed(iscrowd=value)))
    assert (data.samples[0].annotation_ids, data.warnings) == (ids, ())


def test_roboflows_root_category_is_no_class(tmp_path):
    content = changed() | {"categories": [{"id": 0, "name": "things"}, *DATA_SET["categories"]]}
    assert read_coco(saved(tmp_path, content)).class_names == ("things", "tree", "cell")
    data = read_coco(saved(tmp_path, content, "_annotations.coco.json"))
    assert (data.class_names, data.category_ids) == (("tree", "cell"), (4, 9))
    assert [(one.kind, one.where) for one in data.warnings] == [("root_category", "category 0 (things)")]
    assert data.samples[0].objects.labels.tolist() == [1, 0]

    content["categories"][1]["supercategory"] = "things"
    assert read_coco(saved(tmp_path, content)).class_names == ("tree", "cell")
    content["annotations"][0]["category_id"] = 0  # it has an object, and is a class
    assert read_coco(saved(tmp_path, content)).class_names == ("things", "tree", "cell")


@pytest.mark.parametrize(
    ("size", "what"),
    [
        ({"height": 2**64}, "a size of 16 x 18446744073709551616 pixels; sides from 1 to 1000000 are read"),
        ({"width": 10**400}, "a size of 1332-bit x 12 pixels"),
        ({"width": 0}, "a size of 0 x 12 pixels"),
    ],
)
def test_absurd_sizes_are_refused(tmp_path, size, what):
    content = changed()
    content["images"][0] |= size
    with pytest.raises(AnnotationError, match=rf"instances\.json: image 7: {what}"):
        read_coco(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("segmentation", "kind", "what"),
    [
        ({"size": [60000, 60000], "counts": [0, 36 * 10**8]}, "unusable_run_lengths", "60000 columns of 60000"),
        ([[0, 0, 6e4, 0, 6e4, 6e4, 0, 6e4]], "unusable_polygon", "60000 columns of 60000 pixels"),
        ([[-1e6, 0, 1e6, 1, 1e6, 9]] * 2, "unusable_polygon", r"an outline of 8\S+ pixels"),
    ],
)
def test_masks_that_would_fill_the_memory_are_left_out(tmp_path, segmentation, kind, what):
    content = changed(segmentation=segmentation)
    content["images"][0] |= {"width": 60000, "height": 60000}
    content["annotations"] = content["annotations"][:1]
    (issue,) = read_coco(saved(tmp_path, content)).warnings
    assert issue.kind == kind
    assert re.search(what, issue.what)


@pytest.mark.parametrize(("entry", "reason"), [(None, "JSON null"), ("1", "JSON string"), ({}, "has no 'id'")])
def test_an_annotation_without_an_id_goes_by_its_place(tmp_path, entry, reason):
    data = read_coco(saved(tmp_path, DATA_SET | {"annotations": [*DATA_SET["annotations"], entry]}))
    (issue,) = data.warnings
    assert (issue.kind, issue.where) == ("unusable_annotation", "annotations[3]")
    assert reason in issue.what
    assert data.samples[0].annotation_ids == (1, 3)


def test_annotations_that_share_an_id_are_kept(tmp_path):
    data = read_coco(saved(tmp_path, changed(id=3)))
    (issue,) = data.warnings
    assert (issue.kind, issue.where) == ("repeated_id", "annotation 3")
    assert issue.what == "2 annotations have this id; all of them are kept"
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
        ("[1, 2]", "COCO data set.*JSON object.*JSON list"),
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
