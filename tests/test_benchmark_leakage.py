"""The leakage benchmark, for a moment."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from networks import annotated

from halfpixel.structures.targets import Targets

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def leakage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("leakage")


def test_what_lies_on_others_is_counted(leakage: ModuleType) -> None:
    """A mask that has 50 of its pixels on its own object, 20 on another, 10 on none."""
    truth = torch.zeros(2, 20, 30, dtype=torch.bool)
    truth[0, 2:12, 2:12], truth[1, 2:12, 12:22] = True, True
    drawn = torch.zeros(1, 20, 30, dtype=torch.bool)
    drawn[0, 2:12, 7:14] = True
    drawn[0, 12, 2:12] = True
    nothing = leakage.Leak(torch.zeros(3), torch.zeros(3), [], 0, 0)
    leak = leakage._added(
        nothing, drawn.expand(3, 1, 20, 30), Targets.from_instances(annotated(truth, torch.zeros(2).long()))
    )
    assert leak.leaked.tolist() == [20, 20, 20]
    assert leak.drawn.tolist() == [80, 80, 80]
    assert leak.ious == pytest.approx([50 / 130])
    assert (leak.found, leak.true) == (0, 2)


def test_a_table(leakage: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--seeds", "1", "--weights", "0", "2", "--steps", "1", "--side", "64", "--batches", "1"]
    monkeypatch.setattr(sys, "argv", ["leakage.py", *given])
    leakage.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.count("%") == 3 for line in lines[2:])
