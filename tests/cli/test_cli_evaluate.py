import json
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel


def test_report_page_and_terminal_agree(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = halfpixel("evaluate", annotated, "--model", tiny_model, "--out", out)
    assert ran.code == 0
    assert ran.err == (f"halfpixel: warning: {annotated}: annotation 99: left out, there is no image 4242\n")
    report = json.loads((out / "report.json").read_text())
    assert (report["n_images"], report["n_objects"]) == (3, 6)
    assert report["threshold"] == 0.3
    assert report["max_detections"] == 1000
    assert sorted(report["slices"]) == ["bright", "dark"]
    assert "<html" in (out / "index.html").read_text()
    assert "3 images, 6 annotated objects" in ran.out
    assert f"COCO mask AP {report['mask_ap']['ap']:.3f}" in ran.out
    assert f"COCO box AP {report['box_ap']['ap']:.3f}" in ran.out
    assert "at most 1,000 objects" in ran.out
    (line,) = (line for line in ran.out.splitlines() if line.startswith("all "))
    assert f"{report['overall']['count']['mae']:.2f} (" in line
    assert f"{report['overall']['count']['bias']:+.2f}" in line

    again = halfpixel("evaluate", annotated, "--model", tiny_model, "--out", out)
    assert again.code == 2
    assert "exists already" in again.err

    # the predictions that were written give the same numbers when they are read
    ran = halfpixel(
        "evaluate", annotated.parent, "--predictions", out / "instances.json", "--threshold", 0.3, "--json",
        "--out", tmp_path / "second",
    )  # fmt: skip
    assert ran.code == 0
    second = json.loads(ran.out)
    # boxes go through JSON as they are, masks without loss
    assert second["mask_ap"]["ap"] == pytest.approx(report["mask_ap"]["ap"], abs=1e-9)
    assert second["overall"] == report["overall"]
    assert second["slices"] == report["slices"]


def test_the_annotations_themselves_are_perfect(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    results = [
        {"image_id": one["image_id"], "category_id": 7, "segmentation": one["segmentation"], "score": 0.9}
        for one in content["annotations"]
        if one["image_id"] != 4242
    ]
    predictions = tmp_path / "results.json"
    predictions.write_text(json.dumps(results[1:]))  # one of six is missed
    arguments = ("evaluate", annotated, "--predictions", predictions, "--out", tmp_path / "out")
    ran = halfpixel(*arguments, "--json")
    assert ran.code == 0
    report = json.loads(ran.out)
    assert report["overall"]["detection"][0] | {"intervals": None} == {
        "iou": 0.5, "accuracy": 5 / 6, "quality": 5 / 6, "intervals": None, "iou_sum": 5.0, "tp": 5, "fp": 0, "fn": 1,
        "precision": 1.0, "recall": 5 / 6, "f1": 10 / 11, "mean_matched_iou": 1.0,
    }  # fmt: skip
    assert report["overall"]["count"]["bias"] == pytest.approx(-1 / 3)
    ran = halfpixel(*arguments, "--overwrite", "--model", "nuclei")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_counts_of_several_classes(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    content["categories"] += [{"id": 8, "name": "vessel"}, {"id": 9, "name": "absent"}]
    usable = [one for one in content["annotations"] if one["image_id"] != 4242]
    for one in usable[:2]:
        one["category_id"] = 8
    annotated.write_text(json.dumps(content))
    results = [
        {key: one[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.9} for one in usable
    ]
    predictions = tmp_path / "results.json"
    predictions.write_text(json.dumps(results[1:]))
    ran = halfpixel("evaluate", annotated, "--predictions", predictions, "--out", tmp_path / "out")
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["nucleus", "4", "4", "0.00", "+0.00"] in rows
    assert ["vessel", "2", "1", "0.33", "-0.33"] in rows
    assert not any(row[:1] == ["absent"] for row in rows)


def test_images_that_are_missing_or_of_another_size(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, noise: Callable[..., Path], tmp_path: Path
) -> None:
    images = annotated.parent / "images"
    noise(images / "1.png", (40, 47))
    (images / "2.png").unlink()
    ran = halfpixel("evaluate", annotated, "--model", tiny_model, "--out", tmp_path / "out", "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert report["n_images"] == 1
    assert [Path(one["path"]).name for one in report["failed"]] == ["1.png", "2.png"]
    assert "47 x 40 pixels, but annotated as 48 x 40" in ran.err
    assert "left out" in (tmp_path / "out" / "index.html").read_text()

    empty = tmp_path / "elsewhere"
    empty.mkdir()
    ran = halfpixel("evaluate", annotated, "--model", tiny_model, "--images", empty, "--out", tmp_path / "out2")
    assert ran.code == 2
    assert "none of its images is there" in ran.err
    assert not (tmp_path / "out2").exists()


def test_unusable_data_is_one_line(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    content["annotations"].pop()
    other = annotated.with_name("other.json")
    two = [{"id": 7, "name": "bolt"}, {"id": 8, "name": "nut"}]
    turned = [content["annotations"][0] | {"category_id": 8}, *content["annotations"][1:]]
    other.write_text(json.dumps(content | {"categories": two, "annotations": turned}))
    broken = annotated.with_name("broken.json")
    broken.write_text('{"images": [}')
    empty = tmp_path / "empty"
    empty.mkdir()
    for data, message in (
        (tmp_path / "nowhere.json", "nowhere.json: No such file"),
        (empty, "found 0"),
        (annotated.parent, "found 3: broken.json, instances.json, other.json; name one of them"),
        (broken, "broken JSON in line 1"),
        (other, "its classes (bolt, nut) have none in common with the model"),
    ):
        ran = halfpixel("evaluate", data, "--model", tiny_model, "--out", tmp_path / "out")
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert ran.err.startswith("halfpixel: error: ")
        assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_one_class_under_another_name(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    content["annotations"].pop()
    numbers = []
    for name, options in (("nucleus", ()), ("Cell", ()), ("Cell", ("--class-map", "Cell=nucleus"))):
        annotated.write_text(json.dumps(content | {"categories": [{"id": 7, "name": name}]}))
        out = tmp_path / str(len(numbers))
        ran = halfpixel("evaluate", annotated, "--model", tiny_model, "--out", out, "--pictures", 0, *options)
        assert ran.code == 0
        assert ("its one class, Cell, was taken for the one of" in ran.err) == (name == "Cell" and not options)
        ap = json.loads((out / "report.json").read_text())["mask_ap"]
        numbers.append([value if name[:9] != "per_class" else [*value.values()] for name, value in ap.items()])
    assert numbers[0] == numbers[1] == numbers[2]


def test_slices_and_pictures_are_chosen(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    for image, plate in zip(content["images"], "aab", strict=True):
        image["plate"] = plate
    annotated.write_text(json.dumps(content))
    predictions = tmp_path / "results.json"
    predictions.write_text("[]")
    arguments = ("evaluate", annotated, "--predictions", predictions, "--overwrite", "--out", tmp_path / "out")
    ran = halfpixel(*arguments, "--slice-by", "plate")
    assert ran.code == 0
    assert "Error types: miss (false negative) 6" in ran.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {name: one["n_images"] for name, one in report["slices"].items()} == {"a": 2, "b": 1}
    assert report["mask_ap"]["intervals"]["ap"] == [0, 0]
    assert report["boundary_ap"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    with_pictures = page.count("data:image/jpeg")
    assert with_pictures > 0
    assert halfpixel(*arguments, "--pictures", 0).code == 0
    assert "data:image/jpeg" not in (tmp_path / "out" / "index.html").read_text()
    ran = halfpixel(*arguments, "--pictures", -1)
    assert (ran.code, ran.err) == (2, "halfpixel: error: --pictures must be at least 0, got -1\n")
