"""Going over files while others of them are read and looked at: order, failures and planes stay what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from halfpixel import load
from halfpixel.data.images.picture import Reading
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ModelFileError
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Event, Failure, Progress
from halfpixel.jobs.runner import Runner, image_warnings, notes_of
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, Limits

Noise = Callable[..., Path]


@pytest.fixture(autouse=True)
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def files(tmp_path: Path, noise: Noise) -> list[Path]:
    """Two images, a broken one, a stack of four planes, and one more image."""
    (tmp_path / "c.png").write_bytes(b"no image")
    planes = np.random.default_rng(1).integers(0, 200, (4, 30, 34), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "d.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    pngs = [noise(tmp_path / f"{name}.png", (30 + k, 40), seed=k) for k, name in enumerate("abe")]
    return [pngs[0], pngs[1], tmp_path / "c.png", tmp_path / "d.tif", pngs[2]]


ALL_PLANES = Reading(planes="all")


def predicted(runner: Runner, predictor: Predictor, files: list[Path], **how: Any) -> list[tuple[str, str]]:
    seen = []
    for picture, objects in runner.predict(predictor, files, DetectionLimits(0.3, 5), **how):
        assert objects.size_hw == picture.rgb.shape[:2]
        assert 0 < len(objects) <= 5
        seen.append((picture.path.name, picture.plane))
    return seen


ALL = [("a.png", ""), ("b.png", ""), *(("d.tif", f"z00{k}") for k in (1, 2, 3, 4)), ("e.png", "")]


@pytest.mark.parametrize("in_parallel", [True, False, None])
def test_in_order_with_what_is_broken_left_out(
    files: list[Path], tiny_model: Path, capsys: pytest.CaptureFixture[str], in_parallel: bool | None
) -> None:
    told: list[Event] = []
    runner, predictor = Runner(told.append, ALL_PLANES), load(tiny_model)
    found = predicted(runner, predictor, files, in_parallel=in_parallel)
    assert found == ALL
    outcome = runner.outcome()
    assert [Path(one).name.partition("#")[0] for one in outcome.images] == [name for name, _ in ALL]
    assert [Path(one.path).name for one in outcome.failures] == ["c.png"]
    assert [event for event in told if isinstance(event, Failure)] == list(outcome.failures)
    assert outcome.exit_code == 1
    assert capsys.readouterr() == ("", "")


def test_progress_is_told(files: list[Path], tiny_model: Path) -> None:
    told: list[Event] = []
    predicted(Runner(told.append), load(tiny_model), files)
    done = [event.done for event in told if isinstance(event, Progress)]
    assert done == [0, 0, 1, 2, 3, 4, 5]
    assert {event.total for event in told if isinstance(event, Progress)} == {5}


def test_what_is_skipped_is_not_looked_at(files: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    real = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, image, **how: looked_at.append(image.shape) or real(self, image, **how)
    )
    found = predicted(
        Runner(reading=ALL_PLANES),
        load(tiny_model),
        files,
        skip=lambda path, plane: path.name == "a.png" or plane in ("z002", "z003"),
    )
    assert found == [one for one in ALL if one[0] != "a.png" and one[1] not in ("z002", "z003")]
    assert len(looked_at) == len(found)


def test_after_a_plane_that_failed_the_rest_of_its_file_is_left_out(
    files: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = np.array(tifffile.imread(files[3])[1])
    real = Predictor.predict

    def full(self: Predictor, image: Any, **how: Any) -> Any:
        if np.array_equal(image[..., 0], second):
            raise MemoryError
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", full)
    runner = Runner(reading=ALL_PLANES)
    found = predicted(runner, load(tiny_model), files)
    assert found == [one for one in ALL if one[1] in ("", "z001")]
    assert runner.failures[str(files[3])].error == f"{files[3]}: too large for the memory"


def test_only_the_first_planes(files: list[Path], tiny_model: Path) -> None:
    runner = Runner()
    assert predicted(runner, load(tiny_model), files) == [(name, "") for name in ("a.png", "b.png", "d.tif", "e.png")]
    assert runner.notes[str(files[3])].frames == 4
    assert runner.notes[str(files[0])].saturated


def test_what_surprises_in_a_picture_is_told(tmp_path: Path, tiny_model: Path) -> None:
    runner, predictor = Runner(), load(tiny_model)
    array = np.random.default_rng(2).normal(100, 9, (30, 40)).astype(np.float32)
    for name, n in (("a", 3), ("b", 5), ("c", 0)):
        array[:n] = np.nan
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
        array[:] = 100 + np.arange(40)
    found = [
        json.loads(json.dumps(runner.facts(picture, objects)))
        for picture, objects in runner.predict(predictor, sorted(tmp_path.glob("*.tif")), DetectionLimits(0.3, 5))
    ]
    (warning,) = (text for text in image_warnings(notes_of(found), limit=5) if "data" in text)
    assert warning.startswith(
        f"2 images ({tmp_path / 'a.tif'}: 120 of 1,200 pixels, {tmp_path / 'b.tif'}: 200 of 1,200 pixels): pixels "
        "without data"
    )


def test_a_network_that_fails_at_an_image_names_it(files: list[Path], tiny_model: Path) -> None:
    predictor = load(tiny_model)
    runner, run = Runner(), predictor.backend.run

    def overflowing(batch: ImageBatch, limits: Limits) -> Outputs:
        return {name: one * torch.inf if one.is_floating_point() else one for name, one in run(batch, limits).items()}

    predictor.backend.run = overflowing  # type: ignore[method-assign]
    with pytest.raises(ModelFileError, match=r"b\.png: the network computed numbers that are not finite"):
        list(runner.predict(predictor, files[1:2], DetectionLimits(0.3, 5), in_parallel=False))
