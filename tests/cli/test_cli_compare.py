import json
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel


@pytest.fixture
def files(annotated: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Predictions for `annotated`: A finds all but one object, B makes one of the two of the first image."""
    content = json.loads(annotated.read_text())
    usable = [one for one in content["annotations"] if one["image_id"] != 4242]
    results = [{key: one[key] for key in ("image_id", "category_id", "segmentation")} for one in usable]
    around = [2, 5, 45, 5, 45, 25, 2, 25]
    scored = {
        "a.json": [one | {"score": 0.6} for one in results[:-1]],
        "b.json": [one | {"score": 0.7} for one in [results[0] | {"segmentation": [around]}, *results[2:]]],
    }
    for name, found in scored.items():
        (tmp_path / name).write_text(json.dumps(found))
    return tmp_path / "a.json", tmp_path / "b.json"


def test_two_files(halfpixel: Halfpixel, annotated: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = files
    arguments = ("compare", annotated, "--predictions", a, "--predictions", b, "--out", tmp_path / "out")
    ran = halfpixel(*arguments)
    assert ran.code == 0
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["index.html", "report.json"]
    assert f"A: {a}, score threshold 0.5\nB: {b}, score threshold 0.5\n" in ran.out
    assert "3 images, 6 annotated objects" in ran.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["overall"]["a"]["events"]["miss"] == report["overall"]["b"]["events"]["merge"] == 1
    assert report["overall"]["a"]["objects"] == report["overall"]["b"]["objects"] == 5
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["merge", "per", "100", "objects", "0.00", "16.67"] in [row[:6] for row in rows]
    assert ["dark", "1", "2", "0.00", "1.00", "0.00", "0", "1"] in rows
    assert "they are not counted as misses" in ran.out
    assert ran.err.count("\n") == 3  # the issue of the data, and that both files are cut at high scores
    assert "data:image/jpeg" in (tmp_path / "out" / "index.html").read_text()

    again = halfpixel(*arguments)
    assert (again.code, "exists already" in again.err) == (2, True)
    ran = halfpixel(*arguments, "--overwrite", "--json", "--threshold", 0.65, "--pictures", 0, "--slice-by", "stain")
    written = json.loads(ran.out)
    assert (written["overall"]["a"]["objects"], written["overall"]["b"]["objects"], written["slices"]) == (0, 5, {})
    assert "data:image/jpeg" not in (tmp_path / "out" / "index.html").read_text()
    ran = halfpixel(*arguments, "--overwrite", "--json", "--threshold", 0.65, "--threshold", 0.75, "--limit", 1)
    written = json.loads(ran.out)
    assert [written[key]["threshold"] for key in "ab"] == [0.65, 0.75]
    assert [written[key]["max_detections"] for key in "ab"] == [1, 1]
    assert written["overall"]["b"]["objects"] == 0


def test_a_file_of_other_images_is_doubted(
    halfpixel: Halfpixel, annotated: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = files
    other = [one | {"segmentation": [[0, 30, 10, 30, 10, 38, 0, 38]]} for one in json.loads(a.read_text())]
    a.write_text(json.dumps(other))
    doubt = f"{a}: only 0 of 5 found objects overlap an annotated one: are these the same images?"
    ran = halfpixel("compare", annotated, "--predictions", a, "--predictions", b, "--out", tmp_path / "two")
    assert (ran.code, doubt in ran.err, ran.err.count("same images")) == (0, True, 1)
    ran = halfpixel("evaluate", annotated, "--predictions", a, "--out", tmp_path / "one")
    assert (ran.code, doubt in ran.err) == (0, True)


def test_a_model_and_a_file(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = halfpixel("compare", annotated, "--predictions", files[0], "--model", tiny_model, "--out", out, "--json")
    assert ran.code == 0
    report = json.loads(ran.out)
    assert (report["a"]["name"], report["a"]["threshold"]) == (str(tiny_model), 0.3)
    assert (report["b"]["name"], report["b"]["threshold"]) == (str(files[0]), 0.5)
    assert sorted(str(one.relative_to(out)) for one in out.rglob("*.*")) == [
        "a/instances.json", "index.html", "report.json",
    ]  # fmt: skip
    # what was written gives the same numbers again, now that no model runs
    ran = halfpixel(
        "compare", annotated, "--predictions", out / "a" / "instances.json", "--predictions", files[0], "--json",
        "--out", tmp_path / "second", "--threshold", 0.3, "--threshold", 0.5,
    )  # fmt: skip
    second = json.loads(ran.out)
    assert second["overall"]["a"] == report["overall"]["a"]
    assert second["overall"]["contrasts"]["count_mae"] == report["overall"]["contrasts"]["count_mae"]


def test_images_that_fail_are_left_out_for_both(
    halfpixel: Halfpixel,
    tiny_model: Path,
    annotated: Path,
    files: tuple[Path, Path],
    noise: Callable[..., Path],
    tmp_path: Path,
) -> None:
    images = annotated.parent / "images"
    noise(images / "1.png", (40, 47))
    (images / "2.png").unlink()
    arguments = ("compare", annotated, "--model", tiny_model, "--predictions", files[1])
    ran = halfpixel(*arguments, "--out", tmp_path / "out", "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert [one["file_name"] for one in report["images"]] == ["3.png"]
    assert report["overall"]["b"]["objects"] == 2
    assert [Path(one["path"]).name for one in report["failed"]] == ["1.png", "2.png"]
    assert "left out: <b>2 images that could not be used" in (tmp_path / "out" / "index.html").read_text()

    noise(images / "3.png", (40, 47))
    ran = halfpixel(*arguments, "--out", tmp_path / "none")
    assert (ran.code, ran.out) == (2, "")
    assert not (tmp_path / "none").exists()


def test_two_models(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = halfpixel("compare", annotated, "--model", tiny_model, "--model", tiny_model, "--out", out)
    assert ran.code == 0
    assert (out / "a" / "instances.json").read_bytes() == (out / "b" / "instances.json").read_bytes()
    contrasts = json.loads((out / "report.json").read_text())["overall"]["contrasts"]
    assert {one["difference"] for one in contrasts.values()} <= {0, None}
    (images := annotated.parent / "images").joinpath("1.png").unlink()
    assert images.is_dir()
    ran = halfpixel("compare", annotated, "--model", tiny_model, "--model", tiny_model, "--out", tmp_path / "fewer")
    assert (ran.code, ran.err.count("1.png")) == (1, 1)
    assert "2 images, 4 annotated objects" in ran.out


def test_what_cannot_be_compared(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    content = json.loads(annotated.read_text())
    content["annotations"].pop()
    annotated.write_text(json.dumps(content))
    a, b = ("--predictions", files[0]), ("--predictions", files[1])
    model = ("--model", tiny_model)
    for arguments, message in (
        ((*a,), "two times in all, got 1"),
        ((*a, *b, *model), "two times in all, got 3"),
        ((), "two times in all, got 0"),
        ((*a, *b, "--threshold", 2), "--threshold must be from 0"),
        ((*a, *b, *("--threshold", 0.5) * 3), "expected one for both or two, got 3"),
        ((*a, *b, "--pictures", -1), "--pictures must be at least 0"),
        ((*a, "--predictions", tmp_path / "nowhere.json"), "nowhere.json: No such file"),
        ((*a, "--model", tmp_path / "nowhere.safetensors"), "nowhere.safetensors"),
    ):
        ran = halfpixel("compare", annotated, *arguments, "--out", tmp_path / "out")
        assert (ran.code, ran.out) == (2, ""), ran
        assert ran.err.splitlines()[-1].startswith("halfpixel: error: ")
        assert message in ran.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
