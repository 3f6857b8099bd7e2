import json

import pytest
from drawing import squares, write_coco_file, write_picture

from halfpixel.data.checks.dataset_check import check_dataset
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.jobs.annotated import ReadingOptions, matched_names, open_dataset

MASKS = [squares((1, 1), (12, 3))]


def one_class(folder, name="Nucleus", **of_first):
    file = write_coco_file(folder, MASKS, **of_first)
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 5, "name": name}, {"id": 9, "name": "unused"}]
    for entry in content["annotations"]:
        entry["category_id"] = 5
    file.write_text(json.dumps(content))
    return file


def test_one_class_is_matched_with_one_and_said(tmp_path):
    told = []
    data = open_dataset(one_class(tmp_path), None)
    assert matched_names(data, ("nucleus",), "the model nuclei", told.append) == ("Nucleus",)
    assert told == [f"{data.path}: its one class, Nucleus, was taken for the one of the model nuclei, nucleus"]
    assert matched_names(data, ("unused", "x"), "the model", told.append) == ("unused", "x")
    assert len(told) == 1
    with pytest.raises(AnnotationError, match=r"none in common with the model \(a, b\); say with `class_map`"):
        matched_names(data, ("a", "b"), "the model")
    both = open_dataset(write_coco_file(tmp_path / "two", MASKS), None)
    with pytest.raises(AnnotationError, match="none in common"):
        matched_names(both, ("nucleus",), "the model")
    mapped = open_dataset(both.path, None, reading=ReadingOptions(class_map=("cell=nucleus", "größe: 1=nucleus")))
    assert mapped.class_names == ("nucleus",)
    assert matched_names(mapped, ("nucleus",), "the model") == ("nucleus",)


def test_predictions_of_one_class_are_matched_with_one(tmp_path):
    write_picture(tmp_path / "1.png")
    file = write_coco_file(tmp_path, MASKS)
    content = json.loads(file.read_text())
    for name in ("truth", "found"):
        content["categories"] = [{"id": 5, "name": name}]
        content["annotations"] = [one | {"category_id": 5, "score": 0.5} for one in content["annotations"]]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    told = []
    data = open_dataset(tmp_path / "truth.json", tmp_path / "images")
    (found,) = read_coco_results(tmp_path / "found.json", data, told.append)
    assert (len(found), found.class_names) == (2, ("truth",))
    assert told == [
        f"{tmp_path / 'found.json'}: its one class, found, was taken for the one of {data.path}, truth",
    ]


@pytest.mark.parametrize("pair", ["cell", "=a", "a="])
def test_a_map_of_classes_has_two_sides(pair):
    with pytest.raises(ArgumentError, match="`class_map` must be like cell=nucleus, got '"):
        ReadingOptions(class_map=(pair,))


def test_crowd_regions_are_counted_and_can_be_objects(tmp_path):
    file = one_class(tmp_path, iscrowd=1)
    found = {one.kind: one for one in check_dataset(open_dataset(file, None)).groups}
    assert (found["crowd_region"].n, found["crowd_region"].severity) == (1, "warning")  # as many as objects
    assert "--crowd objects" in found["crowd_region"].advice
    data = open_dataset(file, None, reading=ReadingOptions(crowd="objects"))
    assert [(len(one.objects), len(one.ignored)) for one in data.samples] == [(2, 0)]
    assert "crowd_region" not in {one.kind for one in check_dataset(data).groups}
