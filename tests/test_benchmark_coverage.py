"""The coverage benchmark, on squares that are missed or made up by lot."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from halfpixel.evaluation.counts.calibration_fit import winkler
from halfpixel.evaluation.counts.score_calibration import Cell

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("coverage")


def write_squares(folder: Path, n: int, seed: int) -> tuple[Path, Path]:
    """A COCO file of images with 2 to 60 squares, and one of results: the more squares, the more of both mistakes."""
    rng = np.random.default_rng(seed)
    places = [(12 * k, 12 * j) for j in range(8) for k in range(8)]
    images, annotations, found = [], [], []
    for image_id in range(1, n + 1):
        true = int(rng.integers(2, 61))
        modality = "bright" if image_id % 3 else "dark"
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 96, "height": 96, "modality": modality})
        for k, (x, y) in enumerate(places):
            square = {
                "image_id": image_id, "category_id": 1, "area": 64, "bbox": [x, y, 8, 8],
                "segmentation": [[x, y, x + 8, y, x + 8, y + 8, x, y + 8]],
            }  # fmt: skip
            if k < true:
                annotations.append(square | {"id": len(annotations) + 1})
            if rng.random() < (0.9 if k < true else 0.003 * true):
                found.append(square | {"score": rng.uniform(0.5, 1) if k < true else rng.uniform(0.06, 0.9)})
    data, results = folder / f"data{seed}.json", folder / f"found{seed}.json"
    categories = [{"id": 1, "name": "cell"}]
    data.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    results.write_text(json.dumps(found))
    return data, results


def test_from_files_to_a_verdict(
    coverage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (fit, fit_found), (test, test_found) = write_squares(tmp_path, 60, 0), write_squares(tmp_path, 45, 1)
    files = ["--fit", fit, "--fit-predictions", fit_found, "--test", test, "--predictions", test_found]
    out = tmp_path / "coverage.json"
    monkeypatch.setattr(sys, "argv", ["coverage.py", *(str(one) for one in files), "--json", str(out)])
    coverage.main()
    result = json.loads(out.read_text())
    ours, same = result["contenders"][coverage.OURS], result["contenders"][coverage.BASELINE]
    assert result["winkler_ratio"] == pytest.approx(ours["winkler"] / same["winkler"])
    assert [one["images"] for one in ours["groups"].values()] == [45, 15, 15, 15, 30, 15]
    assert ours["groups"]["all"]["coverage"] > 0.7
    nonsense = result["contenders"][coverage.NONSENSE]
    assert nonsense["winkler"] > 2 * same["winkler"]
    assert nonsense["groups"]["all"]["coverage"] > 0.75  # coverage alone says little
    printed = capsys.readouterr().out
    assert f"constant width: mean Winkler score {same['winkler']:.2f}" in printed
    assert len(result["passed"]) == 3


def cells(counts: list[tuple[int, int]]) -> list[Cell]:
    """Images of which the annotated and the found objects are given."""
    return [Cell(k, np.full(n, 0.9, np.float32), np.ones(n, bool), true) for k, (true, n) in enumerate(counts)]


def test_one_width_by_hand(coverage: ModuleType) -> None:
    fit = cells([(10, 10 + k) for k in range(9)])  # errors 0 to 8
    counts = (coverage.listed(fit, 0.5), coverage.counted(fit))
    low, high = coverage.constant_width(counts, np.array([3.0, 20.0]), 0.8)
    assert (low.tolist(), high.tolist()) == ([0, 13], [10, 27])  # the 8th of 9 errors is 7
    found = coverage.coverage((low, high), np.array([11.0, 13.0]), [0, 1])
    assert (found["inside"], found["coverage"], found["mean_width"]) == (1, 0.5, 12)
    assert found["interval"] == pytest.approx([0.0126, 0.9874], abs=1e-4)
    np.testing.assert_allclose(winkler(low, high, np.array([11, 13]), 0.8), [10 + 10, 14])
