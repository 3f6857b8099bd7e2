import json
from typing import get_args

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, kinds, squares, write_array, write_coco_file, write_picture

from halfpixel.data.formats.detect import READERS, detect, read_dataset
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import AnnotationError, ArgumentError

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
    labelme(coco.parent / "in/a.json")  # beside a COCO file, it is something else
    assert detect(coco.parent) == "coco"
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
    with pytest.raises(AnnotationError, match=r"empty.*yolo.*`format`"):
        detect(tmp_path / "empty")
    with pytest.raises(AnnotationError, match="nowhere: No such file or folder"):
        detect(tmp_path / "nowhere")
    write_coco_file(tmp_path / "both", APART)
    (tmp_path / "both/labels").mkdir()
    (tmp_path / "both/labels/1.txt").write_text("0 .1 .1 .3 .1 .3 .3")
    with pytest.raises(AnnotationError, match=r"coco and yolo.*`format`"):
        read_dataset(tmp_path / "both")
    assert len(read_dataset(tmp_path / "both", format="coco").samples[0].objects) == 2
    assert len(read_dataset(tmp_path / "both", format="yolo").samples[0].objects) == 1
    with pytest.raises(ArgumentError, match="no format 'tiff'; choose from coco, yolo"):
        read_dataset(tmp_path / "both", format="tiff")
    with pytest.raises(ArgumentError, match="images inside"):
        read_dataset(tmp_path, tmp_path, format="mask_folders")
    with pytest.raises(AnnotationError, match=r"instances\.json.*label_images.*folder"):
        read_dataset(tmp_path / "both/instances.json", format="label_images")


def test_names_and_table_agree():
    assert tuple(reader.name for reader in READERS) == get_args(Format)
