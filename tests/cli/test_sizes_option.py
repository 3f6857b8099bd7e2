"""`--diameter` and `--scale`, wherever a model looks at images."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from calling import Halfpixel, write_noise

import halfpixel as package
from halfpixel.errors import ArgumentError
from halfpixel.jobs.size_options import LookedAt, SizeOptions
from halfpixel.structures.calibration import Calibration
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.zoo.modelfile import read_info, save_described

CALIBRATION = Calibration(
    0.3, 0.05, 0.9, (0.1, 0.9), (0.2, 0.95), (0.5, 0.6), (0.1, 0.2, 0.1), (1.5, 2.5), (20, 19), None
)
"""At the threshold of the model that tests have; its scale is 1."""


@pytest.fixture(scope="module")
def sized_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows objects of 10 to 20 pixels."""
    path = tmp_path_factory.mktemp("sized") / "sized.safetensors"
    info = read_info(tiny_model)
    save_described(
        path,
        tiny_model,
        dataclasses.replace(info, diameters=TrainedDiameters(15.0, 10.0, 20.0), calibration=CALIBRATION),
    )
    return path


def write_tiff(path: Path, pixel_size_um: float) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48), dtype=np.uint8)
    metadata = {"axes": "YX", "PhysicalSizeX": pixel_size_um, "PhysicalSizeY": pixel_size_um}
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata)
    return path


def enough(annotated: Path) -> None:
    """Add images until a model can be calibrated on them."""
    content = json.loads(annotated.read_bytes())
    for k in range(4, 9):
        write_noise(annotated.parent / "images" / f"{k}.png", seed=k)
        content["images"].append({"id": k, "file_name": f"{k}.png", "width": 48, "height": 40})
        content["annotations"].append({**content["annotations"][0], "id": 1000 + k, "image_id": k})
    annotated.write_text(json.dumps(content))


def found(predictor: package.Predictor, image: Path) -> int:
    return len(predictor.predict(image))


@pytest.mark.parametrize(
    ("words", "scale", "line"),
    [
        (("--diameter", "40"), 0.5, "Looked at images at 0.5 times their size instead of 1 (objects of 40 px)."),
        (("--diameter", "2.5px"), 4.0, "Looked at images at 4 times their size instead of 1 (objects of 2.5px)."),
        (("--diameter", "15"), 1.0, "Looked at images at 1 times their size, as is usual (objects of 15 px)."),
        (("--diameter", "20um", "--pixel-size-um", "0.5"), 0.5, "instead of 1 (objects of 20um)."),
        (("--scale", "0.5"), 0.5, "Looked at images at 0.5 times their size instead of 1."),
    ],
    ids=str,
)
def test_a_count_at_another_size(
    halfpixel: Halfpixel, sized_model: Path, tmp_path: Path, words: tuple[str, ...], scale: float, line: str
) -> None:
    image = write_noise(tmp_path / "a.png")
    ran = halfpixel("count", image, "--model", sized_model, *words)
    assert ran.code == 0
    assert any(one.endswith(line) for one in ran.out.splitlines())
    content = json.loads(halfpixel("count", image, "--model", sized_model, *words, "--json").out)
    assert content["looked_at"]["scale"] == [scale, scale]
    assert content["looked_at"]["usual_scale"] == 1
    assert content["images"][0]["scale"] == scale
    expected = found(package.load(sized_model).at_scale(scale), image)
    assert sum(content["total"].values()) == expected > 0


def test_by_default_nothing_changes_and_nothing_is_said(
    halfpixel: Halfpixel, sized_model: Path, tmp_path: Path
) -> None:
    image = write_noise(tmp_path / "a.png")
    usual, as_model = (
        halfpixel("count", image, "--model", sized_model, "--json", *words) for words in ((), ("--diameter", "model"))
    )
    assert usual == as_model
    assert "scale" not in usual.out
    assert "looked_at" not in usual.out
    assert "Looked" not in halfpixel("count", image, "--model", sized_model).out


def test_micrometres_of_each_file(halfpixel: Halfpixel, sized_model: Path, tmp_path: Path) -> None:
    """A file that does not state the size of its pixels is named, with what to do; the rest go on."""
    fine, coarse = write_tiff(tmp_path / "fine.ome.tif", 0.25), write_tiff(tmp_path / "coarse.ome.tif", 1.0)
    unknown = write_noise(tmp_path / "unknown.png")
    ran = halfpixel("count", fine, coarse, unknown, "--model", sized_model, "--diameter", "10 um", "--json")
    assert ran.code == 1
    content = json.loads(ran.out)
    assert [one["scale"] for one in content["images"]] == [0.5, 1.0]
    assert content["looked_at"] == {"diameter": "10 um", "scale": [0.5, 1.0], "usual_scale": 1.0}
    assert ran.err.startswith(
        f"halfpixel: error: {unknown}: the file does not state the size of its pixels, which --diameter 10 um needs; "
        "give --diameter in pixels, or --pixel-size-um\n"
    )


