"""The embedded model: small enough to ship, and as good as its card says."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.load import load
from halfpixel.evaluation.evaluation import evaluate
from halfpixel.structures.diameters import TrainedDiameters, equivalent_diameters, typical_diameter
from halfpixel.zoo.modelfile import read_info
from halfpixel.zoo.names import locate

BEST_PUBLISHED = (0.8641, 0.8361, 0.8043, 0.7545, 0.6850, 0.5974, 0.4910, 0.3738, 0.2258)
"""The best of four methods at each IoU from .50 to .90, on other fluorescence images (StarDist paper, Table 1)."""


def test_the_file_is_small_and_explains_itself() -> None:
    file = locate("nuclei")
    assert file.stat().st_size <= 12e6
    info = read_info(file)
    assert info.class_names == ("nucleus",)
    assert info.licence == "Apache-2.0"
    assert "BBBC038" in info.source
    assert info.recipe["steps"] > 0
    assert info.measured["mask_ap"] > 0.65
    assert info.diameters == TrainedDiameters(61.0, 27.9, 75.0)


@pytest.mark.slow
def test_held_out_images(shared_data: Path) -> None:
    model = load("nuclei")
    dataset = read_coco(shared_data / "nuclei" / "val.json")
    found = [model.predict(sample.path, threshold=0.05).without_probabilities() for sample in dataset.samples]
    result = evaluate(dataset, found, threshold=model.info.score_threshold, max_detections=model.info.detection_limit)
    assert result.mask_ap.ap == pytest.approx(model.info.measured["mask_ap"], abs=0.002)
    accuracies = [one.counts.accuracy for one in result.slices["grey-dark"].detection]
    assert all(ours is not None and ours > best for ours, best in zip(accuracies, BEST_PUBLISHED, strict=False))


def enlarged(pixels: npt.NDArray[np.uint8], times: int) -> npt.NDArray[np.uint8]:
    """As a camera behind a stronger objective would see it: no sharper, with noise of its own."""
    picture = Image.fromarray(pixels)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(times / 3)), dtype=np.float64)
    noisy = blurred + np.random.default_rng(0).normal(0, 4, blurred.shape)
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_nuclei_enlarged_four_times_are_not_cut_to_pieces(shared_data: Path) -> None:
    model = load("nuclei")
    dataset = read_coco(shared_data / "nuclei" / "val.json")
    chosen = ("2e172afb", "37ed50ee", "5afcbfd0", "7f556782")  # of small, middle, large and of stained nuclei
    given, found, usual = [], [], []
    for sample in (one for one in dataset.samples if one.path.name.startswith(chosen)):
        pixels = read_image(sample.path)
        assert sample.objects.masks is not None
        diameter_px = typical_diameter(equivalent_diameters(sample.objects.masks.areas_px()))
        assert diameter_px is not None
        given.append(len(model.for_diameter(4 * diameter_px).predict(enlarged(pixels, 4))))
        found.append(len(model.predict(enlarged(pixels, 4))))
        usual.append(len(model.without_size_finder().predict(pixels)))
    assert len(usual) == len(chosen)
    for counts in (given, found):
        assert abs(sum(counts) - sum(usual)) <= 0.05 * sum(usual)
        assert all(abs(a - b) <= max(0.05 * b, 1) for a, b in zip(counts, usual, strict=True)), (counts, usual)


@pytest.mark.parametrize(("name", "outputs"), [("nuclei-unet", 2), ("nuclei-unet-boundary", 3)])
def test_the_predecessors_are_small_and_explain_themselves(name: str, outputs: int) -> None:
    file = locate(name)
    assert file.stat().st_size <= 4e6
    predictor = load(name)
    assert predictor.class_names == ("nucleus",)
    assert predictor.info.licence == "Apache-2.0"
    assert "BBBC038" in predictor.info.source
    assert predictor.model.logits.out_channels == outputs  # type: ignore[union-attr]


def test_the_predecessor_melts_what_touches() -> None:
    """On drawn cells of which nearly all touch another; the boundary class tells some of them apart."""
    cells = [touching_cells((160, 200), 24, touching=0.9, seed=seed) for seed in range(3)]
    true = sum(len(one.objects) for one in cells)
    found = {}
    for name in ("nuclei", "nuclei-unet", "nuclei-unet-boundary"):
        model = load(name)
        found[name] = sum(len(model.predict(one.picture)) for one in cells)
    assert abs(found["nuclei"] - true) <= 0.1 * true
    assert found["nuclei-unet"] < 0.7 * true
    assert found["nuclei-unet"] < found["nuclei-unet-boundary"]
