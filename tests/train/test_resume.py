"""A run that was interrupted ends as if it had not been, to the last bit."""

import dataclasses
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_loop import RECIPE, fresh, write_dataset

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, HalfpixelError, ModelFileError
from halfpixel.train import state
from halfpixel.train.loop import fit
from halfpixel.train.recipe import Recipe
from halfpixel.train.run_log import Event

LONGER = dataclasses.replace(RECIPE, steps=6, checkpoint_every=2, validate_every=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_coco(write_dataset(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def uninterrupted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    fit(fresh(), dataset, LONGER, out, val=dataset)
    return out


@pytest.fixture
def whole(uninterrupted: Path, tmp_path: Path) -> Path:
    """A copy of the uninterrupted run."""
    return Path(shutil.copytree(uninterrupted, tmp_path / "whole"))


def assert_same_run(run: Path, whole: Path) -> None:
    for name in ("recipe.json", "log.csv", "validation.csv"):
        assert (run / name).read_text() == (whole / name).read_text(), name
    for name in ("last.safetensors", "model.safetensors"):
        one, other = load_file(run / name), load_file(whole / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.parametrize(("step", "kind"), [(1, "step"), (3, "step"), (3, "validating"), (5, "step")])
def test_a_run_that_broke_off(dataset: Dataset, whole: Path, tmp_path: Path, step: int, kind: str) -> None:
    def lightning(event: Event) -> None:
        if (event.step, event.kind) == (step, kind):
            raise RuntimeError("lightning")

    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="lightning"):
        fit(fresh(), dataset, LONGER, out, val=dataset, report=lightning)
    heard: list[Event] = []
    fit(fresh(), dataset, LONGER, out, val=dataset, report=heard.append, resume=True)
    # a checkpoint at every second step, and before and after validations
    assert heard[0].step == {(1, "step"): 1, (3, "step"): 3, (3, "validating"): 3, (5, "step"): 5}[step, kind]
    assert_same_run(out, whole)


@pytest.mark.alone
def test_ctrl_c_saves_the_step_under_way(dataset: Dataset, whole: Path, tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if event.step == 3 and event.kind == "step":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"step 4.*saved"):
        fit(fresh(), dataset, LONGER, tmp_path / "run", val=dataset, report=press)
    heard: list[Event] = []
    fit(fresh(), dataset, LONGER, tmp_path / "run", val=dataset, report=heard.append, resume=True)
    assert heard[0].step == 5
    assert_same_run(tmp_path / "run", whole)


def test_other_weights_at_the_start_do_not_matter(dataset: Dataset, whole: Path) -> None:
    """What was trained comes from the checkpoint: resuming a finished run changes nothing."""
    before = {path: path.read_bytes() for path in whole.iterdir() if path.suffix == ".safetensors"}
    start = fresh()
    torch.nn.init.normal_(start.model.rpn.objectness.weight)
    heard: list[Event] = []
    fit(start, dataset, LONGER, whole, val=dataset, report=heard.append, resume=True)
    assert heard == []
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_goes_on_as_it_was_begun(dataset: Dataset, whole: Path) -> None:
    start = fresh()
    info = start.info
    fewer = dataclasses.replace(dataset, samples=dataset.samples[:2])
    larger = dataclasses.replace(info, input=dataclasses.replace(info.input, scale=3.0))
    for changed, message in (
        ((start, dataset, dataclasses.replace(LONGER, steps=9)), r"steps.*6.*9"),
        ((start, fewer, LONGER), r"other data \(images that are gone: 1, e\.g\. 2\.png\)"),
        ((Predictor(start.model, larger), dataset, LONGER), r"begun with input"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fit(*changed, whole, val=dataset, resume=True)


def test_data_that_changed_meanwhile(dataset: Dataset, whole: Path) -> None:
    first = dataset.samples[0]
    moved = dataclasses.replace(first, objects=first.objects.translate(1, 0, first.size_hw))
    relabelled = dataclasses.replace(
        first, objects=dataclasses.replace(first.objects, labels=1 - first.objects.labels.clamp(0, 1))
    )
    unannotated = dataclasses.replace(first, objects=first.objects[:0])
    crowded = dataclasses.replace(first, ignored=first.objects[:1])
    for changed in (moved, relabelled, unannotated, crowded):
        others = dataclasses.replace(dataset, samples=(changed, *dataset.samples[1:]))
        with pytest.raises(ArgumentError, match=rf"images or annotations that changed: 1, e\.g\. {first.path.name}"):
            fit(fresh(), others, LONGER, whole, val=dataset, resume=True)
    turned = dataclasses.replace(dataset, samples=dataset.samples[::-1])
    with pytest.raises(ArgumentError, match="in another order"):
        fit(fresh(), turned, LONGER, whole, val=dataset, resume=True)
    before = first.path.read_bytes()
    try:
        first.path.write_bytes(before + b"\0")
        with pytest.raises(ArgumentError, match="changed: 1"):
            fit(fresh(), dataset, LONGER, whole, val=dataset, resume=True)
    finally:
        first.path.write_bytes(before)


def test_resume_where_nothing_was_begun_starts(dataset: Dataset, whole: Path, tmp_path: Path) -> None:
    fit(fresh(), dataset, LONGER, tmp_path / "run", val=dataset, resume=True)
    assert_same_run(tmp_path / "run", whole)
    (tmp_path / "killed at once").mkdir()
    (tmp_path / "killed at once" / ".last.safetensors.7.part").write_bytes(b"half")
    (tmp_path / "killed at once" / "recipe.json").write_text("{}")
    fit(fresh(), dataset, LONGER, tmp_path / "killed at once", val=dataset, resume=True)
    assert_same_run(tmp_path / "killed at once", whole)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ArgumentError, match=r"mine.*not empty"):
        fit(fresh(), dataset, LONGER, tmp_path / "mine", resume=True)


def test_a_full_disk_leaves_the_checkpoint_before(
    dataset: Dataset, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writes = state.write_whole, 0

    def fills_up(path: Path, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == 3:
            path.with_name("half").write_bytes(data[: len(data) // 2])  # as far as it went
            path.with_name("half").unlink()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(state, "write_whole", fills_up)
        message = r"last\.safetensors.*step 3.*No space left.*before it is whole"
        with pytest.raises(HalfpixelError, match=message):
            fit(fresh(), dataset, LONGER, out, val=dataset)
    assert state.load_checkpoint(out / "last.safetensors").progress.step == 2
    fit(fresh(), dataset, LONGER, out, val=dataset, resume=True)
    assert_same_run(out, whole)


def test_a_broken_checkpoint_says_so(dataset: Dataset, whole: Path) -> None:
    file = whole / "last.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"last\.safetensors.*not a checkpoint"):
        fit(fresh(), dataset, LONGER, whole, val=dataset, resume=True)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_loop import fresh
from test_resume import KILLED
from halfpixel.data.formats.coco import read_coco
from halfpixel.train.loop import fit
data = read_coco(Path({data!r}))
fit(fresh(), data, KILLED, Path({out!r}), val=data, resume=True)
"""
KILLED = Recipe(steps=240, images_per_step=2, crop_px=64, warmup_steps=2, checkpoint_every=5, validate_every=30)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    """kill -9 at twenty random moments of one run."""
    data = write_dataset(tmp_path)

    def begin(out: Path) -> "subprocess.Popen[bytes]":
        here = str(Path(__file__).parent)
        program = PROGRAM.format(tests=here, data=str(data), out=str(out))
        path = os.pathsep.join([here, str(Path(here).parent)])
        environment = os.environ | {"PYTHONPATH": path, "HALFPIXEL_CHECK_SHAPES": "0"}
        return subprocess.Popen([sys.executable, "-c", program], env=environment)

    assert begin(tmp_path / "whole").wait() == 0
    log = tmp_path / "run" / "log.csv"
    moments, kills = random.Random(0), 0
    while kills < 20:
        process = begin(tmp_path / "run")
        rows = len(log.read_text().splitlines()) if log.is_file() else 0
        # a few steps further than the last time, and then at any moment
        target = rows + moments.randrange(12)
        while process.poll() is None and (len(log.read_text().splitlines()) if log.is_file() else 0) < target:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.3)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    assert kills == 20
    assert begin(tmp_path / "run").wait() == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
