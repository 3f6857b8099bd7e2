"""Images unlike those that a model knows, as its predictor tells them: alone, in tiles, at two thirds of the size."""

import numpy as np
import numpy.typing as npt
import pytest
from test_predictor import assert_same, described, lively, photograph

from halfpixel.data.images.appearance import appearance
from halfpixel.engine.predictor import Predictor
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
