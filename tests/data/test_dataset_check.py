"""For every kind of issue a planted one, and a clean set where there is none."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfpixel.data.checks.check_report import DatasetCheck
from halfpixel.data.checks.dataset_check import check_before_training, check_dataset
from halfpixel.data.checks.issue_kinds import KINDS
from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.coco import read_coco
from halfpixel.errors import AnnotationError

HEIGHT, WIDTH = 60, 80
Content = dict[str, list[dict[str, object]]]


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def entry(number: int, image: int, category: int, x: float, y: float, side: float) -> dict[str, object]:
    numbers = {"id": number, "image_id": image, "category_id": category}
    return numbers | {"segmentation": [square(x, y, side)], "bbox": [x, y, side, side], "area": side * side}


def blobs(seed: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Something that survives being stored as JPEG: random squares of 8 pixels."""
    cells = np.random.default_rng(seed).integers(0, 256, (-(-size_hw[0] // 8), -(-size_hw[1] // 8), 3), dtype=np.uint8)
    return np.kron(cells, np.ones((8, 8, 1), dtype=np.uint8))[: size_hw[0], : size_hw[1]]


def write(folder: Path, content: Content) -> Path:
    """The annotation file, and an image for each entry that has none yet."""
    folder.mkdir(exist_ok=True)
    for one in content["images"]:
        path = folder / str(one["file_name"])
        if not path.exists():
            Image.fromarray(blobs(int(str(one["id"])))).save(path)
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def clean() -> Content:
    """Two images, two classes of ten objects each."""
    places = [(x, y) for y in (3, 33) for x in range(2, 77, 16)]
    return {
        "images": [{"id": k, "file_name": f"{k}.png", "width": WIDTH, "height": HEIGHT} for k in (1, 2)],
        "annotations": [
            entry(100 * image + k, image, 1 + k % 2, *place, 12) for image in (1, 2) for k, place in enumerate(places)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "tree"}],
    }


def checked(tmp_path: Path, content: Content, **options: object) -> DatasetCheck:
    return check_dataset(read_coco(write(tmp_path / "data", content)), **options)  # type: ignore[arg-type]


def kinds(found: DatasetCheck) -> dict[str, int]:
    return {one.kind: one.n for one in found.groups}


def test_a_clean_set_has_no_issues(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    val = clean()
    for one in val["images"]:
        Image.fromarray(blobs(700 + int(str(one["id"])))).save(tmp_path / "val" / str(one["file_name"]))
    found = checked(
        tmp_path,
        clean(),
        val=read_coco(write(tmp_path / "val", val)),
        detection_limit=10,
        anchor_sizes_px=(24, 192),
        input_scale=lambda size_hw: 2.0,
    )
    assert kinds(found) == {}
    assert found.healthy
    summary = found.summary
    assert (summary.n_images, summary.n_objects) == (2, 20)
    assert summary.class_counts == {"cell": 10, "tree": 10}
    assert summary.objects_per_image == (10, 10, 10)
    assert summary.side_px == (12, 12, 12)
    assert summary.side_at_input_px == (24, 24, 24)
    assert summary.image_sizes_hw == ((HEIGHT, WIDTH), (HEIGHT, WIDTH))


def changed(**keys: object) -> Callable[[Content], None]:
    """An issue of the first annotation."""
    return lambda content: content["annotations"][0].update(keys)


def added(*entries: dict[str, object]) -> Callable[[Content], None]:
    return lambda content: content["annotations"].extend(entries)


def labelled(category: int, first: int, last: int) -> Callable[[Content], None]:
    def relabel(content: Content) -> None:
        for one in content["annotations"][first:last]:
            one["category_id"] = category

    return relabel


def renamed(key: str, old: object, new: object) -> Callable[[Content], None]:
    """Another id or name for a category."""

    def rename(content: Content) -> None:
        for one in content["categories"]:
            one[key] = new if one[key] == old else one[key]
        for one in content["annotations"] if key == "id" else ():
            one["category_id"] = new if one["category_id"] == old else one["category_id"]

    return rename


WIDE = {"segmentation": [square(60, 33, 40)], "bbox": [60, 33, 20, 27], "area": 540, "category_id": 2}
TWICE = entry(900, 1, 1, 2, 3, 12)
PLANTED = [
    (changed(image_id="one"), "unusable_annotation", "annotation 100"),
    (changed(image_id=9), "unknown_image", "no image 9"),
    (changed(category_id=9), "unknown_category", "no category 9"),
    (changed(bbox=[2, 3, -12, 12]), "unusable_box", "negative width"),
    (changed(segmentation=[[1, 2, 3]]), "unusable_polygon", "odd number"),
    (changed(segmentation={"size": [9, 9], "counts": [81]}), "unusable_run_lengths", r"the image has \[60, 80\]"),
    (changed(area="12"), "unusable_area", "'area'"),
    (changed(segmentation=[square(100, 3, 12)], bbox=None), "outside_image", "outside of the 80 x 60 image"),
    (changed(segmentation=[[5, 5, 9, 9]]), "empty_mask", "no pixels"),
    (changed(id=101), "repeated_id", "2 annotations have this id"),
    (added(TWICE), "duplicate_object", "annotation 900: practically the same as annotation 100"),
    (added(TWICE, TWICE | {"id": 901}), "duplicate_object", "annotation 900"),
    (added(entry(900, 1, 1, 20, 20, 3)), "speck", "annotation 900: 9 of at least 10 pixels"),
    (changed(bbox=[2, 3, 40, 40]), "box_off_mask", "x 2 to 42, y 3 to 43, its mask's x 2 to 14, y 3 to 15"),
    (changed(area=288), "area_off_mask", "an area of 288, but its mask has 144 pixels"),
    (changed(**WIDE), "polygon_beyond_image", "reaches 20 px beyond the 80 x 60 image"),
    (changed(segmentation=[square(2, 3, 12), [5, 5, 9, 9]]), "degenerate_polygon", "a polygon of 2 points"),
    (changed(segmentation=[square(2, 3, 12), [5, 5, 9, 9, 5, 5]]), "degenerate_polygon", "without area"),
    (changed(segmentation=[[2, 3, 14, 15, 14, 3, 2, 15]], area=72), "self_crossing_polygon", r"at \(8.0, 9.0\)"),
    (lambda content: content["categories"].append({"id": 3, "name": "bush"}), "empty_category", "3 .bush.: no objects"),
    (labelled(1, 0, 2), "rare_category", "category 2 .tree.: 9 objects"),
    (renamed("name", "cell", "Background"), "background_category", "objects: 10"),
    (renamed("name", "cell", "tree"), "repeated_category_name", "category 2 .tree.: category 1 too"),
    (renamed("id", 1, 0), "category_ids", "2 ids from 0 to 2, not 1 to 2"),
    (renamed("id", 2, 7), "category_ids", "2 ids from 1 to 7, not 1 to 2"),
    (lambda content: content["images"].append({"id": 3, "file_name": "3.png", "width": WIDTH, "height": HEIGHT}),
     "image_without_objects", "3.png"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "kind", "what"), PLANTED, ids=[f"{kind}-{k}" for k, (_, kind, _) in enumerate(PLANTED)]
)
def test_a_planted_issue_is_found(tmp_path: Path, plant: Callable[[Content], None], kind: str, what: str) -> None:
    content = copy.deepcopy(clean())
    plant(content)
    found = checked(tmp_path, content, images=False)
    # a class of ten objects that loses one is rare, which is no other issue
    assert set(kinds(found)) - {"rare_category"} == {kind} - {"rare_category"}
    (group,) = (one for one in found.groups if one.kind == kind)
    assert re.search(what, group.issues[0].brief)
    assert group.severity == KINDS[kind].severity
    assert found.healthy == (group.severity == "note")


def test_what_is_similar_is_no_duplicate(tmp_path: Path) -> None:
    content = clean()
    content["annotations"] += [entry(900, 1, 2, 2, 3, 12), entry(901, 1, 1, 3, 3, 12)]  # another class; IoU .85
    assert kinds(checked(tmp_path, content, images=False)) == {}


def test_many_objects(tmp_path: Path) -> None:
    content = clean()
    content["annotations"] = [entry(k, 1, 1 + k // 200, 4 * (k % 20), 4 * (k // 20 % 5), 4) for k in range(210)]
    found = checked(tmp_path, content, images=False, detection_limit=209)
    # 100 places, each with two objects of class 1; ten of class 2 have their places for themselves
    assert kinds(found) == {"duplicate_object": 100, "over_limit": 1, "image_without_objects": 1}
    assert "210 objects, the limit is 209" in str(next(one for one in found.groups if one.kind == "over_limit").issues)


def test_classes_of_very_different_frequency(tmp_path: Path) -> None:
    content = clean()
    content["annotations"] = [entry(k, 1, 1 + (k < 2), 4 * (k % 20), 4 * (k // 20), 4) for k in range(203)]
    content["annotations"] += [entry(300, 2, 1, 3, 3, 9)]
    assert kinds(checked(tmp_path, content, images=False)) == {"rare_category": 1, "imbalance": 1}
    del content["annotations"][-2:]
    assert kinds(checked(tmp_path, content, images=False)) == {"rare_category": 1, "image_without_objects": 1}


def test_objects_far_from_the_anchors(tmp_path: Path) -> None:
    content = clean()
    small, large = (checked(tmp_path, content, images=False, anchor_sizes_px=one) for one in ((25, 50), (2, 5)))
    assert kinds(small) == {"smaller_than_anchors": 20}
    assert kinds(large) == {"larger_than_anchors": 20}
    assert not small.healthy
    options = {"images": False, "anchor_sizes_px": (25, 50)}
    assert kinds(checked(tmp_path, content, input_scale=lambda _: 1.1, **options)) == {}
    content["annotations"][0] |= {"segmentation": [square(2, 3, 14)], "bbox": [2, 3, 14, 14], "area": 196}
    for one in content["annotations"][1:]:
        one |= {"segmentation": [square(2, 3, 4)], "bbox": [2, 3, 4, 4], "area": 16}
    few = checked(tmp_path, content, images=False, anchor_sizes_px=(4, 6.9))
    assert "larger_than_anchors" in kinds(few)
    assert {one.kind: one.severity for one in few.groups}["larger_than_anchors"] == "note"  # one in twenty


def test_a_set_with_nothing_in_it(tmp_path: Path) -> None:
    content = clean()
    content["annotations"] = []
    found = checked(tmp_path, content)
    assert kinds(found) == {"no_objects": 0, "empty_category": 2, "image_without_objects": 2}
    assert found.groups[0].severity == "error"
    assert (found.summary.side_px, found.summary.objects_per_image) == (None, (0, 0, 0))
    nothing = check_dataset(Dataset(tmp_path, (), (), ()))
    assert kinds(nothing) == {"no_images": 0, "no_objects": 0}
    assert nothing.to_json()["summary"]["image_sizes_hw"] is None


def test_issues_that_only_a_reader_knows(tmp_path: Path) -> None:
    issue = Issue("odd_thing", tmp_path / "a.txt", "line 3", "is odd")
    found = check_dataset(Dataset(tmp_path, (), (), (), (issue,)))
    (group,) = (one for one in found.groups if one.kind == "odd_thing")
    assert (group.severity, group.what) == ("warning", "odd thing")
    assert group.issues[0].brief == "a.txt: line 3: is odd"


def test_image_files(tmp_path: Path) -> None:
    content = clean()
    for k, name in ((3, "cut.png"), (4, "turned.png"), (5, "gone.png"), (6, "smaller.png")):
        content["images"].append({"id": k, "file_name": name, "width": WIDTH, "height": HEIGHT})
        content["annotations"].append(entry(k, k, 1, 2, 3, 12))
    path = write(tmp_path / "data", content)
    cut = path.with_name("cut.png")
    cut.write_bytes(cut.read_bytes()[:60])
    Image.fromarray(blobs(50, (WIDTH, HEIGHT))).save(path.with_name("turned.png"))
    Image.fromarray(blobs(51, (30, 40))).save(path.with_name("smaller.png"))
    path.with_name("gone.png").unlink()
    data = read_coco(path)
    told: list[tuple[int, int]] = []
    found = check_dataset(data, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 6) for k in range(1, 7)]
    assert kinds(found) == {"missing_image": 1, "unreadable_image": 1, "size_mismatch": 2}
    assert found.count("error") == 3
    turned, smaller = next(one for one in found.groups if one.kind == "size_mismatch").issues
    assert turned.what == "60 x 80 pixels, but annotated as 80 x 60 (turned by its EXIF orientation?)"
    assert smaller.what == "40 x 30 pixels, but annotated as 80 x 60"
    assert kinds(check_dataset(data, images=False)) == {"missing_image": 1}
    with pytest.raises(AnnotationError, match=r"not there.*gone\.png.*cut\.png.*2 images"):
        check_before_training([data])


def test_training_may_start(tmp_path: Path) -> None:
    content = clean()
    added(TWICE)(content)  # a warning does not stop it
    told: list[tuple[int, int]] = []
    check_before_training(
        [read_coco(write(tmp_path / "data", content))], lambda done, total: told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]
    content["annotations"] = []
    with pytest.raises(AnnotationError, match=r"no annotated objects"):
        check_before_training([read_coco(write(tmp_path / "data", content))])


def test_the_same_image_in_two_data_sets(tmp_path: Path) -> None:
    """Of those that are trained on together; within one it is not looked for."""
    one, other = (read_coco(write(tmp_path / name, clean())) for name in ("one", "other"))
    found = check_before_training([one, other])
    assert [issue.kind for issue in found] == ["repeated_image"] * len(other.samples)
    assert [issue.path for issue in found] == [sample.path for sample in other.samples]
    assert check_before_training([one]) == []
    turned = clean()
    turned["annotations"] = []
    with pytest.raises(AnnotationError, match=r"empty.*no annotated objects"):
        check_before_training([one, read_coco(write(tmp_path / "empty", turned))])


def test_the_same_image_in_train_and_val(tmp_path: Path) -> None:
    content = clean()
    train = read_coco(write(tmp_path / "data", content))
    (tmp_path / "val").mkdir()
    with Image.open(tmp_path / "data" / "2.png") as image:
        image.convert("L").resize((120, 90)).save(tmp_path / "val" / "1.png", "JPEG", quality=60)
        image.save(tmp_path / "val" / "2.png")
    content["categories"][1]["name"] = "bush"
    content["images"][0] |= {"width": 120, "height": 90}
    found = check_dataset(train, read_coco(write(tmp_path / "val", content)))
    assert kinds(found) == {"in_train_and_val": 2, "val_categories_differ": 2}
    issues = found.groups[0].issues
    assert [one.brief for one in issues] == ["1.png: shows the same as 2.png", "2.png: shows the same as 2.png"]
    assert found.groups[0].severity == "error"


def test_the_same_image_twice_in_one_set(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    path = write(folder, clean())
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes())
    assert kinds(check_dataset(read_coco(path))) == {"repeated_image": 1}
    for name in ("1.png", "2.png"):  # blank images are all alike
        Image.new("RGB", (WIDTH, HEIGHT), (30, 30, 30)).save(folder / name)
    assert kinds(check_dataset(read_coco(path))) == {}


def test_json_and_the_worst_images(tmp_path: Path) -> None:
    content = clean()
    added(TWICE, *(entry(910 + k, 2, 1, 2 + 4 * k, 20, 3) for k in range(7)))(content)
    added(entry(950, 2, 9, 1, 1, 9))(content)
    found = checked(tmp_path, content)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(values) == {"data", "healthy", "n_issues", "n_findings", "summary", "issues", "findings"}
    assert values["n_issues"] == values["n_findings"] == {"error": 0, "warning": 3, "note": 0}
    assert values["summary"]["class_counts"] == {"cell": 18, "tree": 10}
    assert values["findings"] == values["issues"]
    specks = next(one for one in values["issues"] if one["kind"] == "speck")
    assert set(specks) == {"kind", "severity", "n", "what", "advice", "examples"}
    assert (specks["n"], len(specks["examples"])) == (7, 5)
    assert set(specks["examples"][0]) == {"path", "where", "what"}
    (first, its), (second, others) = found.worst_images()
    assert (first.name, second.name) == ("2.png", "1.png")
    assert {group.kind: len(issues) for group, issues in its} == {"unknown_category": 1, "speck": 7}
    ((group, issues),) = others
    assert (group.kind, issues[0].objects) == ("duplicate_object", (10,))


def test_real_data_has_no_false_alarms(shared_data: Path) -> None:
    found = check_dataset(read_coco(shared_data / "coco-ccby" / "instances.json"), images=False)
    assert kinds(found) == {
        "self_crossing_polygon": 2, "empty_category": 17, "rare_category": 41, "category_ids": 1, "imbalance": 1,
        "crowd_region": 13,
    }  # fmt: skip
    found = check_dataset(read_coco(shared_data / "fruits-nuts" / "trainval.json"), images=False)
    assert kinds(found) == {}
