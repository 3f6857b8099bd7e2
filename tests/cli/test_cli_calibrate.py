import json
import re
from pathlib import Path

import numpy as np
import pytest
from calling import Halfpixel, write_model, write_noise, write_with_finder
from PIL import Image

from halfpixel.data.formats.coco import read_coco
from halfpixel.engine.load import load
from halfpixel.engine.size_finder import ChosenScale
from halfpixel.structures.calibration import Calibration
from halfpixel.train.novelty_fit import measure_novelty
from halfpixel.zoo.modelfile import read_info


@pytest.fixture
def lab(tmp_path: Path) -> tuple[Path, Path]:
    """A COCO file of 24 images with squares, and predictions: some are missed, some are not there."""
    rng = np.random.default_rng(0)
    images, annotations, found = [], [], []
    places = [(x, y) for y in (1, 14, 27) for x in (1, 12, 23, 34)]
    for k in range(1, 25):
        write_noise(tmp_path / "images" / f"{k}.png", seed=k)
        images.append({"id": k, "file_name": f"{k}.png", "width": 48, "height": 40})
        for n, (x, y) in enumerate(places):
            square = {
                "image_id": k, "category_id": 1, "area": 100, "bbox": [x, y, 10, 10],
                "segmentation": [[x, y, x + 10, y, x + 10, y + 10, x, y + 10]],
            }  # fmt: skip
            if n < 2 + k % 8:
                annotations.append(square | {"id": len(annotations) + 1})
            if rng.random() < (0.9 if n < 2 + k % 8 else 0.25):
                found.append(square | {"score": rng.uniform(0.4, 1.0) if n < 2 + k % 8 else rng.uniform(0.06, 0.6)})
    data, predictions = tmp_path / "instances.json", tmp_path / "found.json"
    categories = [{"id": 1, "name": "nucleus"}]
    data.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    predictions.write_text(json.dumps(found))
    return data, predictions


