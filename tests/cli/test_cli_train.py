import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from calling import Halfpixel
from PIL import Image

from halfpixel.train.run_log import RunLog
from halfpixel.zoo.modelfile import load_model, read_info

SHORT = ("--steps", 2, "--images-per-step", 1, "--crop-px", 64, "--warmup-steps", 1)


def test_training_on_writes_a_model_that_says_so(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("train", annotated, "--model", tiny_model, "--out", out, *SHORT)
    ran = halfpixel(*arguments, "--val", annotated, "--zoom", "0.9", "1.0", "--longest-side", 64)
    assert ran.code == 0
    assert "3 images, 6 objects, 1 class (nucleus)" in ran.out
    assert "COCO mask AP" in ran.out
    assert "the last layers start anew" not in ran.out
    assert "from scratch" not in ran.out
    assert ran.err.count("annotation 99: left out") == 2
    assert "step 2 of 2: loss " in ran.err
    info = read_info(out / "model.safetensors")
    assert info.input.longest_side == 64
    assert info.input.scale == 1.0
    assert info.score_threshold == 0.3
    assert info.recipe["steps"] == 2
    assert info.recipe["zoom"] == [0.9, 1.0]
    assert "starting from tiny.safetensors" in info.source
    assert info.measured["data"] == "instances.json"
    assert f"COCO mask AP {info.measured['mask_ap']:.3f}" in ran.out
    assert json.loads((out / "recipe.json").read_text())["crop_px"] == 64
    with (out / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]

    before = (out / "model.safetensors").read_bytes()
    again = halfpixel(*arguments)
    assert (again.code, again.out) == (2, "")
    assert "never overwritten" in again.err
    assert (out / "model.safetensors").read_bytes() == before


def test_other_classes_get_new_heads(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    content["categories"] = [{"id": 7, "name": "bolt"}, {"id": 8, "name": "nut"}]
    annotated.write_text(json.dumps(content))
    out = tmp_path / "run"
    ran = halfpixel("train", annotated, "--model", tiny_model, "--out", out, *SHORT, "--score-threshold", 0.2)
    assert ran.code == 0
    assert "the last layers start anew" in ran.out
    model, info = load_model(out / "model.safetensors")
    assert info.class_names == model.class_names == ("bolt", "nut")
    assert info.score_threshold == 0.2


def test_from_scratch(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rules = ("--scale", 2, "--longest-side", 128, "--stretch-below", 0.5)
    ran = halfpixel("train", annotated, "--model", "mask_rcnn_lite", "--out", out, *SHORT, *rules)
    assert ran.code == 0
    begun = "mask_rcnn_lite starts from scratch. With trained weights, the same network is called nuclei.\n"
    assert begun in ran.out
    info = read_info(out / "model.safetensors")
    assert (info.input.scale, info.input.longest_side, info.input.stretch_below) == (2.0, 128, 0.5)
    assert info.source == "trained from scratch on instances.json"


def test_in_stages_with_other_settings(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    """RT-DETR's boxes first, then its masks from where that ended."""
    boxes, both = tmp_path / "boxes", tmp_path / "both"
    given = ("--longest-side", 64, "--score-threshold", 0.0, *SHORT)
    ran = halfpixel(
        "train", annotated, "--model", "rt_detr_lite", "--setting", "masks=false", "--setting", "mask_margin=0.25",
        "--out", boxes, *given,
    )  # fmt: skip
    assert ran.code == 0
    settings = read_info(boxes / "model.safetensors").settings
    assert (settings["masks"], settings["mask_margin"]) == (False, 0.25)
    again = halfpixel(
        "train", annotated, "--model", boxes / "model.safetensors", "--setting", "masks=true", "--out", both, *given
    )
    assert again.code == 0
    settings = read_info(both / "model.safetensors").settings
    assert (settings["masks"], settings["mask_margin"]) == (True, 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps must be at least 1"),
        (["--images-per-step", "0"], "images_per_step must be at least 1"),
        (["--learning-rate", "0"], "learning_rate must be above 0"),
        (["--learning-rate", "nan"], "learning_rate must be above 0"),
        (["--zoom", "1.2", "0.8"], "zoom must be two factors"),
        (["--ema-decay", "1"], "ema_decay must"),
        (["--setting", "masks"], "--setting must be like masks=false, got 'masks'"),
        (["--setting", "mask=1"], "mask"),
        (["--precision", "12-bit"], 'Choose from: "32-true", "bf16-mixed"'),
        (["--score-threshold", "2"], "--score-threshold"),
        (["--scale", "0"], "--scale is out of range: 0.0"),
        (["--scale", "1e30"], "--scale = 1e+30: expected float <= 32"),
        (["--longest-side", "-5"], "--longest-side is out of range: -5"),
        (["--longest-side", "31"], "--longest-side must be at least the divisor, 32; got 31"),
        (["--backbone", "weights.safetensors"], "--backbone is for networks from scratch"),
        (["--hold-out", "0"], "--hold-out must be at least 1"),
        (["--hold-out", "3"], "expected to hold out 1 to 2 of 3 images, got 3"),
        (["--hold-out", "1", "--val", "nowhere.json"], "--val and --hold-out"),
        (["--frozen-stages", "6"], "frozen_stages must be in 0..5"),
        (["--accumulate", "3"], "images_per_step must be a multiple of accumulate, 3; got 4"),
        (["--format", "pascal"], "pascal"),
        (["--val", "nowhere.json"], "nowhere.json"),
        (["--model", "mask_rcnn_lite", "--backbone", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--model", "nowhere"], "neither a model file nor"),
        (["--model", "rtmdet_light"], "did you mean rtmdet_lite or "),
        (["--model", "rf-detr-seg-nano"], "rf-detr-seg-nano: it cannot be trained"),
    ],
)
def test_unusable_options_are_one_line(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    content = json.loads(annotated.read_text())
    content["annotations"].pop()
    annotated.write_text(json.dumps(content))
    start = () if "--model" in arguments else ("--model", tiny_model)
    ran = halfpixel("train", annotated, "--out", tmp_path / "run", *start, *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("halfpixel: error: ")
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_missing_images_stop_a_run_before_it_starts(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path
) -> None:
    (annotated.parent / "images" / "2.png").unlink()
    ran = halfpixel("train", annotated, "--model", tiny_model, "--out", tmp_path / "run", *SHORT)
    assert ran.code == 2
    assert "1 image files that are not there" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.alone
def test_ctrl_c_and_resume(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", annotated, "--model", tiny_model, "--out", tmp_path / "run", *SHORT[2:], "--hold-out", 1)
    real, pressed = RunLog.step, []

    def press(log: RunLog, step: int, values: dict[str, float]) -> None:
        real(log, step, values)
        if not pressed:
            pressed.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunLog, "step", press)
    ran = halfpixel(*command, "--steps", 4)
    assert ran.code == 130
    last = ran.err.splitlines()[-1]
    assert last.startswith("halfpixel: interrupted after step 2, which is saved; the same command with --resume goes")
    again = halfpixel(*command, "--steps", 4)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "(--resume goes on)" in again.err
    other = halfpixel(*command, "--steps", 5, "--resume")
    assert (other.code, "begun with steps = 4, not 5" in other.err) == (2, True)
    done = halfpixel(*command, "--steps", 4, "--resume")
    assert done.code == 0
    assert "step 3 of 4: loss" in done.err
    assert "step 2 of 4: loss" not in done.err
    assert "COCO mask AP" in done.out


def test_images_held_out(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = halfpixel("train", annotated, "--model", tiny_model, "--out", out, *SHORT, "--hold-out", 1)
    assert ran.code == 0
    assert ": 2 images, " in ran.out
    assert ": 1 image, " in ran.out
    assert "step 2 of 2: mask AP " in ran.err
    files = {path.name for path in out.iterdir()}
    assert files >= {"curves.png", "pictures", "validation.csv", "last.safetensors", "model.safetensors"}


def test_another_format(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    converted = tmp_path / "labels"
    assert halfpixel("data", "convert", annotated, "--to", "label_images", "--out", converted).code == 0
    ran = halfpixel("train", converted, "--model", tiny_model, "--out", tmp_path / "run", *SHORT)
    assert ran.code == 0
    assert "3 images, 6 objects" in ran.out


@pytest.fixture
def another(annotated: Path, tmp_path: Path) -> Path:
    """The same annotations of other pictures, in another folder."""
    folder = tmp_path / "another"
    shutil.copytree(annotated.parent, folder)
    for k, path in enumerate(sorted((folder / "images").iterdir())):
        with Image.open(path) as picture:
            noise = np.random.default_rng(100 + k).integers(0, 256, (picture.height, picture.width, 3), np.uint8)
        Image.fromarray(noise).save(path)
    return folder / annotated.name


def test_several_data_sets(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, another: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ("train", annotated, another, "--model", tiny_model, "--out", out, *SHORT, "--balance", "source")
    ran = halfpixel(*command, "--hold-out", 2, "--copy-paste", 1)
    assert ran.code == 0
    assert f"Training on {annotated}, {another}: 4 images, " in ran.out
    assert ": 2 images, " in ran.out
    assert "shown by another one" not in ran.err
    info = read_info(out / "model.safetensors")
    names = f"{annotated.parent.name}/instances.json, another/instances.json"
    assert info.source.startswith(f"trained on {names}, starting from tiny.safetensors")
    assert info.measured["data"] == names
    # it goes on with the same files in the same order, and no others
    last = (out / "last.safetensors").read_bytes()
    assert halfpixel(*command, "--hold-out", 2, "--copy-paste", 1, "--resume").code == 0
    assert (out / "last.safetensors").read_bytes() == last
    fewer = halfpixel("train", another, *command[3:], "--hold-out", 1, "--copy-paste", 1, "--resume")
    assert fewer.code == 2
    one = halfpixel("train", annotated, *command[3:-2], "--copy-paste", 1, "--resume")
    assert (one.code, "this run was begun with" in one.err) == (2, True)


def test_several_to_measure_on_and_a_class_by_another_name(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, another: Path, tmp_path: Path
) -> None:
    content = json.loads(another.read_text())
    content["categories"] = [{**one, "name": "cell"} for one in content["categories"]]
    another.write_text(json.dumps(content))
    command = ("train", annotated, another, "--model", tiny_model, *SHORT)
    refused = halfpixel(*command, "--out", tmp_path / "run")
    assert (refused.code, refused.err.count("error")) == (2, 1)
    assert f"{another}: its classes (cell) are not those of {annotated} (nucleus); say with --class-map" in refused.err
    assert not (tmp_path / "run").exists()
    unknown = halfpixel(*command, "--out", tmp_path / "run", "--class-map", "bolt=nucleus")
    assert (unknown.code, "no class 'bolt'" in unknown.err) == (2, True)
    done = halfpixel(
        *command, "--out", tmp_path / "run", "--class-map", "cell=nucleus", "--val", annotated, "--val", another
    )
    assert done.code == 0
    assert ": 6 images, " in done.out
    assert "6 images to measure on are trained on, too" in done.err
    assert read_info(tmp_path / "run" / "model.safetensors").class_names == ("nucleus",)


def test_the_same_pictures_twice(halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path) -> None:
    shutil.copytree(annotated.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / annotated.name
    command = ("train", annotated, copy, "--model", tiny_model, "--out", tmp_path / "run", *SHORT)
    ran = halfpixel(*command)
    assert ran.code == 0
    assert "of a data set shown by another one, too, e.g. " in ran.err
    twice = halfpixel("train", annotated, annotated, *command[3:5], "--out", tmp_path / "again", *SHORT)
    assert (twice.code, "its image" in twice.err) == (2, True)


def test_help_tells_of_several_data_sets_and_of_stains(halfpixel: Halfpixel) -> None:
    ran = halfpixel("train", "--help")
    assert ran.code == 0
    text = " ".join(ran.out.split())
    assert "DATA" in text
    assert "--stain" in text
    assert "haematoxylin, eosin and DAB" in text.replace("│", "").replace("  ", " ")
