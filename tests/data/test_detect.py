import json

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, kinds, squares, write_array, write_coco_file, write_picture

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.formats.detect import detect, read_dataset, write_dataset
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.outputs.coco import unread_keys

APART = [squares((1, 1), (12, 3)), squares((20, 9), (3, 15), (12, 12)), squares()]
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[2:5, 2:5], LABELS[9:12, 9:12], LABELS[15:19, 15:19] = 1, 2, 3


def labelme(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"label": "cell", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon"}
    path.write_text(json.dumps({"shapes": [shape], "imagePath": "a.png"}))


def test_formats_are_found_by_looking(tmp_path):
    coco = write_coco_file(tmp_path / "coco", APART)
    for path in (coco, coco.parent):
        assert detect(path) == "coco"

    write_picture(tmp_path / "yolo/images/train/a.png")
    (tmp_path / "yolo/labels/train").mkdir(parents=True)
    (tmp_path / "yolo/labels/train/a.txt").write_text("0 .1 .1 .3 .1 .3 .3")
    (tmp_path / "yolo/data.yaml").write_text("names: [cell]")
    for path in ("yolo", "yolo/data.yaml", "yolo/images/train", "yolo/labels/train"):
        assert detect(tmp_path / path) == "yolo"

    write_picture(tmp_path / "labelme/a.png")
    labelme(tmp_path / "labelme/a.json")
    labelme(tmp_path / "deeper/in/a.json")
    for path in ("labelme", "labelme/a.json", "deeper"):
        assert detect(tmp_path / path) == "labelme"

    write_picture(tmp_path / "bowl/id/images/id.png")
    write_array(tmp_path / "bowl/id/masks/1.png", LABELS)
    assert detect(tmp_path / "bowl") == "mask_folders"

    write_picture(tmp_path / "cellpose/a.png")
    write_array(tmp_path / "cellpose/a_masks.png", LABELS)
    write_picture(tmp_path / "labels/images/a.png")
    write_array(tmp_path / "labels/labels/a.png", LABELS)
    for path in ("cellpose", "labels"):
        assert detect(tmp_path / path) == "label_images"
    assert detect(tmp_path / "labels/labels", tmp_path / "labels/images") == "label_images"

    for path, n in (("coco", 5), ("yolo", 1), ("labelme", 1), ("bowl", 1), ("cellpose", 3), ("labels", 3)):
        assert sum(len(sample.objects) for sample in read_dataset(tmp_path / path).samples) == n


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([LABELS, LABELS], "label_images"),
        ([(LABELS > 0) * 255], "semantic"),
        ([(LABELS == 1) * 255, (LABELS == 2) * 128], "semantic"),
        ([(LABELS == 1) * 1, (LABELS == 2) * 2 + (LABELS == 3)], "label_images"),  # either reading: the same objects
        ([(LABELS == 1) * 1, (LABELS > 1) * 1], "semantic"),  # two regions with the number 1
        ([(LABELS > 0) * 255, (LABELS > 0) * 254, (LABELS > 0) * 253], "label_images"),
    ],
)
def test_label_images_or_semantic_masks(tmp_path, values, found):
    for k, one in enumerate(values):
        write_picture(tmp_path / f"images/{k}.png")
        write_array(tmp_path / f"masks/{k}.png", one.astype(np.uint8))
    assert detect(tmp_path) == found
    assert ("touching_objects" in kinds(read_dataset(tmp_path))) == (found == "semantic")


def test_what_is_unclear_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"empty: .* yolo \(labels/\*\.txt .*--format"):
        detect(tmp_path / "empty")
    with pytest.raises(AnnotationError, match="nowhere: No such file or folder"):
        detect(tmp_path / "nowhere")
    write_coco_file(tmp_path / "both", APART)
    (tmp_path / "both/labels").mkdir()
    (tmp_path / "both/labels/1.txt").write_text("0 .1 .1 .3 .1 .3 .3")
    with pytest.raises(AnnotationError, match="could be read as coco and yolo; say which with --format"):
        read_dataset(tmp_path / "both")
    assert len(read_dataset(tmp_path / "both", format="coco").samples[0].objects) == 2
    assert len(read_dataset(tmp_path / "both", format="yolo").samples[0].objects) == 1
    with pytest.raises(ArgumentError, match="no format 'tiff'; choose from coco, yolo"):
        read_dataset(tmp_path / "both", format="tiff")
    with pytest.raises(ArgumentError, match="images inside"):
        read_dataset(tmp_path, tmp_path, format="mask_folders")
    with pytest.raises(AnnotationError, match=r"instances\.json: label_images takes a folder"):
        read_dataset(tmp_path / "both/instances.json", format="label_images")


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
    assert [fault.kind for fault in lost] == (["classes"] if names == ("object",) else [])


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
    assert [(fault.kind, fault.where) for fault in unread_keys(path)] == [
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
        assert {(fault.kind, fault.where) for fault in lost} == kinds_and_places
        np.testing.assert_array_equal(dense(there.samples[0]), kept[to])