def test_a_model_is_calibrated_with_a_file_of_predictions(
    halfpixel: Halfpixel, tiny_model: Path, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    data, predictions = lab
    out = tmp_path / "made" / "lab.safetensors"
    arguments = ("calibrate", data, "--model", tiny_model, "--predictions", predictions, "--out", out, "--level", 0.8)
    ran = halfpixel(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert "fitted on 12, measured on 12 others" in ran.out
    before, after = read_info(tiny_model), read_info(out)
    assert before.calibration is None
    assert after.calibration is not None
    assert after.score_threshold == after.calibration.threshold
    assert f"Score threshold {after.score_threshold:g}, the best for count" in ran.out
    numbers = json.loads(out.with_suffix(".json").read_text())
    assert Calibration.from_json(numbers["calibration"]) == after.calibration
    mae = [f"{numbers['count_mae'][one]:.2f}" for one in ("listed", "estimated")]
    assert ["count", "MAE", *mae] in [line.split() for line in ran.out.splitlines()]
    assert "stays that of the listed objects" in ran.out
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.height > 500

    again = halfpixel(*arguments)
    assert (again.code, "exists already" in again.err) == (2, True)
    ran = halfpixel(*arguments, "--overwrite", "--threshold", 0.3, "--json")
    assert ran.code == 0
    assert read_info(out).score_threshold == 0.3
    assert json.loads(ran.out)["goal"] is None


@pytest.mark.parametrize(
    ("words", "chosen"), [((), ChosenScale(20 / 32, 32.0)), (("--diameter", "model"), ChosenScale())], ids=str
)
def test_with_a_file_of_predictions_images_are_known_at_the_size_that_will_be_chosen(
    halfpixel: Halfpixel,
    tiny_model: Path,
    lab: tuple[Path, Path],
    tmp_path: Path,
    words: tuple[str, ...],
    chosen: ChosenScale,
) -> None:
    data, predictions = lab
    model, out = write_with_finder(tmp_path / "finds.safetensors", tiny_model, 12), tmp_path / "lab.safetensors"
    ran = halfpixel("calibrate", data, "--model", model, "--predictions", predictions, "--out", out, *words)
    assert ran.code == 0
    paths, rules = [sample.path for sample in read_coco(data).samples], read_info(model).input
    expected = measure_novelty(paths, rules, lambda path, pixels: chosen, "calibration")
    assert read_info(out).novelty == expected


def test_a_model_is_calibrated_on_its_own_predictions_and_counts_with_intervals(
    halfpixel: Halfpixel, tiny_model: Path, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    content, out = json.loads(lab[0].read_text()), tmp_path / "lab.safetensors"
    few = {image["id"]: image for image in content["images"][:7]}
    annotations = [one for one in content["annotations"] if one["image_id"] in few]
    lab[0].write_text(json.dumps(content | {"images": list(few.values()), "annotations": annotations}))
    ran = halfpixel("calibrate", lab[0], "--model", tiny_model, "--out", out, "--threshold", 0.3, "--level", 0.6)
    assert ran.code == 0
    calibration = read_info(out).calibration
    assert calibration is not None
    assert calibration.n_images == (4, 3)
    image = tmp_path / "images" / "1.png"
    everything = load(tiny_model).predict(image, threshold=calibration.lowest_score)
    wanted = calibration.interval(everything.scores)
    ran = halfpixel("count", image, "--model", out)
    assert f"{wanted.count} ({wanted.low}-{wanted.high}, 60%)" in ran.out


def test_a_calibrated_file_may_be_replaced_by_itself(
    halfpixel: Halfpixel, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    data, predictions = lab
    model = write_model(tmp_path / "own.safetensors", ("nucleus",))
    arguments = ("calibrate", data, "--model", model, "--predictions", predictions, "--out", model, "--overwrite")
    assert halfpixel(*arguments).code == 0
    assert read_info(model).calibration is not None
    assert halfpixel(*arguments, "--for", "precision=0.8").code == 0


def test_scores_that_start_too_high_are_warned_about(
    halfpixel: Halfpixel, tiny_model: Path, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    data, predictions = lab
    sure = [one for one in json.loads(predictions.read_text()) if one["score"] >= 0.5]
    predictions.write_text(json.dumps(sure))
    ran = halfpixel(
        "calibrate", data, "--model", tiny_model, "--predictions", predictions, "--out", tmp_path / "m.safetensors"
    )
    assert ran.code == 0
    assert "no object scores under 0.5; intervals are wrong if" in ran.err


def test_predictions_of_other_images_are_refused(
    halfpixel: Halfpixel, tiny_model: Path, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    data, predictions = lab
    moved = [
        one | {"segmentation": [[x, 38, x + 10, 38, x + 10, 40, x, 40]], "bbox": [x, 38, 10, 2]}
        for one in json.loads(predictions.read_text())
        for x in one["bbox"][:1]
    ]
    predictions.write_text(json.dumps(moved))
    out = tmp_path / "made" / "lab.safetensors"
    ran = halfpixel("calibrate", data, "--model", tiny_model, "--predictions", predictions, "--out", out)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert re.search(r"only 0 of \d+ found objects overlap an annotated one: are these the same images\?", ran.err)
    assert not out.parent.exists()


def test_unusable_wishes_are_one_line(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, lab: tuple[Path, Path], tmp_path: Path
) -> None:
    data, predictions = lab
    content = json.loads(data.read_text())
    few, other = tmp_path / "few.json", tmp_path / "other.json"
    few.write_text(json.dumps(content | {"images": content["images"][:13], "annotations": []}))
    two = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
    turned = [content["annotations"][0] | {"category_id": 2}, *content["annotations"][1:]]
    other.write_text(json.dumps(content | {"categories": two, "annotations": turned}))
    out = tmp_path / "made" / "lab.safetensors"
    for arguments, message in (
        ((few, "--out", out), "13 images with objects are too few for intervals that hold for 90% of images; it takes"),
        ((data, "--out", out, "--level", 0.99), "at least 104"),
        ((other, "--out", out), "have none in common with the model"),
        ((data, "--out", out, "--level", 90), "the level must be between 0 and 1"),
        ((data, "--out", out, "--threshold", 0.01), "threshold"),
        ((data, "--out", out, "--threshold", 0.5, "--for", "f1"), "one of the two"),
        ((data, "--out", out, "--for", "beauty"), "the goal"),
        ((data, "--out", tmp_path), "expected the name of a .safetensors file"),
        ((data, "--out", tmp_path / "model.pth"), "expected the name of a .safetensors file"),
    ):
        ran = halfpixel("calibrate", *arguments, "--model", tiny_model, "--predictions", predictions)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), (arguments, ran)
        assert message in ran.err
    assert not out.parent.exists()
