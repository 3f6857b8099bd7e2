"""The benchmark of sizes, on generated cells and with a finder that says the same of every image."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from calling import write_with_finder

from halfpixel import load
from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.size_finder import SizeFinder
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.zoo.modelfile import read_info

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sizes")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return write_cells(tmp_path / "cells", [touching_cells((64, 64), 3, seed=seed) for seed in range(8)])


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """Finds 32 pixels in small images, and knows those of 10 to 20."""
    return write_with_finder(tmp_path / "finds.safetensors", tiny_model, 12)


def of_modalities(dataset: Dataset, *numbers: int) -> Dataset:
    """The first so many samples, over and over, of one modality after the other."""
    samples = [
        replace(dataset.samples[k % len(dataset.samples)], image_id=1000 * j + k, attributes={"modality": str(j)})
        for j, n in enumerate(numbers)
        for k in range(n)
    ]
    return replace(dataset, samples=tuple(samples))


def test_some_of_each_modality_are_held_out(sizes: ModuleType, cells: Path) -> None:
    several = of_modalities(read_coco(cells), 100, 9, 3)
    kept, held = sizes.split([several, of_modalities(read_coco(cells), 20)])
    modalities = [sample.attributes["modality"] for sample in held.samples]
    assert [modalities.count(str(j)) for j in range(3)] == [10 + 3, 1, 0]
    assert len(kept.samples) + len(held.samples) == 132
    assert not set(map(id, kept.samples)) & set(map(id, held.samples))


def test_other_sizes_of_an_image(sizes: ModuleType) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    assert sizes.rescaled(pixels, 1) is pixels
    half = sizes.rescaled(pixels, 0.5)
    assert np.abs(half - pixels.reshape(20, 2, 24, 2, 3).mean((1, 3))).max() <= 1
    large = sizes.rescaled(np.full((40, 48, 3), 100, dtype=np.uint8), 4)
    assert large.shape == (160, 192, 3)
    assert large.std() == pytest.approx(sizes.NOISE, rel=0.05)
    assert np.array_equal(large[..., 0], large[..., 2])  # grey stays grey


def test_annotations_of_an_enlarged_image(sizes: ModuleType, cells: Path) -> None:
    objects = read_coco(cells).samples[0].objects
    larger = sizes.enlarged_truth(objects, 3)
    assert objects.masks is not None
    assert larger.masks is not None
    expected = objects.masks.dense().repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert bool((larger.masks.dense() == expected).all())
    assert bool((larger.boxes_xyxy == 3 * objects.boxes_xyxy).all())


def test_how_far_off(sizes: ModuleType, cells: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    samples = read_coco(cells).samples
    true = [sizes.diameter_of(sample) for sample in samples]
    answers = iter([None, *(one * 2**k for k, one in zip((0.5, -0.25, 0, 0, 0, 0, 0), true[1:], strict=True))])
    monkeypatch.setattr(SizeFinder, "diameter_px", lambda self, pixels: next(answers))
    off = sizes.errors_of(load(model).size_finder, samples)
    assert set(off) == {"all", "None"}
    assert off["all"][:4] == (8, 1, pytest.approx(0.25 / 7), pytest.approx(0))
    assert off["all"].ninth == pytest.approx(0.35)


def test_it_teaches(
    sizes: ModuleType, cells: Path, tiny_model: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(model)
    words = ["sizes.py", "train", str(cells), "--into", str(model), "--steps", "2", "--source", "cells"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sizes, "MODALITY", "file_name")
    with pytest.raises(Exception, match="balance"):
        sizes.main()
    monkeypatch.setattr(
        sizes,
        "SizeRecipe",
        lambda **given: importlib.import_module("halfpixel.train.size_training").SizeRecipe(
            **{**given, "balance": None, "crops": 2}
        ),
    )
    assert sizes.main() in (0, 1)
    after = load(model)
    assert after.info.size_finder is not None
    assert after.info.size_finder.source == "cells"
    assert read_info(model) == replace(before.info, size_finder=after.info.size_finder)


def test_counts(
    sizes: ModuleType,
    cells: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "numbers.json"
    words = ["counts", str(cells), "--model", str(model), "--images", "2", "--times", "0.5", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["sizes.py", *words])
    code = sizes.main()
    rows = json.loads(out.read_bytes())
    assert [row["times"] for row in rows] == [0.5, 1, 0.5, 1]
    knows = TrainedDiameters(15.0, 10.0, 20.0)
    for row in rows:
        assert (row["found"]["splits"] is None) == (row["times"] < 1)
        assert row["given"]["scale"] == pytest.approx(knows.scale_for(row["diameter_px"], 1.0))
        assert row["assumed"]["scale"] == 1
        assert row["found"]["scale"] == pytest.approx(knows.scale_for(row["found_diameter_px"], 1.0, 2**0.3))
    usual, found = (
        {row["image"]: row[way]["count"] for row in rows if row["times"] == 1} for way in ("assumed", "found")
    )
    assert sum(usual.values()) > 0
    assert f"found: {sum(found.values())} found" in capsys.readouterr().out
    half = sum(row["found"]["count"] for row in rows if row["times"] == 0.5)
    total = sum(usual.values())
    good = all(abs(one - total) <= 0.05 * total for one in (half, sum(found.values())))
    assert code == (0 if good else 1)


def test_a_model_that_finds_none(sizes: ModuleType, cells: Path, tiny_model: Path) -> None:
    with pytest.raises(Exception, match="does not find sizes"):
        sizes._finder(str(tiny_model))
