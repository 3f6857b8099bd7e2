"""How large objects are is found, wherever a model looks at images."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from calling import Halfpixel, write_noise, write_with_finder
from test_sizes_option import CALIBRATION, enough, found

import halfpixel as package
from halfpixel.engine.size_finder import SizeFinder
from halfpixel.jobs.size_options import LookedAt, SizeOptions
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.zoo.modelfile import read_info

SCALE = 20 / 32
SAID = "Looked at images at 0.62 times their size instead of 1 (found: objects of 32 px)."
LOOKED_AT = {
    "diameter": "found",
    "scale": [SCALE, SCALE],
    "usual_scale": 1,
    "found_px": pytest.approx([32, 32]),
    "not_found": 0,
}


@pytest.fixture(scope="module")
def finding(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finds that all objects have 32 pixels, and knows those of 10 to 20."""
    return write_with_finder(tmp_path_factory.mktemp("finds") / "f.safetensors", tiny_model, 12)


def test_a_count(halfpixel: Halfpixel, finding: Path, tmp_path: Path) -> None:
    image = write_noise(tmp_path / "a.png")
    assert SAID in halfpixel("count", image, "--model", finding).out
    content = json.loads(halfpixel("count", image, "--model", finding, "--json").out)
    assert content["looked_at"] == LOOKED_AT
    assert content["images"][0]["scale"] == SCALE
    assert content["images"][0]["found_diameter_px"] == pytest.approx(32)
    assert sum(content["total"].values()) == found(package.load(finding), image) > 0


@pytest.mark.parametrize("words", [("--diameter", "model"), ("--diameter", "15"), ("--scale", "1")], ids=str)
def test_a_given_size_goes_before(halfpixel: Halfpixel, finding: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    image = write_noise(tmp_path / "a.png")
    ran = halfpixel("count", image, "--model", finding, "--json", *words)
    assert "found" not in ran.out
    expected = found(package.load(finding).without_size_finder(), image)
    assert sum(json.loads(ran.out)["total"].values()) == expected


def test_what_is_right_stays_and_is_said(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    image = write_noise(tmp_path / "a.png")
    model = write_with_finder(tmp_path / "f.safetensors", tiny_model, 12, diameters=TrainedDiameters(30.0, 20.0, 40.0))
    ran = halfpixel("count", image, "--model", model)
    assert "Looked at images at 1 times their size, as is usual (found: objects of 32 px)." in ran.out
    found_one = json.loads(halfpixel("count", image, "--model", model, "--json").out)
    as_model = json.loads(halfpixel("count", image, "--model", model, "--json", "--diameter", "model").out)
    assert found_one["total"] == as_model["total"]


def test_annotated_images(halfpixel: Halfpixel, finding: Path, annotated: Path, tmp_path: Path) -> None:
    model = ("--model", finding)
    ran = halfpixel("evaluate", annotated, *model, "--out", tmp_path / "e", "--json", "--pictures", 0)
    assert json.loads(ran.out)["looked_at"] == LOOKED_AT
    assert "found: objects of 32 px" in (tmp_path / "e" / "index.html").read_text()
    assert SAID in halfpixel("sweep", annotated, *model, "--out", tmp_path / "s").out
    ran = halfpixel("compare", annotated, *model, *model, "--out", tmp_path / "c", "--pictures", 0)
    assert f"A: {SAID}" in ran.out


def test_the_folder_of_predictions_says_it(halfpixel: Halfpixel, finding: Path, tmp_path: Path) -> None:
    image, out = write_noise(tmp_path / "a.png"), tmp_path / "out"
    assert SAID in halfpixel("predict", image, "--model", finding, "--out", out, "--save", "coco").out
    entry = json.loads((out / "instances.json").read_bytes())["images"][0]
    assert (entry["scale"], entry["found_diameter_px"]) == (SCALE, pytest.approx(32))


def test_intervals_are_for_the_size_that_they_were_made_at(
    halfpixel: Halfpixel, finding: Path, annotated: Path, tiny_model: Path, tmp_path: Path
) -> None:
    image, all_of_them = write_noise(tmp_path / "a.png"), ("--limit", 100_000)
    usual = write_with_finder(tmp_path / "usual.safetensors", tiny_model, 12, calibration=CALIBRATION)
    ran = halfpixel("count", image, "--model", usual, *all_of_them)
    assert "90%" not in ran.out
    assert "the model is calibrated for images at 1 times their size, not for this size" in ran.err
    assert "90%" in halfpixel("count", image, "--model", usual, *all_of_them, "--diameter", "model").out
    enough(annotated)
    out = tmp_path / "calibrated.safetensors"
    words = ("--level", "0.5", "--threshold", "0.3", "--out", out)
    assert SAID in halfpixel("calibrate", annotated, "--model", finding, *words).out
    info = read_info(out)
    assert info.calibration is not None
    assert info.calibration.scales == (SCALE, SCALE)
    assert package.load(out).size_finder is not None
    assert "50%" in halfpixel("count", image, "--model", out, *all_of_them).out


def write_stack(path: Path, planes: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (planes, 40, 48), dtype=np.uint8)
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "ZYX"})
    return path


def test_once_a_stack(halfpixel: Halfpixel, finding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its middle plane, whatever of it is looked at."""
    shown = []

    def diameter_px(self: SizeFinder, pixels: np.ndarray) -> float:
        shown.append(pixels.copy())
        return 40.0

    monkeypatch.setattr(SizeFinder, "diameter_px", diameter_px)
    stack, other = write_stack(tmp_path / "a.ome.tif", 3), write_stack(tmp_path / "b.ome.tif", 4)
    ran = halfpixel("count", stack, other, "--model", finding, "--planes", "all", "--json")
    assert [one["scale"] for one in json.loads(ran.out)["images"]] == [0.5] * 7
    for pixels, path, middle in zip(shown, (stack, other), (1, 2), strict=True):
        assert np.array_equal(pixels[..., 0], tifffile.imread(path)[middle])


def test_micrometres_before_pixels(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    sizes = TrainedDiameters(15.0, 10.0, 20.0, 0.25)
    model = write_with_finder(tmp_path / "f.safetensors", tiny_model, 12, diameters=sizes)
    image = write_noise(tmp_path / "a.png")
    ran = halfpixel("count", image, "--model", model, "--pixel-size-um", "0.5")
    assert "Looked at images at 2 times their size instead of 1 (by the size of the pixels)." in ran.out
    assert SAID in halfpixel("count", image, "--model", model).out


def test_a_run_that_is_resumed_finds_sizes_as_before() -> None:
    assert SizeOptions().for_resuming() == {"diameter": "found", "scale": None}
    assert SizeOptions().for_resuming() != SizeOptions(diameter="model").for_resuming()


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ([(3.0, 12.0), (0.8, 94.4)], "at 0.8 to 3 times their size instead of 3 (found: objects of 12 to 94.4 px)"),
        (
            [(3.0, 12.0), (3.0, None)],
            "at 3 times their size, as is usual (found: objects of 12 px; in 1 image too few objects to tell their "
            "size)",
        ),
        ([(3.0, None)] * 2, "at 3 times their size, as is usual (in 2 images too few objects to tell their size)"),
    ],
    ids=str,
)
def test_in_words(chosen: list[tuple[float | None, float | None]], text: str) -> None:
    assert str(LookedAt.of(SizeOptions(), chosen, 3.0)) == text
