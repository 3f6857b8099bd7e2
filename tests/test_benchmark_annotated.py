"""The benchmark of reading, checking and evaluating, on a few squares."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from drawing import squares, write_coco_file

from halfpixel.data.formats.coco import read_coco

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("annotated")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    places = [(x, y) for x in (1, 8, 15, 22) for y in (1, 8, 15)]
    return write_coco_file(tmp_path, [squares(*places), squares(*places[3:]), squares()])


def test_predictions_are_near_the_annotations_but_for_some(annotated: ModuleType, data: Path) -> None:
    sample = read_coco(data).samples[0]
    found = [annotated.predicted(sample, np.random.default_rng(seed)) for seed in range(30)]
    assert {len(one) for one in found} > {11, 12, 13}
    for one in found:
        assert (one.scores.diff() <= 0).all()
        assert one.masks.areas_px().min() > 0
    again = annotated.predicted(sample, np.random.default_rng(7))
    assert again.masks.rles() == found[7].masks.rles()


def test_a_round_does_everything(annotated: ModuleType, data: Path) -> None:
    rows = annotated.once(data)
    assert set(rows) == {annotated.READ, annotated.CHECK, annotated.EVALUATE, annotated.WITH_AP}
    assert all(row["seconds"] > 0 for row in rows.values())
    assert rows[annotated.READ]["result"][1][3] == [0, 1] * 4 + [0]
    assert rows[annotated.CHECK]["result"][0]["summary"]["n_objects"] == 21
    without, with_ap = (rows[task]["result"] for task in (annotated.EVALUATE, annotated.WITH_AP))
    assert without["overall"]["n_objects"] == 21
    assert without["mask_ap"]["intervals"] == {}
    assert annotated.alike(without["overall"]["detection"], with_ap["overall"]["detection"])
    assert not annotated.alike(without, with_ap)


def test_versions_take_turns_and_are_compared(annotated: ModuleType) -> None:
    asked = []

    def run(version: Path) -> dict[str, dict[str, object]]:
        asked.append(version.name)
        seconds = {"new": 1.0, "old": 4.0}[version.name]
        results = {annotated.CHECK: version.name, annotated.EVALUATE: [seconds * 1e-14 + 0.5]}
        tasks = (annotated.READ, annotated.CHECK, annotated.EVALUATE, annotated.WITH_AP)
        return {task: {"seconds": seconds, "result": results.get(task)} for task in tasks}

    rows = annotated.interleaved_runs(run, [Path("new"), Path("old")], 3)
    assert asked == ["new", "old", "old", "new", "new", "old"]
    assert [row["same"] for row in rows] == [True, False, True, True]
    assert all(row["ratio"] == [4.0] * 3 for row in rows)
    assert annotated.misses(rows) == [f"{annotated.CHECK}: results differ"]
    assert annotated.table(rows).row_count == 4
    (alone,) = {len(row) for row in annotated.interleaved_runs(run, [Path("new")], 1)}
    assert alone == 3


def test_what_is_too_slow_is_named(annotated: ModuleType) -> None:
    row = {"task": annotated.CHECK, "seconds": [9.0, 3.5, 3.5], "same": True}
    assert annotated.misses([row]) == ["data check: 3.50 s, and should take at most 3.0"]
    assert annotated.misses([row | {"task": annotated.READ}]) == []
