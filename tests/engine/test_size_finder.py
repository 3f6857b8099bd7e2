"""How large objects are found to be, by a network that knows, and what comes of it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import always, write_with_finder
from torch import Tensor, nn

from halfpixel.data.images.contrast import Rgb8
from halfpixel.engine import size_finder
from halfpixel.engine.export import exporter
from halfpixel.engine.load import load
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.size_finder import ChosenScale, SizeFinder
from halfpixel.nn.size_network import SizeNetwork, bin_diameters
from halfpixel.structures.diameters import SizeFinderInfo, TrainedDiameters, equivalent_diameters, typical_diameter
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.zoo.modelfile import parse_info

INFO = SizeFinderInfo(error_octaves=0.3, stretch_below=0.0)
OCTAVES = 10


class Reader(nn.Module):
    """Reads from the colours what covers a cell: red where something does, green the log2 of its diameter."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.level = -1
        self.seen: list[torch.Size] = []

    def forward(self, images: Tensor) -> Tensor:
        self.level += 1
        self.seen.append(images.shape)
        red, green = nn.functional.avg_pool2d(images, 8)[:, :2].unbind(1)
        octaves = green / red.clamp(min=1e-6) * OCTAVES + 1 - self.level
        centres = bin_diameters().log2().reshape(-1, 1, 1)
        near = (1 - 4 * (octaves[:, None] - centres).abs()).clamp(min=0)
        shares = torch.cat([1 - red[:, None] * near.sum(1, keepdim=True), red[:, None] * near], dim=1)
        return shares.clamp(min=1e-9).log()


