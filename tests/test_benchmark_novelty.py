"""The novelty benchmark, on a few images."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import halfpixel
from halfpixel.data.synthetic import touching_cells
from halfpixel.outputs.synthetic_cells import write_cells

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def novelty(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("novelty")


def test_it_measures_what_a_look_says(novelty: ModuleType) -> None:
    """Without the network that finds the objects."""
    predictor = halfpixel.load("nuclei")
    image = touching_cells((64, 64), 5).picture
    found = novelty.novelty(predictor.info.novelty, novelty.seen(predictor, image))
    assert found == pytest.approx(predictor.predict(image).novelty, abs=1e-6)


def test_a_table(
    novelty: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    arguments = ["novelty.py", "--images", f"mine={tmp_path}", "--grey", "mine", "--each", "1", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    novelty.main()
    rows = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    told = {name.strip(): (number.strip(), unlike.strip()) for name, number, unlike in rows}
    assert told["mine"] == told["mine in grey"] == ("2", "2 (100%)")
    assert all(told[name] == ("1", "1 (100%)") for name in ("noise", "blank", "text"))


def test_a_table_of_calibrated_models(
    novelty: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cells(tmp_path / "known", [touching_cells((48, 64), 6, seed=k) for k in range(24)])
    arguments = ["novelty.py", "--calibrated", str(tmp_path / "known" / "instances.json"), "--each", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--draws", "2"])
    monkeypatch.setattr(novelty, "CALIBRATED_ON", (12,))
    novelty.main()
    last = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]]
    assert last[:2] == ["12", "7.7%"]
    alarms, told = (float(cell.rstrip("%")) for cell in last[2:])
    assert alarms < 50 < told
