"""What a run starts from, and that a predictor which was given stays as it is."""

import dataclasses
from pathlib import Path

import pytest
import torch
from calling import always
from networks import CLASSES, enliven
from safetensors.torch import save_file
from test_loop import RECIPE, fresh, write_dataset
from torch import Tensor

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.structures.diameters import SizeFinderInfo, TrainedDiameters
from halfpixel.structures.instances import Instances
from halfpixel.train import loop
from halfpixel.train.loop import fit
from halfpixel.train.recipe import Recipe
from halfpixel.train.start import Start, start_from
from halfpixel.zoo.modelfile import variant_names

STRONG = dataclasses.replace(RECIPE, steps=4, learning_rate=0.02, warmup_steps=0, ema_decay=0.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def state_of(predictor: Predictor | Start) -> dict[str, Tensor]:
    network = predictor.model if isinstance(predictor, Predictor) else predictor.network
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lively() -> Predictor:
    predictor = fresh()
    enliven(predictor.model, torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    return predictor


def find(predictor: Predictor, dataset: Dataset) -> Instances:
    return predictor.predict(dataset.samples[0].path, threshold=0.0, limit=20)


def test_predict_fit_predict(dataset: Dataset, tmp_path: Path) -> None:
    old = lively()
    weights, first = state_of(old), find(old, dataset)
    new = fit(old, dataset, STRONG, tmp_path / "run")

    assert isinstance(new, Predictor)
    assert new is not old
    again = find(old, dataset)
    assert same(state_of(old), weights)
    assert (old.model.training, old.info.source, old.info.recipe) == (False, "", {})
    assert len(first) > 0
    assert torch.equal(again.boxes_xyxy, first.boxes_xyxy)
    assert torch.equal(again.scores, first.scores)

    found = find(new, dataset)
    assert not new.model.training
    assert found.scores.shape != first.scores.shape or not torch.allclose(found.scores, first.scores)
    assert not same(state_of(new), weights)
    assert new.info.recipe["steps"] == STRONG.steps
    assert new.device == old.device


def test_training_a_predictor_for_other_classes(dataset: Dataset, tmp_path: Path) -> None:
    other = dataclasses.replace(dataset, class_names=("bolt", "nut"))
    old = fresh()
    weights = state_of(old)
    new = fit(old, other, RECIPE, tmp_path / "run")
    assert new.class_names == new.info.class_names == ("bolt", "nut")
    assert old.class_names == CLASSES
    assert same(state_of(old), weights)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_is_a_start(dataset: Dataset, tmp_path: Path, as_text: bool) -> None:
    old = fresh()
    old.save(tmp_path / "mine.safetensors")
    path = tmp_path / "mine.safetensors"
    start = start_from(str(path) if as_text else path, dataset)
    assert same(state_of(start), state_of(old))
    assert start.info.source == "trained on annotations.json, starting from mine.safetensors"
    assert not start.new_layers


def test_a_start_says_where_it_comes_from_and_forgets_what_was_measured(dataset: Dataset) -> None:
    old = fresh()
    info = dataclasses.replace(old.info, source="found in a drawer", measured={"mask_ap": 0.9}, licence="MIT")
    start = start_from(Predictor(old.model, info), dataset)
    assert start.info.source == "trained on annotations.json, starting from mask_rcnn_lite (found in a drawer)"
    assert (start.info.measured, start.info.licence) == ({}, "MIT")


def test_other_classes_keep_all_but_the_last_layers(dataset: Dataset) -> None:
    old = fresh()
    start = start_from(old, dataclasses.replace(dataset, class_names=("a", "b", "c")), seed=3)
    again = start_from(old, dataclasses.replace(dataset, class_names=("a", "b", "c")), seed=3)
    assert start.new_layers
    assert start.info.class_names == start.network.class_names == ("a", "b", "c")
    assert same(state_of(start), state_of(again))
    before, after = state_of(old), state_of(start)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("box_head.", "mask_head.")) for name in changed)


def test_what_finds_sizes_stays_with_the_classes(dataset: Dataset, tmp_path: Path) -> None:
    """It is not trained, and goes where the model is to find something else."""
    start = fresh()
    finds = dataclasses.replace(start.info, size_finder=SizeFinderInfo(0.3), diameters=TrainedDiameters(9.0, 9.0, 9.0))
    predictor = Predictor(start.model, finds, start.device, size_network=always(2))
    predictor.save(tmp_path / "finds.safetensors")
    fitted = fit(tmp_path / "finds.safetensors", dataset, dataclasses.replace(RECIPE, steps=1), tmp_path / "run")
    assert fitted.info.size_finder == finds.size_finder
    assert fitted.size_network is not None
    assert torch.equal(fitted.size_network.logits.bias, always(2).logits.bias)
    assert start_from(predictor, dataset).size_network is predictor.size_network
    other = start_from(predictor, dataclasses.replace(dataset, class_names=("a", "b")))
    assert (other.size_network, other.info.size_finder) == (None, None)


