"""The start-up benchmark, on processes that do nothing."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("startup")


def test_every_help_and_a_cold_count_are_timed(startup: ModuleType) -> None:
    names = set(startup.commands(Path("cells.png"), Path("out")))
    assert {"halfpixel --help", "halfpixel count --help", "halfpixel data check --help"} < names
    assert {startup.TORCH, startup.PEER, startup.COUNT, startup.PREDICT} < names


def test_ratios_are_of_the_same_round(startup: ModuleType) -> None:
    sleeps = {startup.PEER: "import time; time.sleep(.05)", startup.COUNT: "import time; time.sleep(.5)"}
    commands = {name: [sys.executable, "-I", "-S", "-c", code] for name, code in sleeps.items()}
    peer, count = startup.interleaved_runs(commands, rounds=2)
    assert len(peer["wall_s"]) == len(count["processor_s"]) == 2
    assert min(count["wall_s"]) >= 0.5
    assert count["wall_ratio"] == [one / other for one, other in zip(count["wall_s"], peer["wall_s"], strict=True)]
    assert peer["wall_ratio"] == [1, 1]
    assert max(count["processor_s"]) < 0.5
    assert startup.table([peer, count]).row_count == 2


def test_what_is_too_slow_is_named(startup: ModuleType) -> None:
    def row(name: str, wall: float, ratio: float) -> dict[str, object]:
        return {"command": name, "wall_s": [wall] * 3, "wall_ratio": [ratio] * 3}

    assert startup.misses([row("halfpixel --help", 0.39, 9), row(startup.COUNT, 9, 1.9), row("x", 9, 9)]) == []
    missed = startup.misses([row("halfpixel --help", 0.41, 0), row(startup.COUNT, 0, 2.1)])
    assert [one.partition(":")[0] for one in missed] == ["halfpixel --help", startup.COUNT]


def test_a_command_that_fails_stops_everything(startup: ModuleType) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        startup.seconds([sys.executable, "-I", "-S", "-c", "raise SystemExit(2)"])
