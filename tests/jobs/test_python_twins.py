"""What the verbs print, their twins in Python give back, and print nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import halfpixel
from halfpixel.errors import ArgumentError
from halfpixel.jobs.events import Event, Failure, Progress, Warned

Noise = Callable[..., Path]


@pytest.fixture(autouse=True)
def silent(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def images(tmp_path: Path, noise: Noise) -> Path:
    for k in range(2):
        noise(tmp_path / "in" / f"{k}.png", seed=k)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    return tmp_path / "in"


def test_counts_come_back_with_what_failed(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    table = tmp_path / "counts.csv"
    counted = halfpixel.count(images, model=tiny_model, limit=3, csv=table, tell=told.append)
    assert [Path(one.image).name for one in counted.images] == ["0.png", "1.png"]
    assert all(0 < one.counts["nucleus"] <= 3 for one in counted.images)
    assert counted.total == {"nucleus": sum(one.counts["nucleus"] for one in counted.images)}
    assert counted.limits is not None
    assert (counted.limits.threshold, counted.limits.limit) == (0.3, 3)
    assert counted.outcome.exit_code == 1
    assert [Path(one.path).name for one in counted.outcome.failures] == ["broken.png"]
    assert [one for one in told if isinstance(one, Failure)] == list(counted.outcome.failures)
    assert any("the detection limit (3) cut objects off on 2 images" in one for one in counted.outcome.warnings)
    assert not any(isinstance(one, Warned) for one in told)  # what is said of the results waits for them
    assert [one.done for one in told if isinstance(one, Progress)][-1] == 3
    assert table.read_bytes() == counted.csv_bytes()
    assert json.loads(json.dumps(counted.to_json()))["total"] == counted.total


def test_nothing_to_count(images: Path, tmp_path: Path) -> None:
    counted = halfpixel.count([images / "broken.png", "", tmp_path / "nowhere"])
    assert (counted.images, counted.limits, counted.outcome.exit_code) == ((), None, 2)
    assert [Path(one.path).name for one in counted.outcome.failures] == ["", "nowhere", "broken.png"]


def test_a_folder_of_results(images: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = halfpixel.predict_folder(images, out=tmp_path / "out", model=tiny_model, limit=4, save="coco,cutouts")
    assert [Path(one.place).name for one in done.written] == ["instances.json", "cutouts"]
    n = len(json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"])
    assert 0 < n <= 8
    assert done.counts == {"nucleus": n}
    assert done.written[1].what == f"one picture per object, {n} pictures"
    with pytest.raises(ArgumentError, match=r"instances\.json exists already"):
        halfpixel.predict_folder(images, out=tmp_path / "out", model=tiny_model)


def test_a_run_that_broke_off_goes_on(
    images: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    options = {"model": tiny_model, "limit": 4, "save": "coco"}
    with monkeypatch.context() as patch:
        patch.setattr("halfpixel.outputs.coco.open_whole", broken)
        with pytest.raises(OSError, match="No space"):
            halfpixel.predict_folder(images, out=tmp_path / "out", **options)
    monkeypatch.setattr("halfpixel.Predictor.predict", broken)  # all images are known: none is looked at again
    done = halfpixel.predict_folder(images, out=tmp_path / "out", resume=True, **options)
    assert 0 < done.counts["nucleus"] <= 8
    assert not (tmp_path / "out" / ".halfpixel-run").exists()


def test_a_sweep_is_recommended_from(annotated: Path, tiny_model: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    swept = halfpixel.sweep(annotated, out=tmp_path / "out", model=tiny_model, limit=5, tell=told.append)
    assert swept.recommended is not None
    assert swept.swept is not None
    assert swept.swept.n_images == 3
    assert swept.table.is_file()
    warned = [one.text for one in told if isinstance(one, Warned)]
    assert len(warned) == 1
    assert "there is no image 4242" in warned[0]
    assert list(swept.outcome.warnings[:1]) == warned


def test_an_evaluation_and_a_comparison_write_their_pages(annotated: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, both = tmp_path / "one", tmp_path / "two"
    measured = halfpixel.evaluate_model(annotated, out=out, model=tiny_model, limit=5, pictures=1)
    assert measured.evaluation is not None
    assert json.loads((out / "report.json").read_text())["mask_ap"] == measured.to_json()["mask_ap"]
    assert (out / "index.html").is_file()
    compared = halfpixel.compare(
        annotated, out=both, models=[tiny_model], predictions=[out / "instances.json"], limit=5, pictures=1
    )
    assert compared.comparison is not None
    assert compared.comparison.overall.contrasts["count_mae"].a == measured.evaluation.overall.count.mae
    assert {path.name for path in both.iterdir()} == {"index.html", "report.json", "a"}
    with pytest.raises(ArgumentError, match="two times in all"):
        halfpixel.compare(annotated, out=tmp_path / "three", models=[tiny_model])


def test_calibrating_and_exporting_refuse_what_contradicts(annotated: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="give one of the two"):
        halfpixel.calibrate(annotated, out=tmp_path / "a.safetensors", goal="f1", threshold=0.5)
    with pytest.raises(ArgumentError, match="`int8` is for `to` openvino only"):
        halfpixel.export(to="onnx", out=tmp_path / "a.onnx", int8=True)
