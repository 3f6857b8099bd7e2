"""Images unlike those that a model was trained or calibrated on: what the command line says of them, and writes."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calling import Halfpixel
from PIL import Image
from test_count_calibrated import CALIBRATION
from test_sizes_option import enough

from halfpixel import count as count_in_python
from halfpixel.engine.size_finder import ChosenScale
from halfpixel.train.novelty_fit import measure_novelty
from halfpixel.zoo.modelfile import read_info, save_described

Noise = Callable[..., Path]

UNLIKE = "unlike those that the model was trained or calibrated on"


@pytest.fixture
def images(noise: Noise, tmp_path: Path) -> tuple[Path, Path]:
    """Noise as the model knows it, and a picture without any."""
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(blank)
    return noise(tmp_path / "noise.png", seed=3), blank


@pytest.fixture
def knowing(tiny_model: Path, noise: Noise, tmp_path: Path) -> Path:
    """A model that knows pictures of noise, and is calibrated at its threshold."""
    info = read_info(tiny_model)
    paths = [noise(tmp_path / "known" / f"{k}.png", seed=k) for k in range(20)]
    known = measure_novelty(paths, info.input, lambda path, pixels: ChosenScale(), "training")
    assert known is not None
    path = tmp_path / "knowing.safetensors"
    calibration = replace(CALIBRATION, threshold=info.score_threshold)
    save_described(path, tiny_model, replace(info, novelty=known, calibration=calibration))
    return path


def test_they_are_named_and_have_no_interval(
    halfpixel: Halfpixel, knowing: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = halfpixel("count", *images, "--model", knowing, "--csv", tmp_path / "n.csv")
    assert ran.code == 0
    assert ran.out.count("90%)") == 1
    told = " ".join(ran.err.split())
    assert f"1 of 2 images ({images[1]}): {UNLIKE}, counts may be far off" in told
    assert f"no interval for 1 image ({images[1]}): {UNLIKE}" in told
    with (tmp_path / "n.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["unlike_training"] for row in rows] == ["no", "yes"]
    assert [row["low"] != "" for row in rows] == [True, False]


def test_json_and_python_say_the_same(halfpixel: Halfpixel, knowing: Path, images: tuple[Path, Path]) -> None:
    content = json.loads(halfpixel("count", *images, "--model", knowing, "--json").out)
    known, strange = content["images"]
    assert (known["unlike_training"], strange["unlike_training"]) == (False, True)
    assert known["novelty"] < 1 < strange["novelty"]
    assert known["intervals"] is not None
    assert strange["intervals"] is None
    twin = count_in_python(list(images), model=knowing)
    assert [one.unlike_training for one in twin.images] == [False, True]
    assert twin.to_json()["images"] == content["images"]


def test_a_model_that_cannot_tell_is_silent(
    halfpixel: Halfpixel, tiny_model: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = halfpixel("count", *images, "--model", tiny_model, "--csv", tmp_path / "n.csv")
    assert ran.err == ""
    assert "unlike" not in (tmp_path / "n.csv").read_text()
    content = json.loads(halfpixel("count", *images, "--model", tiny_model, "--json").out)
    assert all(set(one) == {"image", "counts", "limit_reached"} for one in content["images"])


def test_predict_says_it_in_the_file_of_objects(
    halfpixel: Halfpixel, knowing: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = halfpixel("predict", *images, "--model", knowing, "--out", tmp_path / "out", "--save", "coco")
    assert UNLIKE in " ".join(ran.err.split())
    entries = json.loads((tmp_path / "out" / "instances.json").read_bytes())["images"]
    assert [entry["unlike_training"] for entry in entries] == [False, True]
    assert entries[0]["novelty"] < 1 < entries[1]["novelty"]


def test_a_resumed_run_says_it_of_images_before_the_interruption(
    halfpixel: Halfpixel, knowing: Path, images: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("count", images[1], images[0], "--model", knowing, "--csv", tmp_path / "n.csv")
    whole = halfpixel(*arguments)
    table = (tmp_path / "n.csv").read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("halfpixel.jobs.count._result", interrupt)
        halfpixel(*arguments)
    resumed = halfpixel(*arguments, "--resume")
    assert (resumed.code, resumed.err) == (0, whole.err)
    assert (tmp_path / "n.csv").read_bytes() == table


def test_calibrating_makes_images_known(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    enough(annotated)
    content = json.loads(annotated.read_bytes())
    for k in range(9, 21):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(
            annotated.parent / "images" / f"{k}.png"
        )
        content["images"].append({"id": k, "file_name": f"{k}.png", "width": 48, "height": 40})
    annotated.write_text(json.dumps(content))
    out = tmp_path / "calibrated.safetensors"
    ran = halfpixel("calibrate", annotated, "--model", tiny_model, "--out", out, "--level", 0.5)
    assert out.is_file(), ran.err
    known = read_info(out).novelty
    assert known is not None
    assert known.made_on == "calibration"
    assert len(known.references) >= 18
    content = json.loads(halfpixel("count", *images, "--model", out, "--json").out)
    assert [one["unlike_training"] for one in content["images"]] == [False, True]
    assert [one["intervals"] is None for one in content["images"]] == [False, True]


def test_a_model_tells_how_many_images_it_knows(halfpixel: Halfpixel, knowing: Path) -> None:
    told = json.loads(halfpixel("models", knowing, "--json").out)["novelty"]
    assert (told["references"], told["false_alarm_rate"], told["made_on"]) == (20, 0.05, "training")
    assert "references" in halfpixel("models", knowing).out
