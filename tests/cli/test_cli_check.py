import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from calling import Halfpixel
from PIL import Image


def without_the_stray(annotated: Path) -> Path:
    content = json.loads(annotated.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["id"] != 99]
    for k in range(9):  # enough objects for its class
        square = [2 + 5 * k, 30, 6 + 5 * k, 30, 6 + 5 * k, 34, 2 + 5 * k, 34]
        numbers = {"id": 200 + k, "image_id": 1, "category_id": 7}
        content["annotations"].append({**numbers, "segmentation": [square], "bbox": [2 + 5 * k, 30, 4, 4], "area": 16})
    annotated.write_text(json.dumps(content))
    return annotated


def test_a_healthy_set(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    data = without_the_stray(annotated)
    ran = halfpixel("data", "check", data, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert f"{data}: 3 images, 15 objects of 1 class." in ran.out
    assert "nucleus 15" in ran.out
    assert "48 x 40 pixels" in ran.out
    assert "2 to 11, median 2" in ran.out
    assert "category ids that are not 1, 2, 3" in ran.out  # a note
    assert "Nothing above a note" in ran.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.json"]


def test_issues_as_a_table_as_json_and_as_a_sheet(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (annotated.parent / "images" / "2.png").unlink()
    ran = halfpixel("data", "check", annotated, "--out", out)
    assert ran.code == 1
    (line,) = (line for line in ran.out.splitlines() if line.startswith("error"))
    assert line.split()[-1] == "them"
    assert "image files that are not there" in line
    assert "2.png: no such file" in line
    assert "1 error and 2 warnings." in ran.out
    assert "contact-sheet.png: instances.json: 1 image with errors or warnings" in ran.out
    report = json.loads((out / "check.json").read_text())
    assert not report["healthy"]
    assert [one["kind"] for one in report["issues"]] == [
        "missing_image", "unknown_image", "rare_category", "category_ids"
    ]  # fmt: skip
    with Image.open(out / "contact-sheet.png") as sheet:
        assert np.asarray(sheet).std() > 1

    printed = halfpixel("data", "check", annotated, "--json")
    assert printed.code == 1
    assert json.loads(printed.out) == report

    again = halfpixel("data", "check", annotated, "--out", out)
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err
    (annotated.parent / "images" / "2.png").write_bytes((annotated.parent / "images" / "1.png").read_bytes())
    again = halfpixel("data", "check", annotated, "--out", out, "--overwrite", "--json")
    report = json.loads(again.out)
    assert [one["kind"] for one in report["issues"]][:2] == ["unknown_image", "repeated_image"]


def test_a_sheet_of_an_earlier_check_does_not_stay(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (annotated.parent / "images" / "2.png").rename(tmp_path / "2.png")
    assert halfpixel("data", "check", annotated, "--out", out).code == 1
    assert (out / "contact-sheet.png").exists()
    (tmp_path / "2.png").rename(annotated.parent / "images" / "2.png")
    assert halfpixel("data", "check", without_the_stray(annotated), "--out", out, "--overwrite").code == 0
    assert not (out / "contact-sheet.png").exists()


def test_objects_against_a_model(halfpixel: Halfpixel, annotated: Path, tiny_model: Path) -> None:
    ran = halfpixel("data", "check", without_the_stray(annotated), "--model", tiny_model)
    assert ran.code == 1
    assert f"of the model {tiny_model}" in ran.out
    (line,) = (line for line in ran.out.splitlines() if "smaller than the smallest anchor" in line)
    assert line.split()[0] == "warning"
    assert "a side of 4 px at the input, the anchor has 24 px" in line


def test_train_and_val(halfpixel: Halfpixel, annotated: Path, noise: Callable[..., Path], tmp_path: Path) -> None:
    data = without_the_stray(annotated)
    ran = halfpixel("data", "check", data, "--val", data, "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert [(one["kind"], one["n"]) for one in report["issues"]] == [("in_train_and_val", 3), ("category_ids", 1)]
    for k in range(1, 4):
        noise(tmp_path / "val" / "images" / f"{k}.png", seed=50 + k)
    val = tmp_path / "val" / "instances.json"
    val.write_text(data.read_text())
    assert halfpixel("data", "check", data, "--val", val).code == 0


def test_bad_input_is_one_line(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    broken = annotated.with_name("broken.json")
    broken.write_text('{"images": [}')
    for arguments, message in (
        ((tmp_path / "nowhere.json",), "nowhere.json"),
        ((broken,), "broken JSON in line 1"),
        ((annotated, "--images", tmp_path / "no"), "there is no such folder"),
        ((annotated, "--out", annotated), "is a file, not a folder"),
        ((annotated, "--val", broken), "broken JSON in line 1"),
    ):
        ran = halfpixel("data", "check", *arguments)
        assert (ran.code, ran.out) == (2, "")
        errors = [line for line in ran.err.splitlines() if line.startswith("halfpixel: error: ")]
        assert len(errors) == 1
        assert message in errors[0]


def test_help_says_what_the_exit_code_means(halfpixel: Halfpixel) -> None:
    ran = halfpixel("data", "check", "--help")
    assert ran.code == 0
    assert "exit code is 0" in " ".join(ran.out.split())
