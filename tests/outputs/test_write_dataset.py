import json
from typing import get_args

import numpy as np
import pytest
from drawing import dense, squares, write_coco_file

from halfpixel.data.formats.coco import read_coco, unread_keys
from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.formats.format_names import Format, WritableFormat
from halfpixel.errors import ArgumentError
from halfpixel.outputs.write_dataset import DATASET_WRITERS, write_dataset

APART = [squares((1, 1), (12, 3)), squares((20, 9), (3, 15), (12, 12)), squares()]


def test_names_and_table_agree():
    assert tuple(writer.name for writer in DATASET_WRITERS) == get_args(WritableFormat)
    assert set(get_args(WritableFormat)) <= set(get_args(Format))  # what is written can be read again


def test_an_unknown_format_is_refused(tmp_path):
    data = read_coco(write_coco_file(tmp_path / "data", APART))
    with pytest.raises(ArgumentError, match="no format 'tiff'; choose from coco, yolo"):
        write_dataset(data, tmp_path, ["1", "2", "3"], "tiff")


def converted(path, out, to):
    out.mkdir()
    data = read_coco(path)
    lost = write_dataset(data, out, [sample.path.stem for sample in data.samples], to)
    return data, read_dataset(out), lost


@pytest.mark.parametrize("to", ["coco", "yolo", "label_images", "mask_folders"])
def test_there_and_back_again(tmp_path, to):
    path = write_coco_file(tmp_path / "data", APART)
    data, there, lost = converted(path, tmp_path / to, to)
    (tmp_path / "back").mkdir()
    assert write_dataset(there, tmp_path / "back", ["1", "2", "3"], "coco") == []
    back = read_dataset(tmp_path / "back")
    for one, other in zip(data.samples, back.samples, strict=True):
        np.testing.assert_array_equal(dense(one), dense(other))
        assert one.path.read_bytes() == other.path.read_bytes()
        if to in ("coco", "yolo"):
            assert one.objects.labels.tolist() == other.objects.labels.tolist()
    names = ("object",) if to in ("label_images", "mask_folders") else data.class_names
    assert back.class_names == names
    assert [issue.kind for issue in lost] == (["classes"] if names == ("object",) else [])


def test_coco_keeps_ids_boxes_areas_crowds_and_attributes(tmp_path):
    path = write_coco_file(tmp_path / "data", APART, area=24.5, bbox=[0.5, 1, 5.25, 5])
    content = json.loads(path.read_text())
    content["images"][0]["modality"] = "dark"
    content["annotations"][2]["iscrowd"] = 1
    content["annotations"][1]["score"] = 0.5
    path.write_text(json.dumps(content | {"info": {}}))
    data, again, lost = converted(path, tmp_path / "out", "coco")
    assert lost == []
    assert again.category_ids == (5, 9)
    for one, other in zip(data.samples, again.samples, strict=True):
        assert (one.image_id, one.attributes, one.annotation_ids) == (
            other.image_id, other.attributes, other.annotation_ids
        )  # fmt: skip
        assert one.objects.boxes_xyxy.tolist() == other.objects.boxes_xyxy.tolist()
        assert one.areas_px.tolist() == other.areas_px.tolist()
        np.testing.assert_array_equal(one.ignored.masks.dense(), other.ignored.masks.dense())
    ids = [entry["id"] for entry in json.loads((tmp_path / "out/instances.json").read_text())["annotations"]]
    assert len(set(ids)) == len(ids) == 5
    assert [(issue.kind, issue.where) for issue in unread_keys(path)] == [
        ("key", "info"),
        ("score", "'score' of 1 annotations"),
    ]


def test_what_a_format_cannot_hold_is_said(tmp_path):
    ring = squares((2, 2), side=9)[0] & ~squares((4, 4), side=3)[0]
    pair = squares((14, 2), (22, 2)).any(0)
    over = squares((15, 3), side=3)[0]  # on top of the left half of the pair
    hidden, cover = squares((2, 15), side=3)[0], squares((1, 14), side=6)[0]
    path = write_coco_file(tmp_path / "data", [np.stack([ring, pair, over, hidden, cover, cover])], area=1)
    content = json.loads(path.read_text())
    content["images"][0]["modality"] = "dark"
    content["annotations"][5]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    everywhere = {("attributes", ""), ("crowd", "crowd region 1"), ("areas", "annotation 1")}
    expected = {
        "coco": set(),
        "yolo": everywhere | {("holes", "annotation 1"), ("parts", "annotation 2")},
        "label_images": everywhere | {("overlap", "annotation 2"), ("hidden", "annotation 4"), ("classes", "")},
        "mask_folders": everywhere | {("classes", "")},
    }
    kept = {
        "coco": [ring, pair, over, hidden, cover],
        "yolo": [squares((2, 2), side=9)[0], pair, over, hidden, cover],
        "label_images": [ring, pair & ~over, over, cover],
        "mask_folders": [ring, pair, over, hidden, cover],
    }
    for to, kinds_and_places in expected.items():
        _, there, lost = converted(path, tmp_path / to, to)
        assert {(issue.kind, issue.where) for issue in lost} == kinds_and_places
        np.testing.assert_array_equal(dense(there.samples[0]), kept[to])
