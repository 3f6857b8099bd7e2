"""Several data sets as one: classes by name, images numbered anew, each with its source."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from halfpixel.data.combine import combine_datasets
from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.relabel import order_classes
from halfpixel.data.split import hold_out
from halfpixel.errors import AnnotationError, ArgumentError


def write(folder: Path, names: tuple[str, ...], images: int = 2, file: str = "train.json") -> Dataset:
    """Images with an object of each class; the class's place among `names` is its object's left edge, over ten."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations = []
    for image in range(images):
        Image.fromarray(np.full((20, 60, 3), 40 * image, np.uint8)).save(folder / f"{image}.png")
        annotations += [
            {
                "id": len(names) * image + k + 1,
                "image_id": image,
                "category_id": 10 + k,
                "segmentation": [[10 * place, 2, 10 * place + 5, 2, 10 * place + 5, 9, 10 * place, 9]],
                "bbox": [10 * place, 2, 5, 7],
                "area": 35,
                "iscrowd": int(image == 1 and k == 0),
            }
            for k, place in enumerate(sorted(names).index(name) for name in names)
        ]
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 60, "height": 20} for k in range(images)],
        "annotations": annotations,
        "categories": [{"id": 10 + k, "name": name} for k, name in enumerate(names)],
    }
    (folder / file).write_text(json.dumps(content))
    return read_coco(folder / file)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    first, other = write(tmp_path / "a", ("nut", "bolt", "pin")), write(tmp_path / "b", ("pin", "nut", "bolt"), 3)
    both = combine_datasets([first, other])
    assert both.class_names == ("nut", "bolt", "pin")
    assert both.category_ids == first.category_ids
    assert [sample.image_id for sample in both.samples] == [1, 2, 3, 4, 5]
    assert [sample.source for sample in both.samples] == ["a/train.json"] * 2 + ["b/train.json"] * 3
    assert both.sources == ("a/train.json", "b/train.json")
    assert (both.path, both.name) == (tmp_path, "a/train.json, b/train.json")
    for sample in both.samples:
        for objects in (sample.objects, sample.ignored):
            assert objects.class_names == both.class_names
            for label, left in zip(objects.labels.tolist(), objects.boxes_xyxy[:, 0].tolist(), strict=True):
                assert sorted(both.class_names).index(both.class_names[label]) == left / 10
    assert sum(len(sample.ignored) for sample in both.samples) == 2
    before = [sample for dataset in (first, other) for sample in dataset.samples]
    assert [sample.path for sample in both.samples] == [sample.path for sample in before]
    assert [sample.annotation_ids for sample in both.samples] == [sample.annotation_ids for sample in before]
    assert not before[0].source


def test_one_data_set_stays_as_it_is(tmp_path: Path) -> None:
    alone = write(tmp_path, ("nut",))
    assert combine_datasets([alone]) is alone
    assert (alone.name, alone.sources) == ("train.json", ())
    with pytest.raises(ArgumentError, match="no data set"):
        combine_datasets([])


def test_other_classes_are_named(tmp_path: Path) -> None:
    first, other = write(tmp_path / "a", ("nut", "bolt")), write(tmp_path / "b", ("nut", "cog"))
    with pytest.raises(AnnotationError) as raised:
        combine_datasets([first, other])
    assert str(raised.value) == (
        f"{tmp_path / 'b' / 'train.json'}: its classes (nut, cog) are not those of {tmp_path / 'a' / 'train.json'} "
        "(nut, bolt); say with `class_map` which is which"
    )


def test_an_image_belongs_to_one_data_set(tmp_path: Path) -> None:
    first, again = write(tmp_path, ("nut",)), write(tmp_path, ("nut",), file="more.json")
    with pytest.raises(AnnotationError, match=r"more\.json: its image .*0\.png is in .*train\.json, too"):
        combine_datasets([first, again])


def test_sources_are_as_short_as_tells_them_apart(tmp_path: Path) -> None:
    files = [("x/cells", "a.json"), ("y/cells", "a.json"), ("y/more", "a.json")]
    both = combine_datasets([write(tmp_path / folder, ("nut",), file=file) for folder, file in files])
    assert both.sources == ("x/cells/a.json", "y/cells/a.json", "y/more/a.json")
    apart = [write(tmp_path / folder, ("nut",), file=file) for folder, file in (("p", "a.json"), ("q", "b.json"))]
    assert combine_datasets(apart).sources == ("a.json", "b.json")


def test_images_are_held_out_of_all(tmp_path: Path) -> None:
    both = combine_datasets([write(tmp_path / "a", ("nut",), 6), write(tmp_path / "b", ("nut",), 6)])
    rest, taken = hold_out(both, 6, seed=0)
    assert {sample.source for sample in taken.samples} == set(both.sources) == {s.source for s in rest.samples}
    assert rest.name == taken.name == both.name
    assert sorted(s.image_id for part in (rest, taken) for s in part.samples) == list(range(1, 13))


def test_order_is_all_that_changes(tmp_path: Path) -> None:
    given = write(tmp_path, ("nut", "bolt", "pin"))
    turned = order_classes(given, ("pin", "nut", "bolt"))
    assert turned.category_ids == (12, 10, 11)
    back = order_classes(turned, given.class_names)
    for one, other in zip(back.samples, given.samples, strict=True):
        assert torch.equal(one.objects.labels, other.objects.labels)
    assert back.category_ids == given.category_ids