def test_what_finds_sizes_is_taken_along(dataset: Dataset) -> None:
    """To a network from scratch, which knows no sizes yet."""
    start = fresh()
    finds = dataclasses.replace(start.info, size_finder=SizeFinderInfo(0.3))
    predictor = Predictor(start.model, finds, start.device, size_network=always(2))
    taken = start_from("unet_lite", dataset, size_finder=predictor)
    assert taken.info == dataclasses.replace(start_from("unet_lite", dataset).info, size_finder=finds.size_finder)
    assert taken.size_network is predictor.size_network
    with pytest.raises(ArgumentError, match="mask_rcnn_lite does not find how large objects are"):
        start_from("unet_lite", dataset, size_finder=start)


def test_from_scratch(dataset: Dataset) -> None:
    one, same_seed, another = (start_from("unet_lite", dataset, seed=seed) for seed in (1, 1, 2))
    assert one.info.variant == "unet_lite"
    assert one.info.class_names == one.network.class_names == CLASSES
    assert one.info.source == "trained from scratch on annotations.json"
    assert one.info.settings == dataclasses.asdict(one.network.settings)
    assert same(state_of(one), state_of(same_seed))
    assert not same(state_of(one), state_of(another))


def test_a_backbone_is_for_networks_from_scratch(dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "backbone.safetensors"
    weights = start_from("mask_rcnn_r50_fpn", dataset, seed=5).network.backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)
    start = start_from("mask_rcnn_r50_fpn", dataset, backbone=file, seed=6)
    assert same(dict(start.network.backbone.state_dict()), dict(weights))
    assert start.info.source.endswith("the backbone starting from backbone.safetensors")
    for model in (fresh(), "nuclei"):
        with pytest.raises(ArgumentError, match="`backbone` is for networks from scratch") as raised:
            start_from(model, dataset, backbone=file)
        assert all(name in str(raised.value) for name in variant_names())


def test_what_is_no_start(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere\.safetensors"):
        start_from(tmp_path / "nowhere.safetensors", dataset)
    hollow = fresh()
    hollow.model.only_predicts = "the file was exported"
    exported = Predictor(hollow.model.to("meta"), hollow.info, torch.device("meta"))
    with pytest.raises(ArgumentError, match="it cannot be trained: the file was exported"):
        start_from(exported, dataset)


def test_without_a_recipe_there_is_the_network_s(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy network asks for another learning rate than the usual one."""
    asked: list[Recipe] = []

    def instead(start: Start, dataset: Dataset, recipe: Recipe, out: Path, **_: object) -> None:
        asked.append(recipe)
        fresh().save(out)

    monkeypatch.setattr(loop, "MODEL", "")
    monkeypatch.setattr(loop, "train_network", instead)
    for network in ("toy_query", "unet_lite"):
        fit(network, dataset, None, tmp_path / f"{network}.safetensors")
    assert [one.learning_rate for one in asked] == [2e-3, Recipe().learning_rate]
    assert dataclasses.replace(asked[0], learning_rate=Recipe().learning_rate) == Recipe() == asked[1]


def test_in_stages(dataset: Dataset, tmp_path: Path) -> None:
    """Boxes first, masks later, through files: what both have is kept."""
    boxes = fit("rt_detr_lite", dataset, RECIPE, tmp_path / "boxes", settings={"masks": False})
    assert (tmp_path / "boxes" / "log.csv").read_text().startswith("step,class,box,iou,total")
    assert boxes.info.settings["masks"] is False
    assert not any(name.startswith("masks.") for name in state_of(boxes))

    start = start_from(tmp_path / "boxes" / "model.safetensors", dataset, settings={"masks": True})
    assert start.info.settings == {**boxes.info.settings, "masks": True}
    later, before = state_of(start), state_of(boxes)
    assert all(torch.equal(tensor, later[name]) for name, tensor in before.items())
    assert {name.partition(".")[0] for name in later.keys() - before.keys()} == {"masks"}
    assert start.info.source.endswith("starting from model.safetensors (trained from scratch on annotations.json)")


def test_settings_that_a_network_does_not_have(dataset: Dataset) -> None:
    with pytest.raises(ModelFileError, match="there is no field 'wings'"):
        start_from("rt_detr_lite", dataset, settings={"wings": 2})
