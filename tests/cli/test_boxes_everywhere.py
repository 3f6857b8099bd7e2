"""A model that finds boxes alone is trained, measured, swept, calibrated and compared by its boxes."""

import csv
import json
import math
from pathlib import Path

import pytest
from calling import Halfpixel, write_model

from halfpixel import Recipe, fit, read_dataset
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, build, load_model, settings_of

STEPS = Recipe(steps=4, crop_px=96, images_per_step=2, warmup_steps=1, validate_every=2)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [touching_cells((96, 96), 8, seed=seed) for seed in range(6)]
    return write_cells(tmp_path_factory.mktemp("cells"), images)


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = build("toy_boxes", ("nucleus",))
    info = ModelInfo("toy_boxes", ("nucleus",), InputRules(scale=1.0, longest_side=160), settings_of(network), 0.05)
    out = tmp_path_factory.mktemp("run") / "run"
    dataset = read_dataset(cells)
    fit(Predictor(network, info), dataset, STEPS, out, val=dataset)
    return out


def test_training_watches_box_ap(run: Path) -> None:
    with (run / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [math.isnan(float(row["mask_ap"])) for row in rows] == [True, True]
    assert not any(math.isnan(float(row["box_ap"])) for row in rows)
    measured = load_model(run / "model.safetensors")[1].measured
    assert measured["compared_by"] == "box"
    assert measured["mask_ap"] is None
    assert "box AP" in measured["box_ap_definition"]
    assert "box IoU" in measured["accuracy_definition"]


def test_evaluate(halfpixel: Halfpixel, cells: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    ran = halfpixel(
        "evaluate", cells, "--model", run / "model.safetensors", "--out", out, "--threshold", 0, "--boundary"
    )
    assert ran.code == 0, ran.err
    assert "COCO box AP" in ran.out
    assert "mask" not in ran.out
    assert "boundary AP is not computed: objects are compared by their boxes" in ran.err
    report = json.loads((out / "report.json").read_text())
    assert (report["compared_by"], report["mask_ap"], report["overall"]["mask_ap"]) == ("box", None, None)
    assert report["overall"]["box_ap"] == report["box_ap"]["ap"]
    effects = [one["effect"] for one in report["overall"]["error_types"]]
    assert sum(effects) == report["overall"]["count"]["predicted"] - report["overall"]["count"]["true"]
    page = (out / "index.html").read_text()
    assert "COCO box AP" in page
    assert "COCO mask AP" not in page


def test_compare_with_a_model_that_has_masks(halfpixel: Halfpixel, cells: Path, run: Path, tmp_path: Path) -> None:
    """Both by their boxes; of itself it is no better."""
    boxes, out = run / "model.safetensors", tmp_path / "out"
    other = write_model(tmp_path / "masks.safetensors", ("nucleus",))
    ran = halfpixel("compare", cells, "--model", boxes, "--model", other, "--out", out, "--threshold", 0)
    assert ran.code == 0, ran.err
    assert "of boxes paired one to one" in ran.out
    assert "one of the two finds boxes only, so both are compared by boxes" in ran.err
    assert json.loads((out / "report.json").read_text())["compared_by"] == "box"
    ran = halfpixel("compare", cells, "--model", boxes, "--model", boxes, "--out", out, "--threshold", 0, "--overwrite")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["compared_by"] == "box"
    assert "mask_ap" not in report["overall"]["contrasts"]
    assert report["overall"]["contrasts"]["box_ap"]["difference"] == 0


def test_sweep(halfpixel: Halfpixel, cells: Path, run: Path, tmp_path: Path) -> None:
    ran = halfpixel("sweep", cells, "--model", run / "model.safetensors", "--out", tmp_path / "sweep", "--from", 0.02)
    assert ran.code == 0, ran.err
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        assert all(float(row["tp"]) + float(row["fn"]) == float(row["true"]) for row in csv.DictReader(file))


def test_calibrate(halfpixel: Halfpixel, run: Path, tmp_path: Path) -> None:
    """Of predictions that are near the truth, as four steps of training find too little."""
    data = write_cells(tmp_path / "more", [touching_cells((96, 96), 8, seed=seed) for seed in range(16)])
    found = json.loads(data.read_text())
    for number, one in enumerate(found["annotations"]):
        del one["segmentation"]
        one["score"] = 0.06 + 0.9 * (number % 7) / 7
    file = tmp_path / "found.json"
    file.write_text(json.dumps(found))
    model, out = run / "model.safetensors", tmp_path / "calibrated.safetensors"
    ran = halfpixel("calibrate", data, "--model", model, "--predictions", file, "--out", out)
    assert ran.code == 0, ran.err
    assert "compared by their boxes" in ran.out
    written = json.loads(out.with_suffix(".json").read_text())
    assert written["compared_by"] == "box"
    assert "its box overlaps" in written["definitions"]["calibration_error"]
    assert written["n_real"] == written["n_listed"] > 0
