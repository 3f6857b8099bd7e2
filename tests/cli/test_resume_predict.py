"""A run that was interrupted ends as if it had not been, byte for byte, whatever interrupted it."""

import csv
import io
import json
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from calling import Halfpixel, write_model, write_noise

from halfpixel.cli import main
from halfpixel.engine.predictor import Predictor

Noise = Callable[..., Path]
KINDS = "coco,overlay,labels,table,cutouts,geojson,blurred"


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "in")


def write_images(folder: Path) -> Path:
    """Two images, and a stack of two planes between them."""
    for name, size_hw in (("0.png", (40, 48)), ("2.png", (30, 30))):
        write_noise(folder / name, size_hw, seed=size_hw[0])
    planes = np.random.default_rng(9).integers(0, 4000, (2, 36, 40), dtype=np.uint16)
    tifffile.imwrite(folder / "1.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    return folder


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of the images that the network sees from now on."""
    seen: list[tuple[int, ...]] = []
    real = Predictor.predict

    def watched(self: Predictor, image: Any, **how: Any) -> Any:
        seen.append(image.shape[:2])
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", watched)
    return seen


def break_off(monkeypatch: pytest.MonkeyPatch, where: str, after: int) -> Callable[[], None]:
    """From the call number `after` on, a function fails; what is returned mends it."""
    place, _, name = where.rpartition(".")
    home = pkgutil.resolve_name(place)
    real, calls = getattr(home, name), 0

    def broken(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(home, name, broken)
    return lambda: monkeypatch.setattr(home, name, real)


PREDICT = "halfpixel.engine.predictor.Predictor.predict"
ALL_PLANES = ("--limit", 6, "--save", KINDS, "--planes", "all", "--out")


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """An uninterrupted run: its files, and what it said."""
    folder = tmp_path_factory.mktemp("whole")
    images = write_images(folder / "in")
    command = ["halfpixel", "predict", images, "--model", tiny_model, *ALL_PLANES, folder / "out"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", [*map(str, command)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 0
    return content_of(folder / "out"), said.getvalue().splitlines()


@pytest.mark.parametrize(
    ("where", "after", "seen_again"),
    [
        (PREDICT, 2, None),  # at the second plane of the stack, or at what is looked at beside it
        ("halfpixel.outputs.pictures.write_with_folder", 20, None),  # among the cut-outs
        ("halfpixel.jobs.journal.write_with_folder", 3, 2),  # all files of an image are there, but not in the journal
        ("halfpixel.outputs.csv.open_whole", 0, 0),  # all images are done, what spans them is half written
    ],
)
def test_a_run_that_broke_off(
    halfpixel: Halfpixel,
    tiny_model: Path,
    images: Path,
    whole: tuple[dict[str, bytes], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    after: int,
    seen_again: int | None,
) -> None:
    command = ("predict", images, "--model", tiny_model, *ALL_PLANES, tmp_path / "out")
    mend = break_off(monkeypatch, where, after)
    assert halfpixel(*command).code == 2
    mend()
    assert (tmp_path / "out" / ".halfpixel-run" / "run.json").is_file()
    assert not (tmp_path / "out" / "objects.csv").exists()
    predicted = watch(monkeypatch)
    ran = halfpixel(*command, "--resume")
    assert ran.code == 0
    assert "the detection limit (6) cut objects off on 4 images" in ran.err  # those of before are among them
    assert 0 <= len(predicted) < 4
    assert seen_again is None or len(predicted) == seen_again
    files, said = whole
    assert ran.out.splitlines()[1] == said[1]
    assert content_of(tmp_path / "out") == files
    assert "4 images" in said[1]
    assert {"overlay/1_z001.png", "labels/1_z002.tif", "cutouts/0/0001.png", "geojson/2.geojson"} <= set(files)


KILLED = """
import os, pathlib, signal, sys
from halfpixel.cli import main
real, left = pathlib.Path.replace, int(sys.argv.pop(1))
def replace(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.replace = replace
main()
"""


def test_a_run_that_was_killed(halfpixel: Halfpixel, tiny_model: Path, images: Path, tmp_path: Path) -> None:
    """The moment before a file gets its name is the worst: a torn one lies around."""
    kinds = "coco,table,cutouts,geojson"
    arguments = [images, "--model", tiny_model, "--limit", 4, "--save", kinds, "--out"]
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, "9", "predict", *map(str, arguments), str(out)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    torn = [path for path in out.rglob(".*.part") if path.parent.name != ".halfpixel-run"]
    assert len(torn) == 1
    refused = halfpixel("predict", *arguments, out)
    assert refused.code == 2
    assert refused.err == (
        f"halfpixel: error: --out {out}: an interrupted run; --resume goes on with it, --overwrite begins anew\n"
    )
    assert halfpixel("predict", *arguments, out, "--resume").code == 0
    assert halfpixel("predict", *arguments, tmp_path / "whole").code == 0
    assert content_of(out) == content_of(tmp_path / "whole")


@pytest.fixture
def interrupted(
    halfpixel: Halfpixel, tiny_model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[object]:
    """A command that was interrupted at the third file."""
    command = [
        "predict",
        images,
        "--model",
        tiny_model,
        "--limit",
        3,
        "--save",
        "coco,table",
        "--out",
        tmp_path / "out",
    ]
    mend = break_off(monkeypatch, PREDICT, 2)
    assert halfpixel(*command).code == 2
    mend()
    return command


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--threshold", 0.35], "another --threshold (0.3 then, 0.35 now)"),
        (["--gzip"], "--gzip is for --save geojson only"),
        (["--channels", "1"], "another --channels (none then, 1 now)"),
        (["--pixel-size-um", 0.5], "another --pixel-size-um (none then, 0.5 now)"),
        (["--overwrite"], "--overwrite and --resume: give one of the two"),
    ],
)
def test_another_run_cannot_be_resumed(
    halfpixel: Halfpixel, interrupted: list[object], tmp_path: Path, changed: list[object], message: str
) -> None:
    before = content_of(tmp_path / "out")
    ran = halfpixel(*interrupted, *changed, "--resume")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert content_of(tmp_path / "out") == before


def test_other_kinds_cannot_be_resumed(halfpixel: Halfpixel, interrupted: list[object]) -> None:
    interrupted[interrupted.index("coco,table")] = "table"
    ran = halfpixel(*interrupted, "--resume")
    assert ran.code == 2
    assert "another --save (['coco', 'table'] then, ['table'] now)" in ran.err


def test_another_model_under_the_same_name(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(tiny_model.read_bytes())
    command = ["count", noise(tmp_path / "a.png"), noise(tmp_path / "b.png"), "--model", model, "--csv", tmp_path / "n"]
    mend = break_off(monkeypatch, PREDICT, 1)
    assert halfpixel(*command).code == 2
    mend()
    write_model(model, ("other",))
    ran = halfpixel(*command, "--resume")
    assert ran.code == 2
    assert "the interrupted run had another model (SHA-256)" in ran.err


def test_images_come_and_change(
    halfpixel: Halfpixel,
    interrupted: list[object],
    images: Path,
    noise: Noise,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predicted = watch(monkeypatch)
    noise(images / "0.png", (33, 44), seed=7)  # was done
    noise(images / "00.png", (22, 55), seed=8)
    assert halfpixel(*interrupted, "--resume").code == 0
    assert (36, 40) not in predicted
    assert {(33, 44), (22, 55)} <= set(predicted)
    assert halfpixel(*interrupted[:-1], tmp_path / "whole").code == 0
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def test_images_that_went_are_told(halfpixel: Halfpixel, interrupted: list[object], images: Path) -> None:
    (images / "1.tif").unlink()
    ran = halfpixel(*interrupted, "--resume")
    assert ran.code == 2
    assert "1 image of the interrupted run (1) would be missing in this one" in ran.err


def test_to_begin_anew(halfpixel: Halfpixel, interrupted: list[object], tmp_path: Path) -> None:
    assert halfpixel(*interrupted, "--overwrite", "--threshold", 0.31).code == 0
    assert halfpixel(*interrupted[:-1], tmp_path / "whole", "--threshold", 0.31).code == 0
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")


def test_a_complete_run_is_not_resumed(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    command = ["predict", noise(tmp_path / "a.png"), "--model", tiny_model, "--out", tmp_path / "out", "--resume"]
    assert halfpixel(*command).code == 0  # nothing to resume: it begins
    before = content_of(tmp_path / "out")
    ran = halfpixel(*command)
    assert ran.code == 2
    assert "instances.json exists already" in ran.err
    assert content_of(tmp_path / "out") == before


def test_ctrl_c_says_how_to_go_on(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "predict", interrupt)
    ran = halfpixel("predict", noise(tmp_path / "a.png"), "--model", tiny_model, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (130, "halfpixel: interrupted (the same command with --resume goes on)\n")


def test_a_count_that_broke_off(
    halfpixel: Halfpixel,
    tiny_model: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "counts.csv"
    command = ["count", images, "--model", tiny_model, "--planes", "all", "--density", "plain"]
    bare = halfpixel(*command)
    mend = break_off(monkeypatch, PREDICT, 2)
    assert halfpixel(*command, "--csv", table).code == 2
    mend()
    assert not table.exists()
    predicted = watch(monkeypatch)
    ran = halfpixel(*command, "--csv", table, "--resume")
    assert ran.code == 0
    assert 1 <= len(predicted) <= 2
    assert ran.out == bare.out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = ["0.png", "1.tif#z001", "1.tif#z002", "2.png"]
    assert [Path(row["image"]).name for row in rows] == labels
    assert not list(tmp_path.glob(".*"))
    content = json.loads(halfpixel(*command, "--json").out)
    assert [one["counts"]["nucleus"] for one in content["images"]] == [int(row["count"]) for row in rows]
    ran = halfpixel(*command, "--resume")
    assert (ran.code, ran.err) == (2, "halfpixel: error: --resume: only a run with --csv can be resumed\n")
