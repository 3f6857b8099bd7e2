"""Counts with intervals and densities, and the probabilities of objects."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from calling import Halfpixel, write_model

import halfpixel as package
from halfpixel.engine.load import open_backend
from halfpixel.engine.predictor import Predictor
from halfpixel.structures.calibration import Calibration

Noise = Callable[..., Path]

CALIBRATION = Calibration(
    threshold=0.5,
    lowest_score=0.05,
    level=0.9,
    knots=(0.1, 0.9),
    probabilities=(0.2, 0.95),
    count_weights=(0.5, 0.6),
    residual_scale_weights=(0.1, 0.2, 0.1),
    conformal_quantiles=(1.5, 2.5),
    n_images=(20, 19),
)


def calibrated(tmp_path: Path, class_names: tuple[str, ...] = ("nucleus",)) -> tuple[Path, Predictor]:
    """A model whose threshold lies in the middle of the scores that it gives."""
    path = write_model(tmp_path / "plain.safetensors", class_names)
    predictor = package.load(path)
    predictor.info = replace(predictor.info, calibration=CALIBRATION, score_threshold=0.5)
    predictor.save(tmp_path / "calibrated.safetensors")
    return tmp_path / "calibrated.safetensors", predictor


def middle(scores: np.ndarray) -> float:
    """A threshold between two scores, so that rounding decides nothing."""
    below, above = np.sort(scores)[len(scores) // 2 - 1 :][:2]
    return float(below + above) / 2


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_calibrated_count_has_an_interval(halfpixel: Halfpixel, noise: Noise, tmp_path: Path) -> None:
    images = [noise(tmp_path / f"{k}.png", seed=k) for k in range(2)]
    model, predictor = calibrated(tmp_path, ("nucleus", "cell"))
    scores = [
        [objects.scores[objects.labels == k].numpy() for k in range(2)]
        for objects in (predictor.predict(image, threshold=0.05) for image in images)
    ]
    cut = middle(np.concatenate([one for image in scores for one in image]))
    calibration = replace(CALIBRATION, threshold=cut)
    predictor.info = replace(predictor.info, calibration=calibration, score_threshold=cut)
    predictor.save(model)

    ran = halfpixel("count", *images, "--model", model, "--csv", tmp_path / "n.csv")
    content = json.loads(halfpixel("count", *images, "--model", model, "--json").out)
    rows = rows_of(tmp_path / "n.csv")
    lines = [line for line in ran.out.splitlines() if "90%)" in line]
    assert (len(rows), len(lines)) == (4, 4)
    assert 0 < sum(int(row["count"]) for row in rows) < sum(len(one) for image in scores for one in image)
    cells = [(image, k) for image in range(2) for k in range(2)]
    for (image, k), row, line in zip(cells, rows, lines, strict=True):
        expected = calibration.interval(scores[image][k])
        name = ("nucleus", "cell")[k]
        assert expected.count == (scores[image][k] >= cut).sum()
        assert line.endswith(f"{expected.count} ({expected.low}-{expected.high}, 90%)")
        assert (row["class"], int(row["count"])) == (name, expected.count)
        assert (int(row["low"]), int(row["high"]), float(row["level"])) == (expected.low, expected.high, 0.9)
        assert float(row["estimate"]) == pytest.approx(expected.estimate)
        assert content["images"][image]["counts"][name] == expected.count
        interval = content["images"][image]["intervals"][name]
        assert (interval["low"], interval["high"], interval["level"]) == (expected.low, expected.high, 0.9)
    assert "for 90% of images like those of the calibration" in ran.out
    assert ran.err == ""


def test_at_another_threshold_there_is_no_interval(halfpixel: Halfpixel, noise: Noise, tmp_path: Path) -> None:
    model, _ = calibrated(tmp_path)
    ran = halfpixel("count", noise(tmp_path / "a.png"), "--model", model, "--threshold", 0.4, "--csv", tmp_path / "n")
    assert "%" not in ran.out
    assert "No intervals: the model is calibrated for --threshold 0.5." in ran.out
    assert list(rows_of(tmp_path / "n")[0]) == ["image", "class", "count", "score_threshold", "limit_reached"]


def test_a_limit_that_spoils_the_interval(
    halfpixel: Halfpixel, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit cuts off doubtful objects only: the count is right, and its interval would not be."""
    model, predictor = calibrated(tmp_path)
    image = noise(tmp_path / "a.png")
    everything = predictor.predict(image, threshold=0.05)
    cut = middle(everything.scores.numpy())
    predictor.info = replace(predictor.info, calibration=replace(CALIBRATION, threshold=cut), score_threshold=cut)
    predictor.save(model)
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: replace(everything, saturated=True))
    ran = halfpixel("count", image, "--model", model, "--json")
    (one,) = json.loads(ran.out)["images"]
    counts = {"nucleus": int((everything.scores >= cut).sum())}
    assert one == {"image": str(image), "counts": counts, "limit_reached": False, "intervals": None}
    assert ran.err.count("\n") == 1
    assert "no interval for 1 image" in ran.err
    assert "raise --limit" in ran.err
    assert "In brackets" not in halfpixel("count", image, "--model", model).out