def test_micrometres_beyond_all_sense(halfpixel: Halfpixel, sized_model: Path, tmp_path: Path) -> None:
    image = write_tiff(tmp_path / "a.ome.tif", 1.0)
    ran = halfpixel("count", image, "--model", sized_model, "--diameter", "0.1um")
    assert ran.code == 2
    assert "a.ome.tif: --diameter 0.1um is 0.1 pixels: the image would have to be enlarged 100 times" in ran.err


WRONG = {
    "no number": (("--diameter", "large"), "--diameter must be above 0 and like 30 (pixels) or 8um (micrometres)"),
    "none": (("--diameter", "0"), "--diameter must be above 0"),
    "a number of two": (("--diameter", "1.2.3"), "--diameter must be above 0"),
    "no length": (("--diameter", "1e999"), "--diameter must be above 0"),
    "another unit": (("--diameter", "30nm"), "got '30nm'"),
    "both": (("--diameter", "30", "--scale", "2"), "--diameter and --scale: give one of the two"),
    "too small": (("--scale", "0"), "--scale must be from 0.001 to 32, got 0"),
    "too large": (("--scale", "33"), "--scale must be from 0.001 to 32, got 33"),
    "no factor": (("--scale", "nan"), "--scale must be from 0.001 to 32, got nan"),
    "twice": (("--scale", "2", "--fast"), "--fast and --scale: both say at which size to look"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_done(halfpixel: Halfpixel, sized_model: Path, tmp_path: Path, what: str) -> None:
    words, message = WRONG[what]
    ran = halfpixel("count", write_noise(tmp_path / "a.png"), "--model", sized_model, *words)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("verb", ["count", "predict", "evaluate", "sweep", "compare", "calibrate", "bench"])
def test_a_model_that_does_not_state_its_sizes(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path, verb: str
) -> None:
    enough(annotated)
    data = annotated.parent / "images" if verb in ("count", "predict", "bench") else annotated
    out = {"calibrate": ("--out", tmp_path / "c.safetensors"), "count": (), "bench": ()}.get(
        verb, ("--out", tmp_path / "out")
    )
    twice = ("--model", tiny_model) if verb == "compare" else ()
    few = ("--level", "0.5") if verb == "calibrate" else ()
    ran = halfpixel(verb, data, "--model", tiny_model, *twice, *out, *few, "--diameter", "30")
    assert ran.code == 2
    reason = f"{tiny_model}: --diameter: the model does not state the sizes of the objects that it was trained on"
    assert reason in ran.err
    assert "(--scale)" in ran.err


def test_the_folder_of_predictions_says_it(
    halfpixel: Halfpixel, sized_model: Path, noise: Callable[..., Path], tmp_path: Path
) -> None:
    image, out = noise(tmp_path / "a.png"), tmp_path / "out"
    words = ("predict", image, "--model", sized_model, "--out", out, "--save", "coco,table")
    ran = halfpixel(*words, "--scale", "0.5")
    assert "Looked at images at 0.5 times their size instead of 1." in ran.out
    assert json.loads((out / "instances.json").read_bytes())["images"][0]["scale"] == 0.5
    assert "probability" not in (out / "objects.csv").read_text().partition("\n")[0]  # it was calibrated at another
    halfpixel(*words, "--overwrite")
    assert "scale" not in json.loads((out / "instances.json").read_bytes())["images"][0]
    assert "probability" in (out / "objects.csv").read_text().partition("\n")[0]


def test_an_interval_is_for_images_that_are_looked_at_alike(
    halfpixel: Halfpixel, sized_model: Path, tmp_path: Path
) -> None:
    image = write_noise(tmp_path / "a.png")
    for diameter, holds in (("15", True), ("40", False)):
        ran = halfpixel("count", image, "--model", sized_model, "--diameter", diameter, "--limit", 100_000)
        assert ("90%" in ran.out) == holds
        assert ("no interval for 1 image" in ran.err) != holds
    assert "the model is calibrated for images at 1 times their size, not for this size" in ran.err


def test_a_calibration_remembers_its_size(
    halfpixel: Halfpixel, sized_model: Path, annotated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "calibrated.safetensors"
    words = ("--model", sized_model, "--level", "0.5", "--threshold", "0.3", "--diameter", "40")
    enough(annotated)
    ran = halfpixel("calibrate", annotated, "--out", out, *words)
    assert ran.code == 0, ran.err
    assert "Looked at images at 0.5 times their size" in ran.out
    info = read_info(out)
    assert info.calibration is not None
    assert info.calibration.scales == (0.5, 0.5)
    assert info.input == read_info(sized_model).input
    image = write_noise(tmp_path / "a.png")
    for more, holds in (((), False), (("--scale", "0.5"), True), (("--diameter", "40"), True)):
        ran = halfpixel("count", image, "--model", out, "--limit", 100_000, *more)
        assert ("50%" in ran.out) == holds
    plain = halfpixel("count", image, "--model", out, "--limit", 100_000)
    assert "the model is calibrated for images at 0.5 times their size, not for this size" in plain.err


def test_annotated_images(halfpixel: Halfpixel, sized_model: Path, annotated: Path, tmp_path: Path) -> None:
    model, size = ("--model", sized_model), ("--diameter", "40")
    said = "Looked at images at 0.5 times their size instead of 1 (objects of 40 px)."
    expected = {"diameter": "40", "scale": [0.5, 0.5], "usual_scale": 1.0}

    ran = halfpixel("evaluate", annotated, *model, *size, "--out", tmp_path / "e", "--json", "--pictures", 0)
    assert json.loads(ran.out)["looked_at"] == expected
    assert "at 0.5 times their size" in (tmp_path / "e" / "index.html").read_text()
    ran = halfpixel("sweep", annotated, *model, *size, "--out", tmp_path / "s")
    assert said in ran.out
    ran = halfpixel("compare", annotated, *model, *model, *size, "--out", tmp_path / "c", "--pictures", 0)
    assert f"A: {said}" in ran.out
    assert f"B: {said}" in ran.out
    ran = halfpixel("compare", annotated, *model, *model, *size, "--out", tmp_path / "d", "--json", "--pictures", 0)
    assert json.loads(ran.out)["looked_at"] == {"a": expected, "b": expected}


@pytest.mark.parametrize("verb", ["evaluate", "sweep", "calibrate"])
def test_predictions_were_made_as_they_were(halfpixel: Halfpixel, annotated: Path, tmp_path: Path, verb: str) -> None:
    out = tmp_path / ("c.safetensors" if verb == "calibrate" else "out")
    ran = halfpixel(verb, annotated, "--out", out, "--predictions", annotated, "--diameter", "40")
    assert ran.code == 2
    assert "--predictions and --diameter or --scale: a file needs no model" in ran.err


def test_a_resumed_run_has_the_same_size(halfpixel: Halfpixel, sized_model: Path, tmp_path: Path) -> None:
    image, out = write_noise(tmp_path / "a.png"), tmp_path / "out"
    words = ("predict", image, "--model", sized_model, "--out", out, "--save", "coco")
    run = out / ".halfpixel-run" / "run.json"
    options = package.jobs.predict._for_resuming
    request = package.jobs.predict.PredictRequest(
        (str(image),), out, str(sized_model), save="coco", sizes=SizeOptions(diameter=40)
    )
    limits = package.jobs.detection_limits.DetectionLimits(0.3, 1000)
    run.parent.mkdir(parents=True)
    before = {"options": {"version of halfpixel": package.__version__, **options(request, ("coco",), limits, None)}}
    run.write_text(json.dumps(before | {"images": {}}))
    ran = halfpixel(*words, "--resume", "--diameter", "30")
    assert ran.code == 2
    assert "another --diameter (40 then, 30 now)" in ran.err


def test_in_python(sized_model: Path, tmp_path: Path) -> None:
    image = write_noise(tmp_path / "a.png")
    result = package.count(image, model=sized_model, sizes=SizeOptions(diameter=40))
    assert result.images[0].scale == 0.5
    assert result.outcome.looked_at == LookedAt("40", (0.5, 0.5), 1.0)
    with pytest.raises(ArgumentError, match="`diameter` and `scale`: give one of the two"):
        SizeOptions(diameter=40, scale=2.0)


@pytest.mark.parametrize(
    ("looked_at", "text"),
    [
        (LookedAt("95", (0.837, 0.837), 3.0), "at 0.84 times their size instead of 3 (objects of 95 px)"),
        (LookedAt("8um", (0.4, 3.0), 3.0), "at 0.4 to 3 times their size instead of 3 (objects of 8um)"),
        (LookedAt(None, (2.0, 2.0), None), "at 2 times their size instead of at one size for all"),
    ],
    ids=str,
)
def test_in_words(looked_at: LookedAt, text: str) -> None:
    assert str(looked_at) == text
