"""`--first-pass` of predict, count and evaluate, with brightness in place of what a U-Net would say."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from calling import Halfpixel, write_noise
from PIL import Image
from torch import Tensor

from halfpixel import load
from halfpixel.cli.savings_text import explain_savings
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.prefilter import Prefilter
from halfpixel.evaluation.prefilter_savings import Savings
from halfpixel.models.unet import unet_lite
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, save_model, settings_of

SHARE = 128**2 / 256**2
"""What is looked at of `write_spot`: the 32-pixel squares with something in them and two more on each side."""


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything may be something to it."""
    return write_unet(tmp_path_factory.mktemp("unet") / "unet.safetensors", 0.0)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To this one all is background."""
    return write_unet(tmp_path_factory.mktemp("unet") / "blind.safetensors", 20.0)


def write_unet(path: Path, background: float) -> Path:
    network = unet_lite(("nucleus",))
    with torch.no_grad():
        network.logits.bias[0] = background
    save_model(path, network, ModelInfo("unet_lite", ("nucleus",), InputRules(scale=1.0), settings_of(network)))
    return path


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreground(_: Prefilter, pixels: npt.NDArray[np.uint8]) -> Tensor:
        image = torch.from_numpy(pixels.max(2)).float()[None, None]
        size_hw = tuple(side // 2 for side in pixels.shape[:2])
        return (torch.nn.functional.interpolate(image, size_hw, mode="area")[0, 0] > 0).float()

    monkeypatch.setattr(Prefilter, "foreground", foreground)


def write_spot(path: Path) -> Path:
    """A dark image with some noise near a corner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[20:60, 20:60] = np.random.default_rng(0).integers(1, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.usefixtures("bright")
def test_predict_looks_where_the_first_pass_saw_something(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, tmp_path: Path
) -> None:
    spot, full = write_spot(tmp_path / "in" / "spot.png"), write_noise(tmp_path / "in" / "noise.png")
    words = ("--model", tiny_model, "--save", "coco", "--threshold", 0.01, "--limit", 20)
    ran = halfpixel("predict", spot, full, *words, "--first-pass", unet, "--out", tmp_path / "out")
    assert ran.code == 0
    found = json.loads((tmp_path / "out" / "instances.json").read_text())
    boxes = [one["bbox"] for one in found["annotations"] if one["image_id"] == 1]
    assert boxes
    assert all(x + width <= 128 and y + height <= 128 for x, y, width, height in boxes)

    share = (128**2 + 40 * 48) / (256**2 + 40 * 48)
    assert f"First pass {unet}: the network looked at {share:.1%} of the area" in ran.out
    assert re.search(r"of the area, which (saved about [\d.]+ s of [\d.]+ s|cost about [\d.]+ s more)", ran.out)
    assert "1 of 2 images had something everywhere" in ran.out

    plain = halfpixel("predict", spot, full, *words, "--out", tmp_path / "plain")
    assert "irst pass" not in plain.out
    everywhere = json.loads((tmp_path / "plain" / "instances.json").read_text())["annotations"]
    assert any(one["bbox"][0] > 128 for one in everywhere if one["image_id"] == 1)
    boxes = [[one["bbox"] for one in of if one["image_id"] == 2] for of in (everywhere, found["annotations"])]
    assert boxes[0] == boxes[1]  # nothing changes where all is looked at


@pytest.mark.usefixtures("bright")
def test_a_resumed_count_knows_what_was_saved_before(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(2):
        write_spot(tmp_path / "in" / f"{k}.png")
    words = ("count", tmp_path / "in", "--model", tiny_model, "--limit", 20, "--csv", tmp_path / "counts.csv")
    real, calls = Predictor.predict, 0

    def breaks(self: Predictor, image: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", breaks)
    assert halfpixel(*words, "--first-pass", unet).code == 2
    other = halfpixel(*words, "--resume")
    assert other.code == 2
    assert "the interrupted run had another first pass (SHA-256)" in other.err
    ran = halfpixel(*words, "--first-pass", unet, "--resume", "--json")
    assert (ran.code, calls) == (0, 3)
    content = json.loads(ran.out)
    numbers = content["first_pass"]
    assert numbers["model"] == str(unet)
    assert (numbers["n_images"], numbers["n_everywhere"]) == (2, 0)
    assert numbers["looked_at_px"] / numbers["area_px"] == SHARE
    assert numbers["seconds"] > 0
    assert numbers["seconds_saved"] is not None


def test_an_image_with_something_everywhere_and_one_with_nothing(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, blind: Path, tmp_path: Path
) -> None:
    words = ("count", write_noise(tmp_path / "noise.png"), "--model", tiny_model, "--threshold", 0.01, "--first-pass")
    ran = halfpixel(*words, unet)
    assert f"First pass {unet}: something everywhere on 1 image; the network looked at all" in ran.out
    ran = halfpixel(*words, blind)
    assert "0 objects on 1 image" in ran.out
    assert "looked at 0.0% of the area; how much time that saved is not known." in ran.out
    assert json.loads(halfpixel(*words, blind, "--json").out)["first_pass"]["seconds_saved"] is None


@pytest.mark.parametrize(
    ("seconds", "saved", "said"),
    [
        (2.0, 6.0, "looked at 25.0% of the area, which saved about 6.0 s of 8.0 s.\n"),
        (60.0, 540.0, "which saved about 9.0 min of 10.0 min.\n"),
        (3.0, -0.5, "which cost about 0.5 s more than it saved.\n"),
    ],
)
def test_how_time_is_told(seconds: float, saved: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain_savings("some", Savings(3, 0, 4_000, 1_000, seconds, saved))
    assert capsys.readouterr().out.endswith(said)


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    """Two objects on an image, of which one cannot be seen."""
    write_spot(tmp_path / "data" / "images" / "spot.png")
    squares = [
        {
            "id": k, "image_id": 1, "category_id": 1, "area": 1600, "bbox": [x, 20, 40, 40],
            "segmentation": [[x, 20, x + 40, 20, x + 40, 60, x, 60]],
        }
        for k, x in enumerate((20, 200), start=1)
    ]  # fmt: skip
    image = {"id": 1, "file_name": "spot.png", "width": 256, "height": 256}
    content = {"images": [image], "annotations": squares, "categories": [{"id": 1, "name": "nucleus"}]}
    path = tmp_path / "data" / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.usefixtures("bright")
def test_evaluate_states_the_objects_that_were_lost(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, spots: Path, tmp_path: Path
) -> None:
    words = ("evaluate", spots, "--model", tiny_model, "--limit", 20, "--pictures", 0, "--out")
    ran = halfpixel(*words, tmp_path / "out", "--first-pass", unet)
    assert ran.code == 0
    assert f"First pass {unet}: the network looked at {SHARE:.1%} of the area" in ran.out
    assert "Objects lost: 1 of 2 annotated objects lie" in ran.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["about"]["first pass"] == str(unet)
    assert (report["prefilter"]["lost"], report["prefilter"]["n_objects"]) == (1, 2)
    assert report["prefilter"]["savings"]["looked_at_px"] == 128**2
    assert "lost: annotated objects" in report["definitions"]["prefilter"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"look at {SHARE:.1%} of the pixels. 1 of 2 annotated objects" in page

    plain = json.loads(halfpixel(*words, tmp_path / "plain", "--json").out)
    assert plain["prefilter"] is None
    assert "first_pass" not in plain
    assert "prefilter" not in plain["definitions"]


def test_evaluate_where_nothing_was_spared(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, annotated: Path, tmp_path: Path
) -> None:
    words = (
        "evaluate",
        annotated,
        "--model",
        tiny_model,
        "--first-pass",
        unet,
        "--limit",
        20,
        "--pictures",
        0,
        "--out",
    )
    ran = halfpixel(*words, tmp_path / "out")
    assert "something everywhere on 3 images" in ran.out
    assert "Objects lost" not in ran.out
    again = json.loads(halfpixel(*words, tmp_path / "again", "--json").out)
    assert (again["prefilter"], again["first_pass"]) == (None, str(unet))


def test_models_that_do_not_go_together(
    halfpixel: Halfpixel, tiny_model: Path, unet: Path, annotated: Path, tmp_path: Path
) -> None:
    fitted = load(tiny_model)
    fitted.info = replace(fitted.info, input=InputRules())
    fitted.save(tmp_path / "fitted.safetensors")
    image = annotated.parent / "images" / "1.png"
    out = ("--out", tmp_path / "out")
    for words, message in (
        (("count", image, "--model", tiny_model, "--first-pass", tiny_model), "says what every pixel shows, not a"),
        (("count", image, "--model", tmp_path / "fitted.safetensors", "--first-pass", unet), "trained with a scale"),
        (("predict", image, "--model", tiny_model, "--first-pass", "nowhere", *out), "nowhere"),
        (("evaluate", annotated, "--predictions", annotated, "--first-pass", unet, *out), "a file needs no model"),
    ):
        ran = halfpixel(*words)
        assert (ran.code, ran.out) == (2, "")
        assert "--first-pass" in ran.err or "nowhere" in ran.err
        assert message in ran.err
        assert ran.err.splitlines()[-1].startswith("halfpixel: error: ")
    assert not (tmp_path / "out").exists()
