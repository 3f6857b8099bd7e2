import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel, write_model

Noise = Callable[..., Path]


def test_the_table_the_json_and_the_csv_agree(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    for k, size_hw in enumerate(((40, 48), (60, 70))):
        noise(tmp_path / "in" / f"{k}.png", size_hw)
    arguments = ("count", tmp_path / "in", tmp_path / "in" / "0.png", "--model", tiny_model, "--threshold", "0.4")
    ran = halfpixel(*arguments, "--json")
    assert (ran.code, ran.err) == (0, "")
    content = json.loads(ran.out)
    assert content["threshold"] == 0.4
    counts = {Path(one["image"]).name: one["counts"]["nucleus"] for one in content["images"]}
    assert list(counts) == ["0.png", "1.png"]  # the one named twice is counted once
    assert content["total"] == {"nucleus": sum(counts.values())}
    assert counts["1.png"] > counts["0.png"] > 0

    ran = halfpixel(*arguments, "--csv", tmp_path / "counts.csv")
    assert ran.code == 0
    with (tmp_path / "counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["image"]).name: int(row["count"]) for row in rows} == counts
    assert rows[0] | {"image": "", "count": ""} == {
        "image": "",
        "class": "nucleus",
        "count": "",
        "score_threshold": "0.4",
        "limit_reached": "no",
    }
    for name, number in counts.items():
        (line,) = (line for line in ran.out.splitlines() if name in line)
        assert line.split()[-2:] == ["nucleus", str(number)]
    assert f"{sum(counts.values())} objects on 2 images, scoring at least 0.4." in ran.out


def test_a_reached_limit_is_told(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    image = noise(tmp_path / "cells.png")
    ran = halfpixel("count", image, "--model", tiny_model, "--limit", 2, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["images"][0]["limit_reached"] is True
    assert ran.err.count("\n") == 1
    assert "the detection limit (2) cut objects off on 1 image" in ran.err
    assert "raise --limit" in ran.err


def test_one_bad_file_does_not_stop_the_rest(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    good, bad = noise(tmp_path / "b.png"), tmp_path / "a.png"
    bad.write_bytes(good.read_bytes()[:200])
    ran = halfpixel("count", bad, "--model", tiny_model, "--json", tmp_path / "missing.png", good)
    assert ran.code == 1
    content = json.loads(ran.out)
    assert [one["image"] for one in content["images"]] == [str(good)]
    assert [one["path"] for one in content["failed"]] == [str(tmp_path / "missing.png"), str(bad)]
    assert all(line.startswith("halfpixel: error: ") for line in ran.err.splitlines())
    ran = halfpixel("count", bad, "--model", tiny_model)
    assert (ran.code, ran.out) == (2, "")


def test_file_names_are_no_markup(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    noise(tmp_path / "in" / "[red]:smile:[1] \u00e4.png")
    noise(tmp_path / "in" / ("long" * 40 + ".png"))
    ran = halfpixel("count", tmp_path / "in", "--model", tiny_model)
    assert ran.code == 0
    assert "[red]:smile:[1] \u00e4.png" in ran.out
    assert "long" * 40 + ".png" in ran.out


@pytest.mark.parametrize(("classes", "threshold"), [(12, 0.01), (3, 0.01), (12, 0.9)])
def test_of_many_classes_those_found_nowhere_are_left_out(
    halfpixel: Halfpixel, noise: Noise, tmp_path: Path, classes: int, threshold: float
) -> None:
    names = tuple(f"kind{k}" for k in range(classes))
    model = write_model(tmp_path / "model.safetensors", names)
    images = [noise(tmp_path / f"{k}.png", seed=k) for k in range(2)]
    arguments = ("count", *images, "--model", model, "--limit", 3, "--threshold", threshold)
    total = json.loads(halfpixel(*arguments, "--json").out)["total"]
    assert tuple(total) == names
    ran = halfpixel(*arguments, "--csv", tmp_path / "counts.csv")
    shown = {name for name in names if total[name] or classes == 3}
    assert {word for line in ran.out.splitlines() for word in line.split() if word.startswith("kind")} == shown
    with (tmp_path / "counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(shown)
    assert sum(int(row["count"]) for row in rows) == sum(total.values())
    assert (sum(total.values()) > 0) == (threshold < 0.5)


def test_an_unusable_csv_is_told_before_counting(halfpixel: Halfpixel, noise: Noise, tmp_path: Path) -> None:
    ran = halfpixel("count", noise(tmp_path / "cells.png"), "--csv", tmp_path)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        f"halfpixel: error: --csv {tmp_path}: this is a folder, not a file\n",
    )


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("image,class,count,score_threshold,limit_reached\n", False),
        ("image,class,counted\n", True),
        ("\x89PNG", True),
        ("", True),
    ],
)
def test_only_a_table_of_counts_is_replaced(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path, content: str, kept: bool
) -> None:
    image, table = noise(tmp_path / "cells.png"), tmp_path / "n.csv"
    table.write_text(content)
    ran = halfpixel("count", image, "--model", tmp_path / "no model" if kept else tiny_model, "--csv", table)
    assert (ran.code, table.read_text() == content) == ((2, True) if kept else (0, False))
    message = f"halfpixel: error: --csv {table}: this file exists and is no table of counts; choose another name\n"
    assert ran.err == (message if kept else "")


def test_a_csv_below_a_file_is_told_before_counting(halfpixel: Halfpixel, noise: Noise, tmp_path: Path) -> None:
    image = noise(tmp_path / "cells.png")
    ran = halfpixel("count", image, "--csv", image / "in" / "n.csv", "--model", tmp_path / "no model")
    message = f"halfpixel: error: --csv {image / 'in' / 'n.csv'}: {image} is a file, not a folder\n"
    assert (ran.code, ran.out, ran.err) == (2, "", message)


def test_summaries_tell_what_could_not_be_used(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    good, bad = noise(tmp_path / "b.png"), tmp_path / "a.png"
    bad.write_bytes(good.read_bytes()[:200])
    arguments = (bad, good, tmp_path / "missing.png", "--model", tiny_model)
    assert " on 1 image (2 could not be used), scoring at least 0.3." in halfpixel("count", *arguments).out
    ran = halfpixel("predict", *arguments, "--save", "coco", "--out", tmp_path / "out")
    assert " on 1 image (2 could not be used): nucleus " in ran.out