def test_tables_have_probabilities(halfpixel: Halfpixel, noise: Noise, tmp_path: Path) -> None:
    """Only at the threshold that the model is calibrated for."""
    model, predictor = calibrated(tmp_path)
    image = noise(tmp_path / "a.png")
    exact = predictor.on(open_backend(predictor, "torch", "fp32"))  # in bf16 many are equal
    scores = exact.predict(image, threshold=0.05).scores.numpy()
    cut = middle(scores)
    predictor.info = replace(predictor.info, calibration=replace(CALIBRATION, threshold=cut), score_threshold=cut)
    predictor.save(model)
    arguments = ("predict", image, "--model", model, "--precision", "fp32", "--save", "table", "--out")
    assert halfpixel(*arguments, tmp_path / "in force").code == 0
    rows = rows_of(tmp_path / "in force" / "objects.csv")
    assert list(rows[0])[2:5] == ["class", "score", "probability"]
    kept = np.sort(scores[scores >= cut])[::-1]
    expected = 0.2 + (kept - 0.1) / 0.8 * 0.75  # the calibration has two knots
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, np.clip(expected, 0.2, 0.95), atol=1e-5)
    assert halfpixel(*arguments, tmp_path / "other", "--threshold", 0.05).code == 0
    assert "probability" not in rows_of(tmp_path / "other" / "objects.csv")[0]


@pytest.mark.parametrize("pixel_size_um", [None, 0.5])
@pytest.mark.parametrize("kind", ["plain", "unbiased"])
def test_densities(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, pixel_size_um: float | None, kind: str
) -> None:
    """By hand, from the masks."""
    image = tmp_path / "a.tif"
    pixels = np.random.default_rng(3).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    resolution = None if pixel_size_um is None else (1e4 / pixel_size_um,) * 2
    tifffile.imwrite(image, pixels, photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER")
    objects = package.load(tiny_model).predict(pixels)
    assert objects.masks is not None
    masks = objects.masks.dense().numpy()
    forbidden = masks[:, 0].any(1) | masks[:, :, 0].any(1)
    inside = masks[:, 1:, 1:].any((1, 2))
    counted, area = (masks.any((1, 2)).sum(), 4200) if kind == "plain" else ((inside & ~forbidden).sum(), 59 * 69)
    assert counted > 0
    assert kind == "plain" or counted < len(masks)

    ran = halfpixel("count", image, "--model", tiny_model, "--density", kind, "--csv", tmp_path / "n.csv")
    (row,) = rows_of(tmp_path / "n.csv")
    assert (int(row["count"]), int(row["counted"]), int(row["area_px"])) == (len(masks), counted, area)
    assert float(row["per_megapixel"]) == pytest.approx(counted / area * 1e6)
    if pixel_size_um is None:
        assert row["per_mm2"] == ""
        assert f"{counted / area * 1e6:,.4g} per Mpx" in ran.out
    else:
        assert float(row["per_mm2"]) == pytest.approx(counted / (area * (pixel_size_um / 1000) ** 2))
        assert f"{float(row['per_mm2']):,.4g} per mm2" in ran.out
    (one,) = json.loads(halfpixel("count", image, "--model", tiny_model, "--density", kind, "--json").out)["images"]
    assert one["densities"]["nucleus"]["per_megapixel"] == pytest.approx(counted / area * 1e6)


def test_an_image_too_small_for_a_counting_frame(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    images = [noise(tmp_path / "dot.png", (1, 1)), noise(tmp_path / "a.png")]
    ran = halfpixel("count", *images, "--model", tiny_model, "--density", "unbiased", "--json")
    assert ran.code == 1
    assert ran.err.startswith(f"halfpixel: error: {images[0]}: ")
    content = json.loads(ran.out)
    assert [one["image"] for one in content["images"]] == [str(images[1])]
    assert [one["path"] for one in content["failed"]] == [str(images[0])]
