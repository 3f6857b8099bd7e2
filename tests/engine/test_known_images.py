"""Images unlike those that a model knows, as its predictor tells them: alone, in tiles, at two thirds of the size."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from calling import write_with_finder
from test_predictor import assert_same, described, lively, photograph

from halfpixel.data.images.appearance import appearance
from halfpixel.engine.load import load
from halfpixel.engine.predictor import Predictor
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import CELL_PX, Novelty

predictor = pytest.fixture(scope="module")(lively)


def seen(predictor: Predictor, image: npt.NDArray[np.uint8]) -> list[tuple[float, ...]]:
    """The appearance of each of an image's tiles."""
    sizes = [(batch, batch.sizes_hw[0].tolist()) for batch in predictor.prepared(image)]
    return [appearance(batch.tensor[0, :, :h, :w], predictor.info.input, CELL_PX) for batch, (h, w) in sizes]


def test_an_image_is_told_from_those_that_the_model_knows(predictor: Predictor) -> None:
    known = [seen(predictor, photograph(seed=k))[0] for k in range(20)]
    knowing = described(predictor, novelty=Novelty.of_images(known, "training"))
    assert predictor.predict(photograph(seed=3)).unlike_training is None
    found = knowing.predict(photograph(seed=3))
    assert_same(found, predictor.predict(photograph(seed=3)))
    assert found.novelty == pytest.approx(0, abs=0.01)
    assert found.unlike_training is found[:0].unlike_training is False
    assert sum(bool(knowing.predict(photograph(seed=k)).unlike_training) for k in range(20, 40)) <= 4
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    images = [noise, photograph(seed=3), np.zeros((60, 50, 3), np.uint8)]
    assert [one.unlike_training for one in knowing.predict(images)] == [True, False, True]
    assert knowing.with_classes(["other"]).info.novelty is None


def test_an_image_in_tiles_is_as_unlike_as_one_of_them(predictor: Predictor) -> None:
    known = [seen(predictor, photograph(seed=k))[0] for k in range(20)]
    novelty = Novelty.of_images(known, "training")
    assert novelty is not None
    image = photograph(300, 400)
    each = [novelty.of(one) for one in seen(predictor, image)]
    assert len(each) > 3
    found = described(predictor, novelty=novelty).predict(image)
    assert found.novelty is not None
    assert min(abs(found.novelty - one) for one in each) < 1e-3


def test_a_fast_look_knows_the_same_images(predictor: Predictor) -> None:
    known = [seen(predictor, photograph(seed=k))[0] for k in range(20)]
    fast = described(predictor, novelty=Novelty.of_images(known, "training")).fast()
    assert fast.info.novelty is not None
    assert fast.info.novelty.cell_px == pytest.approx(2 / 3 * CELL_PX)
    assert not any(fast.predict(photograph(seed=k)).unlike_training for k in range(20))


def knowing_at(predictor: Predictor, image: npt.NDArray[np.uint8], octaves: float) -> Predictor:
    """Knows images like one at the size that is found, if that is so many octaves above the usual one."""
    scale = predictor.choose_scale(image).scale
    assert scale is not None
    nine = seen(predictor.at_scale(scale), image)[0][:9]
    info = replace(predictor.info, novelty=Novelty.of_images([(*nine, octaves)] * 12, "training"))
    return Predictor(predictor.model, info, predictor.device, size_network=predictor.size_network)


@pytest.mark.parametrize("rules", [InputRules(scale=1.0, longest_side=256), InputRules(shortest_side=80)], ids=str)
def test_an_image_that_looks_alike_only_at_another_size_is_not_alike(
    tiny_model: Path, tmp_path: Path, rules: InputRules
) -> None:
    """All objects are found to have 32 pixels, and the model knows those up to 20."""
    predictor = load(write_with_finder(tmp_path / "finds.safetensors", tiny_model, 12, input=rules))
    image = photograph(40, 48)
    octaves = math.log2(20 / 32 / (2 if rules.scale is None else 1))  # usually 80 pixels high, twice as large
    usual, reduced = knowing_at(predictor, image, 0.0), knowing_at(predictor, image, octaves)
    assert reduced.predict(image).novelty == pytest.approx(0, abs=0.01)
    strange = usual.predict(image)
    assert strange.novelty == pytest.approx(-octaves / 0.1, rel=0.01)  # by the least spread, and so for the threshold
    assert strange.unlike_training
    assert [one.novelty for one in usual.predict([image, image])] == [strange.novelty] * 2
    given = usual.at_scale(20 / 32).predict(image)  # whoever says how large objects are is believed
    assert (given.scale, given.novelty) == (strange.scale, pytest.approx(0, abs=0.01))


def test_a_model_of_earlier_versions_tells_by_nine_numbers(predictor: Predictor) -> None:
    known = [seen(predictor, photograph(seed=k))[0] for k in range(20)]
    nine = described(predictor, novelty=Novelty.of_images([one[:9] for one in known], "training"))
    ten = described(predictor, novelty=Novelty.of_images(known, "training"))
    for image in (photograph(seed=30), np.zeros((60, 50, 3), np.uint8)):
        assert nine.predict(image).novelty == ten.predict(image).novelty
