"""What a run leaves in its folder."""

import csv
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import fresh, write_dataset

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import MissingDependencyError
from halfpixel.train import run_log
from halfpixel.train.run_log import Event, RunLog, tensorboard_writer
from halfpixel.train.state import Progress
from halfpixel.zoo.modelfile import load_model, read_info

CPU = torch.device("cpu")


class Writer:
    """Stands for TensorBoard's."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.written: list[tuple[str, float, int]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.written.append((name, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


@pytest.fixture
def start() -> Predictor:
    return fresh()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log_in(out: Path, start: Predictor, last_step: int = 0, **given: Any) -> RunLog:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"val": None, "report": None, "writer": None} | given
    return RunLog(out, start.info, settings["val"], last_step, settings["report"], settings["writer"])


def test_each_step_is_a_row_and_an_event(tmp_path: Path, start: Predictor) -> None:
    heard: list[Event] = []
    log = log_in(tmp_path / "run", start, report=heard.append)
    log.step(1, {"mask": 0.5, "total": 1.25})
    log.step(2, {"mask": 1 / 3, "total": math.nan})
    assert rows(tmp_path / "run" / "log.csv") == [
        {"step": "1", "mask": "0.5", "total": "1.25"},
        {"step": "2", "mask": "0.333333", "total": "nan"},
    ]
    assert [(event.step, event.kind, event.values["mask"]) for event in heard] == [(1, "step", 0.5), (2, "step", 1 / 3)]
    assert not (tmp_path / "run" / "validation.csv").exists()


def test_what_a_killed_run_wrote_after_its_checkpoint_is_cut_off(tmp_path: Path, start: Predictor) -> None:
    log = log_in(tmp_path / "run", start)
    for step in (1, 2, 3):
        log.step(step, {"total": float(step)})
    with (tmp_path / "run" / "log.csv").open("a") as file:
        file.write("4,")  # half a row
    again = log_in(tmp_path / "run", start, last_step=2)
    again.step(3, {"total": 30.0})
    assert [(row["step"], row["total"]) for row in rows(tmp_path / "run" / "log.csv")] == [
        ("1", "1"),
        ("2", "2"),
        ("3", "30"),
    ]


def test_the_model_file_tells_what_was_measured(tmp_path: Path, start: Predictor) -> None:
    log = log_in(tmp_path / "run", start)
    log.save(start.model, {"mask_ap": 0.5})
    network, info = load_model(tmp_path / "run" / "model.safetensors")
    assert info.measured == {"mask_ap": 0.5}
    assert (info.variant, info.class_names, info.input) == (start.info.variant, start.class_names, start.info.input)
    for name, tensor in start.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_validations(tmp_path: Path, start: Predictor, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better one replaces the model file, an equal or worse one counts as stale, an undefined one is kept."""
    real, aps = run_log.summary, iter([0.25, 0.25, 0.5, math.nan])
    monkeypatch.setattr(run_log, "summary", lambda evaluation: real(evaluation) | {"mask_ap": next(aps)})
    heard: list[Event] = []
    out = tmp_path / "run"
    log = log_in(out, start, val=dataset, report=heard.append)
    progress, biases, seen = Progress(), [], []
    for step in (2, 4, 6, 8):
        with torch.no_grad():
            start.model.mask_head.logits.bias.fill_(step)
        progress = log.validate(start.model, Progress(step, 0, progress.best_ap, progress.stale), CPU)
        seen.append((progress.step, progress.validated, progress.best_ap, progress.stale))
        biases.append(load_model(out / "model.safetensors")[0].mask_head.logits.bias.detach()[0].item())
    assert seen == [(2, 2, 0.25, 0), (4, 4, 0.25, 1), (6, 6, 0.5, 0), (8, 8, 0.5, 0)]
    assert biases == [2.0, 2.0, 6.0, 8.0]
    assert [(event.step, event.kind) for event in heard[:2]] == [(2, "validating"), (2, "validation")]
    assert [row["mask_ap"] for row in rows(out / "validation.csv")] == ["0.25", "0.25", "0.5", "nan"]
    assert read_info(out / "model.safetensors").measured["n_images"] == 3
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [f"step-{k:06}.png" for k in (2, 4, 6, 8)]


def test_a_run_of_an_earlier_version_goes_on_in_its_own_columns(
    tmp_path: Path, start: Predictor, dataset: Dataset
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "validation.csv").write_text("step,mask_ap,box_ap,quality_50,count_mae,count_bias\n2,0.1,0.2,0.3,4,5\n")
    heard: list[Event] = []
    log = log_in(out, start, last_step=2, val=dataset, report=heard.append)
    log.validate(start.model, Progress(4), CPU)
    before, after = rows(out / "validation.csv")
    assert (list(before), before["quality_50"], before["count_bias"]) == (list(after), "0.3", "5")
    told = heard[-1].values
    assert float(after["quality_50"]) == pytest.approx(told["accuracy_50"], rel=1e-5)
    assert float(after["count_bias"]) == pytest.approx(told["count_bias"], rel=1e-5)
    log.step(4, {"total": 1.0})
    log.draw()  # needs the accuracy of both


def test_curves_are_drawn_from_what_is_there(tmp_path: Path, start: Predictor) -> None:
    log = log_in(tmp_path / "run", start)
    log.draw()
    log.step(1, {"mask": 0.5, "total": 1.25})
    log.draw()
    assert read_image(tmp_path / "run" / "curves.png").shape[1] > 500


@pytest.mark.parametrize(("last_step", "purged"), [(0, None), (7, 8)])
def test_tensorboard_hears_of_every_number(
    tmp_path: Path, start: Predictor, last_step: int, purged: int | None
) -> None:
    log = log_in(tmp_path / "run", start, last_step, writer=Writer)
    assert isinstance(log.events, Writer)
    assert (log.events.folder, log.events.purge_step) == (tmp_path / "run" / "tensorboard", purged)
    log.step(last_step + 1, {"mask": 0.5, "total": 1.25})
    assert log.events.written == [("train/mask", 0.5, last_step + 1), ("train/total", 1.25, last_step + 1)]
    log.close()
    assert log.events.closed


def test_tensorboard_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="tensorboard"):
        tensorboard_writer()
