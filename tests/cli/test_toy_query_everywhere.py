"""A network that is one file goes through all that halfpixel does with networks; see tests/toy_models/toy_query.py."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from calling import Halfpixel
from networks import enliven, scene
from PIL import Image

from halfpixel import Recipe, fit, load, read_dataset
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.predictor import Predictor
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, build, read_info, settings_of

CPU = torch.device("cpu")
CLASSES = ("cell",)


@pytest.fixture(scope="module", autouse=True)
def shapes_unchecked() -> Iterator[None]:
    """While a graph is made, sizes are symbols."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    network = build("toy_query", CLASSES).eval()
    enliven(network, torch.stack([scene(96, seed=seed)[0] for seed in (1, 2)]))
    info = ModelInfo("toy_query", CLASSES, InputRules(scale=1.0, longest_side=160), settings_of(network), 0.6)
    return Predictor(network, info, CPU, backend=TorchBackend(network, CPU, "fp32"))


@pytest.fixture(scope="module")
def model(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    predictor.save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "cells.png"
    path.parent.mkdir()
    Image.fromarray(touching_cells((300, 260), 40).picture).save(path)
    return path


def test_predict_in_tiles(halfpixel: Halfpixel, predictor: Predictor, model: Path, picture: Path) -> None:
    expected = predictor.predict(picture)
    assert len(list(predictor.prepared(picture))) > 3
    assert len(expected) > 10
    out = picture.parents[1] / "out"
    ran = halfpixel("predict", picture, "--model", model, "--out", out, "--precision", "fp32")
    assert ran.code == 0, ran.err
    with (out / "objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    shown = [row for row in rows if row["area_high_px"]]  # an empty mask has no interval
    assert len(shown) > len(rows) / 2
    assert all(float(row["area_low_px"]) <= float(row["area_px"]) <= float(row["area_high_px"]) for row in shown)
    assert (out / "overlay" / "cells.png").is_file()


def test_the_number_of_queries_is_a_bound_that_is_told(halfpixel: Halfpixel, model: Path, picture: Path) -> None:
    ran = halfpixel("count", picture, "--model", model, "--threshold", 0.0, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["images"][0]["limit_reached"] is True


def test_a_first_pass_before_it(predictor: Predictor) -> None:
    cells = touching_cells((100, 120), 12, seed=3).picture
    pixels = np.full((600, 700, 3), cells.min(axis=(0, 1)), np.uint8)
    pixels[200:300, 300:420] = cells
    found = predictor.with_prefilter(load("nuclei-unet")).predict(pixels)
    assert found.prefilter is not None
    assert 0 < found.prefilter.area_px < 0.3 * pixels.shape[0] * pixels.shape[1]


def test_train_evaluate_and_sweep(halfpixel: Halfpixel, tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", [touching_cells((96, 96), 6, seed=k) for k in range(3)])
    recipe = Recipe(steps=4, images_per_step=2, crop_px=96, warmup_steps=2, checkpoint_every=4)
    trained = fit("toy_query", read_dataset(data), recipe, tmp_path / "run")
    assert trained.info.variant == "toy_query"
    assert (tmp_path / "run" / "log.csv").read_text().startswith("step,")
    model = tmp_path / "run" / "model.safetensors"
    assert halfpixel("train", data, "--model", model, "--out", tmp_path / "again", "--steps", 2).code == 0
    for verb in ("evaluate", "sweep"):
        ran = halfpixel(verb, data, "--model", model, "--out", tmp_path / verb, "--json")
        assert ran.code == 0, ran.err
        json.loads(ran.out)


def test_what_suits_the_network_and_what_was_given(halfpixel: Halfpixel, tmp_path: Path) -> None:
    """The network's `RECIPE` comes before the usual recipe, and what is given before both, also what is as usual."""
    assert (Recipe().learning_rate, build("toy_query", CLASSES).RECIPE) == (1e-3, {"learning_rate": 2e-3})
    data = write_cells(tmp_path / "cells", [touching_cells((96, 96), 6, seed=k) for k in range(2)])
    short = ("--steps", 2, "--images-per-step", 1, "--crop-px", 64, "--no-mirror")
    command = ("train", data, "--model", "toy_query", *short, "--out")
    ran = halfpixel(*command, tmp_path / "own")
    assert ran.code == 0, ran.err
    expected = dataclasses.replace(Recipe(), steps=2, images_per_step=1, crop_px=64, mirror=False)
    own = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(expected, learning_rate=2e-3))))
    assert json.loads((tmp_path / "own" / "recipe.json").read_text()) == own
    assert read_info(tmp_path / "own" / "model.safetensors").recipe == own
    with (tmp_path / "own" / "log.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert max(rates) <= 2e-3
    given = halfpixel(*command, tmp_path / "given", "--learning-rate", 1e-3)
    assert given.code == 0, given.err
    usual = json.loads(json.dumps(dataclasses.asdict(expected)))
    assert json.loads((tmp_path / "given" / "recipe.json").read_text()) == usual
    # each goes on as it was begun
    assert halfpixel(*command, tmp_path / "own", "--resume").code == 0
    other = halfpixel(*command, tmp_path / "own", "--resume", "--learning-rate", 1e-3)
    assert (other.code, "begun with learning_rate = 0.002, not 0.001" in other.err) == (2, True)
    assert halfpixel(*command, tmp_path / "given", "--resume", "--learning-rate", 1e-3).code == 0
    assert halfpixel(*command, tmp_path / "given", "--resume").code == 2


def test_a_recipe_is_looked_at_once_the_network_is_known(
    halfpixel: Halfpixel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that only go together with the usual ones of others are no reason to refuse, and the other way round."""
    data = write_cells(tmp_path / "cells", [touching_cells((96, 96), 6, seed=k) for k in range(2)])
    network = type(build("toy_query", CLASSES))
    command = ("train", data, "--model", "toy_query", "--steps", 1, "--crop-px", 64, "--accumulate", 3, "--out")
    ran = halfpixel(*command, tmp_path / "usual")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "images_per_step must be a multiple of accumulate, 3; got 4" in ran.err
    assert not (tmp_path / "usual").exists()
    monkeypatch.setattr(network, "RECIPE", {"images_per_step": 3})
    assert halfpixel(*command, tmp_path / "own").code == 0


@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_an_exported_file(halfpixel: Halfpixel, predictor: Predictor, model: Path, picture: Path, to: str) -> None:
    out = picture.parents[1] / ("toy.onnx" if to == "onnx" else "toy.xml")
    ran = halfpixel("export", model, "--to", to, "--out", out)
    assert ran.code == 0, ran.err
    loaded = load(out)
    assert loaded.backend.name == to
    found, expected = loaded.predict(picture), predictor.predict(picture)
    assert len(found) > 100
    apart, partner = torch.cdist(found.boxes_xyxy, expected.boxes_xyxy, p=torch.inf).min(1)
    same = apart < 0.05
    # tiles are merged by pixels of masks, where rounding may decide about one object
    assert max(len(found), len(expected)) - len(set(partner[same].tolist())) <= 1
    torch.testing.assert_close(found.scores[same], expected.scores[partner[same]], atol=1e-3, rtol=1e-3)
    assert found.masks is not None
    assert expected.masks is not None
    ours, theirs = found.masks.dense()[same], expected.masks.dense()[partner[same]]
    assert (ours != theirs).float().mean() < 1e-3


def test_other_classes(predictor: Predictor) -> None:
    swapped = predictor.with_classes(("a", "b"))
    assert swapped.class_names == ("a", "b")
    assert dataclasses.replace(swapped.info, class_names=CLASSES) == predictor.info
