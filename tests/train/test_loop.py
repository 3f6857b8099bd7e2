"""Short training runs on a small generated data set."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, few
from PIL import Image

from halfpixel.data.coco import read_coco
from halfpixel.data.sample import Dataset
from halfpixel.errors import AnnotationError, ArgumentError, HalfpixelError, ImageError
from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.structures.images import InputRules
from halfpixel.train import loop
from halfpixel.train.loop import fit
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.modelfile import ModelInfo, load_model, settings_of

RECIPE = Recipe(steps=3, images_per_step=2, crop_px=64, warmup_steps=2)
TERMS = ["rpn_objectness", "rpn_box", "class", "box", "mask"]


def write_dataset(folder: Path, empty_only: bool = False) -> Path:
    """Three images 40 x 52, one of them without objects, as a COCO file."""
    categories = [{"id": 3, "name": CLASSES[0]}, {"id": 7, "name": CLASSES[1]}]
    images, annotations = [], []
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 80, (40, 52, 3), dtype=np.uint8)
        for place in range(0 if k == 2 or empty_only else 3):
            x, y = 4 + 15 * place, 6 + 4 * k
            pixels[y : y + 10, x : x + 12] = 200
            polygon = [x, y, x + 12, y, x + 12, y + 10, x, y + 10]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k,
                    "category_id": (3, 7)[place % 2],
                    "segmentation": [polygon],
                    "bbox": [x, y, 12, 10],
                    "area": 120,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(folder / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 52, "height": 40})
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def fresh() -> tuple[MaskRCNN, ModelInfo]:
    torch.manual_seed(0)
    model = mask_rcnn.mask_rcnn_lite(CLASSES, few(mask_rcnn))
    return model, ModelInfo("mask_rcnn_lite", CLASSES, InputRules(scale=1.5), settings_of(model))


def test_a_run_leaves_three_files(dataset: Dataset, tmp_path: Path) -> None:
    model, info = fresh()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heard: list[tuple[int, dict[str, float]]] = []
    best = fit(model, info, dataset, RECIPE, tmp_path / "run", lambda step, values: heard.append((step, values)))

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.csv", "model.safetensors", "recipe.json"]
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert Recipe(**recipe | {"zoom": tuple(recipe["zoom"])}) == RECIPE
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"] == [str(step) for step, _ in heard]
    assert list(rows[0]) == ["step", *TERMS, "total"]
    for row, (_, values) in zip(rows, heard, strict=True):
        assert {name: float(value) for name, value in row.items() if name != "step"} == pytest.approx(values, rel=1e-5)
        assert values["total"] == pytest.approx(sum(values[term] for term in TERMS), rel=1e-5)

    loaded, described = load_model(tmp_path / "run" / "model.safetensors")
    assert described.recipe["steps"] == 3
    assert described.class_names == CLASSES
    changed = 0
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, best.state_dict()[name]), name
        changed += int(not torch.equal(tensor, before[name]))
    assert changed > 100


def test_the_seed_decides_everything(dataset: Dataset, tmp_path: Path) -> None:
    weights = []
    for k, seed in enumerate((5, 5, 6)):
        model, info = fresh()
        recipe = dataclasses.replace(RECIPE, seed=seed, steps=2)
        weights.append(fit(model, info, dataset, recipe, tmp_path / f"run {k}").state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_a_folder_that_is_not_empty_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("full", "file"):
        out = tmp_path / name
        if name == "full":
            out.mkdir()
            (out / "precious.txt").write_text("mine")
        else:
            out.write_text("mine")
        with pytest.raises(ArgumentError, match=f"{name} is not empty"):
            fit(*fresh(), dataset, RECIPE, out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    data = read_coco(write_dataset(tmp_path, empty_only=True))
    with pytest.raises(AnnotationError, match=r"annotations\.json: no annotated objects"):
        fit(*fresh(), data, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_without_objects_are_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    empty_first = dataclasses.replace(dataset, samples=(dataset.samples[2], dataset.samples[0]))
    heard: list[dict[str, float]] = []
    recipe = dataclasses.replace(RECIPE, images_per_step=1, steps=2)
    fit(*fresh(), empty_first, recipe, tmp_path / "run", lambda _, values: heard.append(values))
    assert sorted(values["mask"] > 0 for values in heard) == [False, True]


def test_an_image_of_another_size_than_annotated(dataset: Dataset, tmp_path: Path) -> None:
    Image.new("RGB", (52, 41)).save(tmp_path / "1.png")
    with pytest.raises(ImageError, match=r"1\.png: \(41, 52\) pixels .* annotated as \(40, 52\)"):
        fit(*fresh(), dataset, RECIPE, tmp_path / "run")


def test_a_loss_that_is_not_finite_names_the_images(dataset: Dataset, tmp_path: Path) -> None:
    model, info = fresh()
    torch.nn.init.constant_(model.mask_head.logits.bias, float("nan"))
    only = dataclasses.replace(dataset, samples=dataset.samples[:1])
    with pytest.raises(HalfpixelError, match=r"step 1: the loss is nan on .*0\.png"):
        fit(model, info, only, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_mixed_precision_runs(dataset: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=1, precision="bf16-mixed")
    best = fit(*fresh(), dataset, recipe, tmp_path / "run")
    assert all(tensor.dtype == torch.float32 for tensor in best.state_dict().values())


def test_the_learning_rate_warms_up_and_falls() -> None:
    recipe = Recipe(steps=100, warmup_steps=10)
    shares = [loop._schedule(step, recipe) for step in range(1, 101)]
    assert shares[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert shares[54] == pytest.approx(0.505)
    assert shares[-1] == pytest.approx(0.01)


def test_the_backbone_learns_more_slowly_and_vectors_do_not_decay() -> None:
    model, _ = fresh()
    recipe = Recipe(learning_rate=0.1, backbone_rate=0.3, weight_decay=0.05)
    groups = loop._parameter_groups(model, recipe)
    assert {(round(float(g["peak"]), 4), g["weight_decay"]) for g in groups} == {  # type: ignore[arg-type]
        (0.03, 0.05),
        (0.03, 0.0),
        (0.1, 0.05),
        (0.1, 0.0),
    }
    together = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert len(together) == len({id(p) for p in together}) == len(list(model.parameters()))


def test_the_average_follows_the_weights() -> None:
    model, _ = fresh()
    average = loop._Average(model, decay=0.5)
    start = model.rpn.objectness.bias.detach().clone()
    with torch.no_grad():
        model.rpn.objectness.bias.add_(1.0)
    average.update(model)  # short at first: a tenth of the past stays
    torch.testing.assert_close(average.model.rpn.objectness.bias.detach(), start + 0.9)
    for _ in range(30):
        average.update(model)
    torch.testing.assert_close(average.model.rpn.objectness.bias.detach(), start + 1.0)
