"""What training images look like, that it comes into the model file, and that other images are told from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from calling import always
from PIL import Image
from scipy.ndimage import gaussian_filter
from test_loop import RECIPE, fresh, write_dataset

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.appearance import appearance
from halfpixel.data.images.prepare import prepare
from halfpixel.data.images.rgb8 import as_rgb8
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.load import load
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.size_finder import ChosenScale
from halfpixel.structures.diameters import SizeFinderInfo, TrainedDiameters
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import Novelty
from halfpixel.train import novelty_fit
from halfpixel.train.loop import fit
from halfpixel.train.novelty_fit import measure_novelty
from halfpixel.zoo.modelfile import read_info
from halfpixel.zoo.names import locate

RULES, USUAL = InputRules(scale=3.0), ChosenScale()


def cells(seed: int) -> npt.NDArray[np.uint8]:
    return touching_cells((144, 192), 8 + seed % 24, touching=0.9, seed=seed).picture


def strange() -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Pictures that are no cells."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        sky = np.zeros((144, 192))
        sky.ravel()[random.integers(0, sky.size, 200)] = 255 * random.pareto(1.2, 200)
        yield "stars", np.clip(12 * gaussian_filter(sky, 1) + random.normal(8, 3, sky.shape), 0, 255).astype(np.uint8)
        yield "noise", random.integers(0, 256, (144, 192, 3), dtype=np.uint8)
        yield "blank", np.full((144, 192), 25 * seed, np.uint8)
        scene = gaussian_filter(random.normal(size=(144, 192, 3)), (20, 20, 0))
        yield "scene", np.clip(128 + 60 * scene / scene.std(), 0, 255).astype(np.uint8)
        large = Image.fromarray(cells(seed)[40:60, 40:60]).resize((200, 200), Image.Resampling.BICUBIC)
        yield "a cell, enlarged", np.asarray(large)


def written(folder: Path, seeds: range) -> list[Path]:
    folder.mkdir(parents=True)
    for seed in seeds:
        Image.fromarray(cells(seed)).save(folder / f"{seed}.png")
    return [folder / f"{seed}.png" for seed in seeds]


def of_images(paths: Sequence[Path], rules: InputRules = RULES, chosen: ChosenScale = USUAL) -> Novelty | None:
    """Looked at at one size."""
    return measure_novelty(paths, rules, lambda path, pixels: chosen, "training")


def test_new_cells_are_known_and_other_pictures_are_not(tmp_path: Path) -> None:
    known = of_images(written(tmp_path / "known", range(40)))
    assert known is not None

    def unlike(image: npt.NDArray[np.uint8]) -> bool:
        return known.of(appearance(prepare(as_rgb8(image), RULES)[0], RULES, known.cell_px)) > 1

    new = [unlike(cells(seed)) for seed in range(100, 160)]
    assert sum(new) <= 8  # of 60, at 5%
    missed = [name for name, image in strange() if not unlike(image)]
    assert missed == []


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    images = written(tmp_path / "some", range(12))
    assert of_images([tmp_path / "absent.png", *images]) == of_images(images)
    assert of_images(images[:9]) is None
    assert of_images([]) is None


def test_of_many_images_some_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = written(tmp_path / "many", range(23))
    monkeypatch.setattr(novelty_fit, "MOST_IMAGES", 12)
    assert of_images(images) == of_images(images[::2])


def test_of_a_large_image_its_middle_is_looked_at(tmp_path: Path) -> None:
    rules = InputRules(scale=1.0, longest_side=64)
    images, middles = [], []
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 256, (100, 200, 3), dtype=np.uint8)
        for name, part, found in (("all", pixels, images), ("middle", pixels[18:82, 68:132], middles)):
            Image.fromarray(part).save(tmp_path / f"{name} {k}.png")
            found.append(tmp_path / f"{name} {k}.png")
    assert of_images(images, rules) == of_images(middles, rules)


def test_training_writes_it_down(tmp_path: Path) -> None:
    dataset = read_coco(write_dataset(tmp_path))
    few = fit(fresh(), dataset, replace(RECIPE, steps=1), tmp_path / "few")
    assert few.info.novelty is None  # three images
    more = replace(dataset, samples=dataset.samples * 4)
    fitted = fit(few, more, replace(RECIPE, steps=1), tmp_path / "more")
    known = fitted.info.novelty
    assert isinstance(known, Novelty)
    assert (len(known.references), known.made_on, known.false_alarm_rate) == (12, "training", 0.077)
    assert read_info(tmp_path / "more" / "model.safetensors").novelty == known
    assert fitted.with_classes(["other"]).info.novelty is None
    objects = fitted.predict(dataset.samples[0].path)
    assert objects.novelty == pytest.approx(0, abs=0.2)  # the file keeps three digits
    assert objects.unlike_training is False
    assert few.predict(dataset.samples[0].path).unlike_training is None


def test_training_images_are_looked_at_at_the_size_that_the_model_will_choose(tmp_path: Path) -> None:
    """Its finder says 32 pixels of all images, whose objects have 12 and are enlarged 1.5 times."""
    dataset = read_coco(write_dataset(tmp_path))
    dataset = replace(dataset, samples=dataset.samples * 4)
    plain = fresh()
    info = replace(plain.info, size_finder=SizeFinderInfo(0.0))
    finding = Predictor(plain.model, info, plain.device, size_network=always(12))
    fitted = fit(finding, dataset, replace(RECIPE, steps=1), tmp_path / "run")
    sizes, path = fitted.info.diameters, dataset.samples[0].path
    assert isinstance(sizes, TrainedDiameters)
    objects = fitted.predict(path)
    assert objects.scale == pytest.approx(sizes.high_px / 32, rel=1e-3)
    assert objects.novelty == pytest.approx(0, abs=0.2)
    paths = [sample.path for sample in dataset.samples]
    chosen = ChosenScale(objects.scale, objects.found_diameter_px)
    assert fitted.info.novelty == of_images(paths, info.input, chosen) != of_images(paths, info.input)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuclei", "nuclei-unet", "nuclei-unet-boundary"])
def test_the_embedded_models_know_what_they_were_trained_on(shared_data: Path, name: str) -> None:
    model = load(locate(name))
    paths = [sample.path for sample in read_coco(shared_data / "nuclei" / "train.json").samples]
    made = measure_novelty(paths, model.info.input, lambda path, pixels: model.choose_scale(pixels), "training")
    assert made is not None
    assert model.info.novelty is not None
    np.testing.assert_allclose(model.info.novelty.references, made.references, atol=2e-3)
    assert model.info.novelty.threshold == pytest.approx(made.threshold, rel=0.01)
