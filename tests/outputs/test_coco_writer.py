import copy
import json
import tracemalloc
from dataclasses import replace

import hotcoco.mask as hotcoco_mask
import pytest
import torch
from coco_files import DATA_SET, HEIGHT, WIDTH, saved, some_predictions

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.errors import AnnotationError
from halfpixel.outputs.coco import write_coco, write_coco_entries
from halfpixel.structures.instances import Instances


def same_objects(one, other):
    assert one.size_hw == other.size_hw
    assert one.class_names == other.class_names
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)
    assert torch.equal(one.masks.dense(), other.masks.dense())


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


def test_writing_holds_no_more_than_an_entry_in_memory(tmp_path):
    """20,000 annotations are a file of 3 MB, and as Python objects some 20 MB."""
    entries = ({"image_id": 1, "category_id": 1, "bbox": [k, 0.5, 1.5, 2.5], "score": 0.5} for k in range(20_000))
    image = {"id": 1, "file_name": "a.png", "width": 16, "height": 12}
    tracemalloc.start()
    write_coco_entries(tmp_path / "many.json", [image], entries, [{"id": 1, "name": "cell"}])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000
    content = json.loads((tmp_path / "many.json").read_text())
    assert content["images"] == [image]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 20_001))


def test_objects_of_a_film_have_their_tracks(tmp_path):
    """Readers of ordinary data sets pass over them."""
    objects = replace(some_predictions(0, 3), track_ids=torch.tensor([4, 9, 2]))
    path = tmp_path / "film.json"
    write_coco(path, [(1, "a.png", objects)], ("tree", "cell"))
    assert [entry["track_id"] for entry in json.loads(path.read_text())["annotations"]] == [4, 9, 2]
    assert len(read_coco(path).samples[0].objects) == 3
