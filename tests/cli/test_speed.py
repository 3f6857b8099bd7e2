"""`--backend`, `--precision` and `--fast` of predict, count and evaluate."""

import json
from pathlib import Path

import pytest
import torch
from calling import Halfpixel, write_noise

from halfpixel import load
from halfpixel.engine.backends.base import native_precision
from halfpixel.engine.backends.eager import TorchBackend

NATIVE = native_precision(torch.device("cpu"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_noise(tmp_path / "noise.png")


def test_the_output_says_what_ran_the_network(halfpixel: Halfpixel, tiny_model: Path, picture: Path) -> None:
    ran = halfpixel("count", picture, "--model", tiny_model)
    assert ran.code == 0
    assert f"computed with torch in {NATIVE}" in ran.out
    ran = halfpixel("count", picture, "--model", tiny_model, "--precision", "fp32", "--fast")
    assert "computed with torch in fp32 at two thirds of the size" in ran.out


def test_json_says_it_too(halfpixel: Halfpixel, tiny_model: Path, picture: Path) -> None:
    said = json.loads(halfpixel("count", picture, "--model", tiny_model, "--precision", "fp32", "--json").out)
    assert (said["backend"], said["precision"], said["fast"]) == ("torch", "fp32", False)


def test_fast_finds_what_the_model_finds_at_that_size(
    halfpixel: Halfpixel, tiny_model: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--model", tiny_model, "--precision", "fp32", "--save", "coco")
    assert halfpixel("predict", picture, "--out", out, *options, "--fast").code == 0
    scores = [one["score"] for one in json.loads((out / "instances.json").read_text())["annotations"]]
    expected = load(tiny_model, backend="torch", precision="fp32").fast().predict(picture)
    assert scores == pytest.approx(expected.scores.tolist(), abs=1e-4)
    assert len(scores) > 0
    usual = load(tiny_model, backend="torch", precision="fp32").predict(picture)
    assert len(usual) != len(expected) or not torch.allclose(usual.boxes_xyxy, expected.boxes_xyxy)


def test_a_resumed_run_must_compute_as_the_one_before(
    halfpixel: Halfpixel, tiny_model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = (
        "predict",
        picture,
        write_noise(tmp_path / "second.png", seed=1),
        "--out",
        tmp_path / "out",
        "--model",
        tiny_model,
    )
    with monkeypatch.context() as patch:
        patch.setattr("halfpixel.jobs.result_folder.ResultFolder.finish", broken)
        assert halfpixel(*command, "--precision", "fp32").code == 130
    ran = halfpixel(*command, "--resume", "--precision", "fp32", "--fast")
    assert ran.code == 2
    assert "--fast" in ran.err
    assert halfpixel(*command, "--resume", "--precision", "fp32").code == 0


@pytest.mark.parametrize("verb", ["count", "evaluate"])
def test_what_cannot_be_is_one_line(
    verb: str, halfpixel: Halfpixel, tiny_model: Path, annotated: Path, picture: Path, tmp_path: Path
) -> None:
    what = (picture,) if verb == "count" else (annotated, "--out", tmp_path / "report")
    ran = halfpixel(verb, *what, "--model", tiny_model, "--precision", "int8")
    assert ran.code == 2
    assert "torch does not run networks in int8" in ran.err
    assert "Traceback" not in ran.err


def test_predictions_of_a_file_are_not_computed(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    ran = halfpixel("evaluate", annotated, "--out", tmp_path / "r", "--predictions", annotated, "--fast")
    assert ran.code == 2
    assert "--predictions and --backend, --precision or --fast" in ran.err


def test_the_report_says_what_ran_the_network(
    halfpixel: Halfpixel, tiny_model: Path, annotated: Path, tmp_path: Path
) -> None:
    ran = halfpixel("evaluate", annotated, "--out", tmp_path / "r", "--model", tiny_model, "--precision", "fp32")
    assert ran.code == 0
    assert "torch in fp32" in (tmp_path / "r" / "index.html").read_text()


def test_fast_keeps_the_backend_and_drops_the_calibration(tiny_model: Path) -> None:
    model = load(tiny_model)
    backend = TorchBackend(model.model, model.device, "fp32")
    fast = model.on(backend).fast()
    assert fast.backend is backend
    assert fast.info.input.scale == pytest.approx(model.info.input.scale * 2 / 3)
    assert fast.info.calibration is None
