import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel
from PIL import Image


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def results(annotated: Path, tmp_path: Path) -> Path:
    """All six annotated objects, scoring .35, .45 ... .85."""
    content = json.loads(annotated.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 4242]
    annotated.write_text(json.dumps(content))
    found = [
        {key: one[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.35 + 0.1 * k}
        for k, one in enumerate(content["annotations"])
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found))
    return path


def test_a_sweep_of_a_file(halfpixel: Halfpixel, annotated: Path, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("sweep", annotated, "--predictions", results, "--from", 0.4, "--to", 0.8, "--step", 0.2)
    ran = halfpixel(*arguments, "--out", out, "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert [point["found"] for point in told["points"]] == [5, 3, 1]
    assert [point["recall"] for point in told["points"]] == [pytest.approx(k / 6) for k in (5, 3, 1)]
    assert [point["count_mae"] for point in told["points"]] == [pytest.approx(k / 3) for k in (1, 3, 5)]
    assert told["recommended"]["threshold"] == 0.4
    written = rows_of(out / "sweep.csv")
    assert [row["found"] for row in written] == ["5", "3", "1"]
    assert [float(row["count_bias"]) for row in written] == [pytest.approx(-k / 3, abs=1e-5) for k in (1, 3, 5)]
    with Image.open(out / "sweep.png") as picture:
        assert picture.width > 500

    again = halfpixel(*arguments, "--out", out)
    assert (again.code, "exists already" in again.err) == (2, True)
    ran = halfpixel(*arguments, "--out", out, "--overwrite", "--for", "precision=0.9")
    assert ran.code == 0
    assert "For precision=0.9 the best of these thresholds is 0.4; other images like these would choose" in ran.out
    assert ["0.6", "3", "6", "-1.00", "1.00", "1.000", "0.500", "0.667", "0.500"] in [
        line.split() for line in ran.out.splitlines()
    ]


def test_one_run_of_the_model_serves_all_thresholds(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path
) -> None:
    ran = halfpixel("sweep", annotated, "--model", tiny_model, "--from", 0.4, "--to", 0.6, "--out", tmp_path, "--json")
    assert ran.code == 0
    swept = json.loads(ran.out)["points"]
    for point in (swept[0], swept[-1]):
        ran = halfpixel(
            "count", annotated.parent / "images", "--model", tiny_model, "--threshold", point["threshold"], "--json"
        )
        assert point["found"] == json.loads(ran.out)["total"]["nucleus"]
    assert swept[0]["true"] == 6


def test_plain_images_have_a_count_curve(
    halfpixel: Halfpixel, tiny_model: Path, noise: Callable[..., Path], tmp_path: Path
) -> None:
    for k in range(2):
        noise(tmp_path / "images" / f"{k}.png", seed=k)
    ran = halfpixel("sweep", tmp_path / "images", "--model", tiny_model, "--out", tmp_path / "out")
    assert ran.code == 0
    assert "no annotations here" in ran.out
    rows = rows_of(tmp_path / "out" / "sweep.csv")
    assert list(rows[0]) == ["threshold", "found"]
    counts = [int(row["found"]) for row in rows]
    assert counts == sorted(counts, reverse=True)
    found = halfpixel("count", tmp_path / "images", "--model", tiny_model, "--threshold", 0.3, "--json")
    assert sum(json.loads(found.out)["total"].values()) == counts[0]
    data = [tmp_path / "images" / "0.png", tmp_path / "gone.png"]
    ran = halfpixel("sweep", *data, "--model", tiny_model, "--out", tmp_path / "more", "--json")
    assert (ran.code, [one["path"] for one in json.loads(ran.out)["failed"]]) == (1, [str(tmp_path / "gone.png")])


def test_a_goal_out_of_reach_and_scores_that_are_missing(
    halfpixel: Halfpixel, annotated: Path, results: Path, tmp_path: Path
) -> None:
    found = json.loads(results.read_text())
    for one in found:
        one["segmentation"] = [[0, 30, 10, 30, 10, 38, 0, 38]]
    results.write_text(json.dumps(found))
    ran = halfpixel("sweep", annotated, "--predictions", results, "--for", "precision=0.5", "--out", tmp_path, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["recommended"] is None
    warnings = ran.err.splitlines()
    assert "no object scores under 0.35" in warnings[0]
    assert "only 0 of 6 found objects overlap an annotated one: are these the same images?" in warnings[1]
    assert "no threshold from 0.3 to 0.9 reaches precision=0.5" in warnings[2]


def test_a_tie_is_told(halfpixel: Halfpixel, annotated: Path, results: Path, tmp_path: Path) -> None:
    ran = halfpixel(
        "sweep", annotated, "--predictions", results, "--out", tmp_path / "out", "--from", 0.36, "--to", 0.44,
        "--step", 0.02,
    )  # fmt: skip
    said = "the best of these thresholds is 0.4, the middle one of 5 that are equally good, from 0.36 to 0.44; other"
    assert (ran.code, said in ran.out) == (0, True)


def test_bad_numbers_are_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    good = ["--out", str(tmp_path / "out")]
    for wrong, message in (
        ([*good, "--from", "0.9", "--to", "0.3"], "--from <= --to < 1"),
        ([*good, "--to", "1"], "--from <= --to < 1"),
        ([*good, "--step", "0"], "step above 0"),
        ([*good, "--iou", "0"], "above 0 and at most 1"),
        (["--out", str(tmp_path / "file")], "file"),
    ):
        arguments = ["halfpixel", "sweep", "gone.json", *wrong]
        code = (
            f"import sys\nsys.argv = {arguments}\nfrom halfpixel.cli import main\n"
            "try:\n    main()\nfinally:\n"
            "    print(*sorted({'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, message in ran.stderr) == (2, "\n", True), (wrong, ran)


def test_unusable_wishes_are_one_line(halfpixel: Halfpixel, annotated: Path, results: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((annotated, "--from", 0.9, "--to", 0.3), "--from <= --to"),
        ((annotated, "--for", "beauty"), "the goal"),
        ((annotated, "--iou", 2, "--predictions", results), "IoU"),
        ((annotated, "--predictions", results, "--model", "nuclei"), "one of the two"),
        ((annotated.parent / "images", "--predictions", results), "annotated images"),
        ((annotated, annotated, "--format", "coco"), "one annotation file"),
        ((tmp_path / "nowhere.json",), "nowhere.json"),
    ):
        ran = halfpixel("sweep", *arguments, "--out", tmp_path / "out")
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), arguments
        assert message in ran.err
    assert not (tmp_path / "out").exists()
