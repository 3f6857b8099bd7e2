"""Sizes of training images' objects, and that they come into the model file."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_loop import RECIPE, fresh, write_dataset

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.structures.images import InputRules
from halfpixel.train.loop import fit
from halfpixel.train.object_sizes import measure_diameters
from halfpixel.zoo.modelfile import read_info
from halfpixel.zoo.names import locate

AREA_120_PX = 12.3608
"""The diameter of a disc of 120 pixels."""


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def same(px: float) -> TrainedDiameters:
    return TrainedDiameters(*(float(f"{px:.3g}"),) * 3)


def test_sizes_are_those_that_the_network_sees(dataset: Dataset) -> None:
    assert measure_diameters(dataset, InputRules(scale=1.5)) == same(1.5 * AREA_120_PX)
    assert measure_diameters(dataset, InputRules(shortest_side=80)) == same(2 * AREA_120_PX)


def test_without_masks_objects_are_as_large_as_their_boxes(dataset: Dataset) -> None:
    samples = tuple(replace(one, objects=replace(one.objects, masks=None)) for one in dataset.samples)
    assert measure_diameters(replace(dataset, samples=samples), InputRules(scale=1.0)) == same(AREA_120_PX)


def test_without_objects_there_are_no_sizes(tmp_path: Path) -> None:
    assert measure_diameters(read_coco(write_dataset(tmp_path, empty_only=True)), InputRules(scale=1.0)) is None


def test_training_writes_them_down(dataset: Dataset, tmp_path: Path) -> None:
    start = fresh()
    start.info = replace(start.info, diameters=same(500))
    fitted = fit(start, dataset, replace(RECIPE, steps=1), tmp_path / "out")
    assert fitted.info.diameters == same(1.5 * AREA_120_PX)
    assert read_info(tmp_path / "out" / "model.safetensors").diameters == fitted.info.diameters
    assert fitted.with_classes(["other"]).info.diameters == fitted.info.diameters
    fitted.save(tmp_path / "again.safetensors")
    assert read_info(tmp_path / "again.safetensors").diameters == fitted.info.diameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuclei", "nuclei-unet", "nuclei-unet-boundary"])
def test_the_embedded_models_state_what_they_were_trained_on(shared_data: Path, name: str) -> None:
    info = read_info(locate(name))
    assert info.diameters == measure_diameters(read_coco(shared_data / "nuclei" / "train.json"), info.input)
