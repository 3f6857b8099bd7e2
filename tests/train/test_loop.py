"""Short training runs on a small generated data set."""

import csv
import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, few
from PIL import Image

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import AnnotationError, ArgumentError, HalfpixelError, ImageError, MissingDependencyError
from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.structures.images import InputRules
from halfpixel.train import loop, run_log
from halfpixel.train.augment.crops import Batches
from halfpixel.train.loop import fit, train_network
from halfpixel.train.recipe import Recipe, TrainingPrecision
from halfpixel.train.run_log import Event
from halfpixel.train.start import start_from
from halfpixel.zoo.modelfile import ModelInfo, load_model, settings_of

RECIPE = Recipe(steps=3, images_per_step=2, crop_px=64, warmup_steps=2)
FILES = ["curves.png", "last.safetensors", "log.csv", "model.safetensors", "recipe.json"]
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


def fresh() -> Predictor:
    torch.manual_seed(0)
    model = mask_rcnn.mask_rcnn_lite(CLASSES, few(mask_rcnn))
    return Predictor(model, ModelInfo("mask_rcnn_lite", CLASSES, InputRules(scale=1.5), settings_of(model)))


def test_a_run_leaves_three_files(dataset: Dataset, tmp_path: Path) -> None:
    start = fresh()
    before = {name: tensor.clone() for name, tensor in start.model.state_dict().items()}
    heard: list[Event] = []
    best = fit(start, dataset, RECIPE, tmp_path / "run", report=heard.append).model

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert Recipe(**recipe | {"zoom": tuple(recipe["zoom"])}) == RECIPE
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"] == [str(event.step) for event in heard]
    assert list(rows[0]) == ["step", *TERMS, "total", "gradient_norm", "learning_rate"]
    for row, event in zip(rows, heard, strict=True):
        values = event.values
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
        recipe = dataclasses.replace(RECIPE, seed=seed, steps=2)
        weights.append(fit(fresh(), dataset, recipe, tmp_path / f"run {k}").model.state_dict())
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
        with pytest.raises(ArgumentError, match=f"{name}.*not empty"):
            fit(fresh(), dataset, RECIPE, out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    data = read_coco(write_dataset(tmp_path, empty_only=True))
    with pytest.raises(AnnotationError, match=r"annotations\.json.*no annotated objects"):
        fit(fresh(), data, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_without_objects_are_trained_on(dataset: Dataset, tmp_path: Path) -> None:
    empty_first = dataclasses.replace(dataset, samples=(dataset.samples[2], dataset.samples[0]))
    heard: list[Event] = []
    recipe = dataclasses.replace(RECIPE, images_per_step=1, steps=2)
    fit(fresh(), empty_first, recipe, tmp_path / "run", report=heard.append)
    assert sorted(event.values["mask"] > 0 for event in heard) == [False, True]


def test_an_image_of_another_size_than_annotated(dataset: Dataset, tmp_path: Path) -> None:
    Image.new("RGB", (52, 41)).save(tmp_path / "1.png")
    with pytest.raises(ImageError, match=r"1\.png.*\(41, 52\).*\(40, 52\)"):
        fit(fresh(), dataset, RECIPE, tmp_path / "run")


def test_a_loss_that_is_not_finite_names_the_images(dataset: Dataset, tmp_path: Path) -> None:
    start = fresh()
    torch.nn.init.constant_(start.model.mask_head.logits.bias, float("nan"))
    recipe = dataclasses.replace(RECIPE, images_per_step=3)
    with pytest.raises(HalfpixelError, match=r"step 1.*loss is nan") as raised:
        fit(start, dataset, recipe, tmp_path / "run")
    assert "0.png" in str(raised.value)
    assert "1.png" in str(raised.value)
    assert "2.png" not in str(raised.value)  # has no objects, hence no masks
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_lost(dataset: Dataset, tmp_path: Path) -> None:
    start = start_from(fresh(), dataset)
    model = start.network
    model.rpn.objectness.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(HalfpixelError, match=r"step 1.*gradient is (nan|inf).*png"):
        train_network(start, dataset, RECIPE, tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.parametrize(("precision", "computed"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_mixed_precision_is_computed_in_and_not_kept(
    dataset: Dataset, tmp_path: Path, precision: TrainingPrecision, computed: torch.dtype
) -> None:
    start, seen = start_from(fresh(), dataset), set[torch.dtype]()
    start.network.rpn.objectness.register_forward_hook(lambda _layer, _given, out: seen.add(out.dtype))
    train_network(start, dataset, dataclasses.replace(RECIPE, steps=1, precision=precision), tmp_path / "run")
    assert seen == {computed}
    best, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in best.state_dict().values())


def test_frozen_stages_stay(dataset: Dataset, tmp_path: Path) -> None:
    start = fresh()
    before = {name: tensor.clone() for name, tensor in start.model.backbone.state_dict().items()}
    recipe = dataclasses.replace(RECIPE, frozen_stages=2, ema_decay=0.0)
    after = fit(start, dataset, recipe, tmp_path / "run").model.backbone.state_dict()
    frozen = [name for name in before if name.startswith(("conv_stem", "blocks.0.", "blocks.1."))]
    assert len(frozen) > 10
    # the stem is stride 2, the first two stages come to stride 4
    assert {name for name in before if torch.equal(before[name], after[name])} == set(frozen)
    assert "blocks.2.0.conv_pw.weight" not in frozen


def test_micro_batches_are_averaged(dataset: Dataset, tmp_path: Path) -> None:
    start = fresh()
    model = start.model
    recipe = dataclasses.replace(RECIPE, steps=1, accumulate=2)
    terms: dict[str, float] = dict.fromkeys(TERMS, 0.0)
    for rank in range(2):
        images, targets, _ = Batches(dataset, start.info.input, recipe, rank=rank, processes=2)[0]
        assert len(images) == 1
        for name, value in model.train().losses(images, targets).items():
            terms[name] += float(value.detach()) / 2
            (value / 2).backward(retain_graph=True)
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None))
    model.zero_grad()
    heard: list[Event] = []
    fit(start, dataset, recipe, tmp_path / "run", report=heard.append)
    assert {name: heard[0].values[name] for name in TERMS} == pytest.approx(terms, rel=1e-5)
    assert heard[0].values["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_images_that_cannot_be_shared_out(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"images_per_step.*accumulate, 4.*2"):
        dataclasses.replace(RECIPE, accumulate=4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ArgumentError, match=r"images_per_step is 2.*3 processes"):
        fit(fresh(), dataset, RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_as_it_goes(dataset: Dataset, tmp_path: Path) -> None:
    out, heard = tmp_path / "run", list[Event]()
    recipe = dataclasses.replace(RECIPE, steps=5, validate_every=2)
    fit(fresh(), dataset, recipe, out, val=dataset, report=heard.append)
    with (out / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "5"]
    assert [event.step for event in heard if event.kind == "validation"] == [2, 4, 5]
    best = max(rows, key=lambda row: float(row["mask_ap"]))
    _, info = load_model(out / "model.safetensors")
    assert info.measured["mask_ap"] == pytest.approx(float(best["mask_ap"]), abs=1e-5)
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert pictures == ["step-000002.png", "step-000004.png", "step-000005.png"]
    assert read_image(out / "pictures" / "step-000002.png").shape[1] == 1286
    assert read_image(out / "curves.png").shape[1] > 500


def test_a_run_that_gets_no_better_stops(dataset: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=9, validate_every=1, patience=2, learning_rate=1e-12)
    heard: list[Event] = []
    fit(fresh(), dataset, recipe, tmp_path / "run", val=dataset, report=heard.append)
    assert [event.step for event in heard if event.kind == "step"] == [1, 2, 3]


def test_the_best_validation_is_the_model(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aps = iter([0.2, 0.6, 0.4])
    real = run_log.summary
    monkeypatch.setattr(run_log, "summary", lambda evaluation: real(evaluation) | {"mask_ap": next(aps)})
    averages = []
    recipe = dataclasses.replace(RECIPE, validate_every=1)
    kept = run_log.validate

    def spy(network: MaskRCNN, *rest: object) -> object:
        averages.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return kept(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run_log, "validate", spy)
    best = fit(fresh(), dataset, recipe, tmp_path / "run", val=dataset).model.state_dict()
    equal = [all(torch.equal(best[name], one[name]) for name in best) for one in averages]
    assert equal == [False, True, False]


def test_tensorboard_that_is_not_installed(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"halfpixel\[tensorboard\]"):
        fit(fresh(), dataset, RECIPE, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_every_number(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int | None) -> None:
            assert (folder, purge_step) == (tmp_path / "run" / "tensorboard", None)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def close(self) -> None:
            written.append(("closed", 0))

    monkeypatch.setattr(loop, "tensorboard_writer", lambda: Writer)
    fit(fresh(), dataset, RECIPE, tmp_path / "run", val=dataset, tensorboard=True)
    assert {("train/total", 3), ("train/mask", 1), ("val/mask_ap", 3)} <= set(written)
    assert written[-1] == ("closed", 0)