def scene(diameters_px: list[float], size_hw: tuple[int, int], seed: int = 0) -> tuple[Rgb8, list[float]]:
    """Discs that do not overlap, and the diameters that they have as pixels."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size_hw, 3), dtype=np.uint8)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    drawn = []
    for diameter in diameters_px:
        for _ in range(200):
            b, a = rng.uniform(diameter / 2, np.array(size_hw) - diameter / 2)
            disc = (y - b) ** 2 + (x - a) ** 2 <= diameter**2 / 4
            if not picture[disc].any():
                break
        else:
            continue
        drawn.append(float(equivalent_diameters([disc.sum()])[0]))
        picture[disc] = (255, round(255 * math.log2(drawn[-1]) / OCTAVES), 0)
    return picture, drawn


def found(picture: Rgb8) -> float | None:
    network: Any = Reader()
    return SizeFinder(network, INFO).diameter_px(picture)


@pytest.mark.parametrize("diameter", [3, 5, 8, 11.5, 16, 30, 44, 80, 130])
def test_objects_of_one_size(diameter: float) -> None:
    picture, drawn = scene([diameter] * 12, (384, 512))
    diameter_px = found(picture)
    assert diameter_px is not None
    assert math.log2(diameter_px / drawn[0]) == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_of_several_sizes_the_typical_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture, drawn = scene(np.exp(rng.uniform(np.log(6), np.log(60), 40)).tolist(), (384, 512), seed)
    diameter_px, expected = found(picture), typical_diameter(drawn)
    assert diameter_px is not None
    assert expected is not None
    assert math.log2(diameter_px / expected) == pytest.approx(0, abs=0.3)


def test_a_level_says_most_of_what_is_in_the_middle_of_what_it_knows() -> None:
    octaves = np.linspace(-2, 7, 91)  # of the coarsest level's smallest diameter, and beyond
    together = sum(size_finder._weights(octaves - k, k == 0, k == 2) for k in range(3))
    assert np.allclose(together, 1)


def test_too_little_is_nothing() -> None:
    assert found(np.zeros((64, 64, 3), dtype=np.uint8)) is None
    picture, _ = scene([4], (64, 64))
    picture[picture[..., 0] > 0] //= 8
    assert found(picture) is None


def test_of_a_large_image_windows_are_looked_at() -> None:
    network: Any = Reader()
    picture = np.tile(scene([20] * 12, (160, 160))[0], (20, 12, 1))
    diameter_px = SizeFinder(network, INFO).diameter_px(picture)
    assert diameter_px == pytest.approx(20, rel=0.1)
    pixels = [math.prod(shape[-2:]) * shape[0] for shape in network.seen]
    assert max(pixels) <= size_finder.MOST_PX
    assert network.seen[0] == (15, 3, 128, 128)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 200), (5000, 9), (33, 65)])
def test_any_shape(size_hw: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    assert SizeFinder(always(12), INFO).diameter_px(picture) in (None, pytest.approx(32, rel=1e-6))


SIZES = TrainedDiameters(15.0, 10.0, 20.0)


@pytest.fixture
def predictor(tiny_model: Path, tmp_path: Path) -> Predictor:
    """Finds that all objects have 32 pixels, and knows those of 10 to 20."""
    return load(write_with_finder(tmp_path / "finds.safetensors", tiny_model, 12))


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def described(predictor: Predictor, **changes: Any) -> Predictor:
    info = replace(predictor.info, **changes)
    return Predictor(predictor.model, info, predictor.device, size_network=predictor.size_network)


def same(one: Instances, other: Instances) -> bool:
    return torch.equal(one.boxes_xyxy, other.boxes_xyxy) and torch.equal(one.scores, other.scores)


def test_large_objects_are_looked_at_smaller(predictor: Predictor) -> None:
    result = predictor.predict(PIXELS)
    assert result.scale == 20 / 32
    assert result.found_diameter_px == pytest.approx(32)
    assert same(result, predictor.at_scale(20 / 32).predict(PIXELS))
    assert [one.scale for one in predictor.predict([PIXELS, PIXELS])] == [20 / 32] * 2


def test_small_objects_are_looked_at_larger_but_not_without_end(tiny_model: Path, tmp_path: Path) -> None:
    predictor = load(write_with_finder(tmp_path / "small.safetensors", tiny_model, 0))
    result = predictor.predict(PIXELS)
    assert (result.scale, result.found_diameter_px) == (size_finder.MOST_ENLARGED, pytest.approx(2))
    near = described(predictor, diameters=TrainedDiameters(5.0, 4.0, 20.0))
    assert near.predict(PIXELS).scale == pytest.approx(2)


def test_what_is_right_stays_as_it_is(predictor: Predictor) -> None:
    wide = described(predictor, diameters=TrainedDiameters(25.0, 20.0, 28.0))  # 32 is not outside for sure
    result, usual = wide.predict(PIXELS), wide.without_size_finder().predict(PIXELS)
    assert (result.scale, result.found_diameter_px) == (1, pytest.approx(32))
    assert (usual.scale, usual.found_diameter_px) == (1, None)
    assert same(result, usual)
    exact = described(wide, size_finder=SizeFinderInfo(0.0))
    assert exact.predict(PIXELS).scale == 28 / 32


def test_a_given_size_is_not_looked_for(predictor: Predictor) -> None:
    for one in (predictor.at_scale(2), predictor.for_diameter(15), predictor.for_diameter(5)):
        assert one.size_finder is None
        assert one.predict(PIXELS).found_diameter_px is None
    assert predictor.for_diameter(15).predict(PIXELS).scale == 1


def test_nothing_found_changes_nothing(predictor: Predictor) -> None:
    assert predictor.size_network is not None
    nn.init.zeros_(predictor.size_network.logits.bias)
    with torch.no_grad():
        predictor.size_network.logits.bias[0] = 100
    result = predictor.predict(PIXELS)
    assert (result.scale, result.found_diameter_px) == (1, None)
    assert same(result, predictor.without_size_finder().predict(PIXELS))


def test_a_model_that_brings_images_to_one_size(predictor: Predictor) -> None:
    fitting = described(predictor, input=InputRules(shortest_side=20))
    assert fitting.choose_scale(PIXELS) == ChosenScale(None, pytest.approx(32))  # 16 pixels of the network's input
    small = described(predictor, input=InputRules(shortest_side=80))
    assert small.choose_scale(PIXELS).scale == 20 / 32
    fixed = described(predictor, input=InputRules(exact_hw=(64, 64)))
    assert fixed.choose_scale(PIXELS) == ChosenScale()


def test_pixels_of_known_size_decide_before_objects(predictor: Predictor) -> None:
    physical = described(predictor, diameters=replace(SIZES, network_um=0.25))
    assert physical.chooses_scale
    assert physical.choose_scale(PIXELS, 0.5) == ChosenScale(2.0)
    assert physical.choose_scale(PIXELS, 0.26) == ChosenScale()
    assert physical.choose_scale(PIXELS).diameter_px == pytest.approx(32)
    assert predictor.choose_scale(PIXELS, 0.5).diameter_px == pytest.approx(32)  # was not trained on one size
    assert physical.fast().choose_scale(PIXELS, 0.5).scale == pytest.approx(4 / 3)
    without = described(physical, size_finder=None)
    assert without.choose_scale(PIXELS, 0.5) == ChosenScale(2.0)
    assert without.choose_scale(PIXELS) == ChosenScale()


def test_it_stays_with_the_model(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "again.safetensors")
    again = load(tmp_path / "again.safetensors")
    assert again.info == predictor.info
    assert again.on(again.backend).predict(PIXELS).scale == 20 / 32
    predictor.at_scale(2).save(tmp_path / "fixed.safetensors")
    assert load(tmp_path / "fixed.safetensors").size_network is None
    other = predictor.with_classes(["seed"])
    assert (other.size_network, other.info.size_finder) == (None, None)


def test_an_exported_file_does_not_find_sizes(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: dict[str, str] = {}

    def write(graph: object, about: dict[str, str], path: Path) -> None:
        described.update(about)
        raise InterruptedError

    monkeypatch.setattr(exporter, "onnx_graph", lambda network, divisor: None)  # which takes a minute
    monkeypatch.setattr(exporter, "_write_onnx", write)
    with pytest.raises(InterruptedError):
        exporter.export(predictor, tmp_path / "m.onnx", "onnx")
    info = parse_info(described["halfpixel"], tmp_path / "m.onnx")
    assert (info.size_finder, info.diameters) == (None, SIZES)


def test_a_network_of_random_weights_finds_a_number_or_nothing() -> None:
    torch.manual_seed(0)
    diameter_px = SizeFinder(SizeNetwork().eval(), INFO).diameter_px(PIXELS)
    assert diameter_px is None or 1 < diameter_px < 100
