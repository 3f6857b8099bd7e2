"""From images to objects, with a small network of random but lively weights."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from networks import CLASSES, enliven, few
from PIL import Image

from halfpixel import load
from halfpixel.data.images.rgb8 import from_pillow, read_image
from halfpixel.engine.backends.base import ComputePrecision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.size_finder import ChosenScale
from halfpixel.errors import ArgumentError, ImageError, ModelFileError
from halfpixel.models import mask_rcnn
from halfpixel.nn.network import Outputs
from halfpixel.structures.calibration import Calibration
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.structures.images import ImageBatch, InputRules, Limits
from halfpixel.structures.instances import Instances
from halfpixel.zoo.modelfile import ModelInfo, settings_of

CPU = torch.device("cpu")
RULES = InputRules(scale=1.5, longest_side=256)
CALIBRATION = Calibration(0.3, 0.05, 0.9, (0.05, 0.9), (0.1, 0.95), (1.0, 0.0), (0.0, 0.5, 0.0), (1.5, 2.5), (10, 12))


def photograph(height: int = 60, width: int = 50, seed: int = 0) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def lively() -> Predictor:
    torch.manual_seed(0)
    model = mask_rcnn.mask_rcnn_lite(CLASSES, few(mask_rcnn)).eval()
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    info = ModelInfo("mask_rcnn_lite", CLASSES, RULES, settings_of(model), score_threshold=0.3, detection_limit=8)
    return Predictor(enliven(model, images), info, CPU)


predictor = pytest.fixture(scope="module")(lively)


def assert_same(a: Instances, b: Instances) -> None:
    assert len(a) == len(b) > 2
    assert a.size_hw == b.size_hw
    assert torch.equal(a.boxes_xyxy, b.boxes_xyxy)
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.labels, b.labels)
    assert a.masks is not None
    assert b.masks is not None
    assert torch.equal(a.masks.dense(), b.masks.dense())


def test_a_file_an_array_a_picture_and_lists_of_them(predictor: Predictor, tmp_path: Path) -> None:
    pixels = photograph()
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = predictor.predict(pixels)
    assert expected.size_hw == (60, 50)
    for form in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(pixels)):
        assert_same(predictor.predict(form), expected)
    found = predictor.predict([photograph(80, 40, 1), tmp_path / "image.png", pixels])
    assert isinstance(found, list)
    assert_same(found[1], expected)
    assert_same(found[2], expected)
    assert predictor.predict([]) == []


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA", "RGBA", "L", "1", "I;16"])
def test_a_picture_is_what_its_file_is(predictor: Predictor, tmp_path: Path, mode: str) -> None:
    deep = Image.fromarray(photograph()[..., 0].astype(np.uint16) * 200)
    picture = deep if mode == "I;16" else Image.fromarray(photograph()).convert(mode)
    picture.save(tmp_path / "picture.tif")
    opened = Image.open(tmp_path / "picture.tif")
    assert np.array_equal(from_pillow(opened), read_image(tmp_path / "picture.tif"))
    assert predictor.predict(opened).size_hw == (60, 50)


def test_a_picture_is_turned_upright(predictor: Predictor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph()).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as opened:
        assert np.array_equal(from_pillow(opened), read_image(tmp_path / "turned.jpg"))
        assert predictor.predict(opened).size_hw == (50, 60)


def test_how_it_shows(predictor: Predictor) -> None:
    assert repr(predictor).startswith("Predictor(mask_rcnn_lite, classes: ")
    assert repr(predictor.predict(photograph())).endswith("on 50 x 60 pixels, saturated)")


@pytest.mark.parametrize("names", [[], ["a", "a"], "abc", [1, 2], [""]])
def test_class_names_must_be_different_texts(predictor: Predictor, names: Any) -> None:
    with pytest.raises(ArgumentError, match=r"class.names"):
        predictor.with_classes(names)


def test_other_classes_are_not_calibrated(predictor: Predictor) -> None:
    calibrated = described(predictor, calibration=CALIBRATION)
    assert calibrated.with_classes(["seed"]).info.calibration is None


def described(predictor: Predictor, **changes: Any) -> Predictor:
    return Predictor(predictor.model, replace(predictor.info, **changes), CPU)


def test_another_scale_is_as_if_the_model_said_so(predictor: Predictor) -> None:
    expected = described(predictor, input=replace(RULES, scale=0.75)).predict(photograph())
    found = predictor.at_scale(0.75).predict(photograph())
    assert_same(found, expected)
    assert found.scale == 0.75
    assert predictor.predict(photograph()).scale == predictor.info.input.scale == 1.5


def test_objects_are_brought_to_the_sizes_that_the_model_knows(predictor: Predictor) -> None:
    knowing = described(predictor, diameters=TrainedDiameters(20.0, 15.0, 30.0))
    assert knowing.for_diameter(12.0) is knowing
    assert knowing.for_diameter(21.0) is knowing  # 31.5 pixels are 30, but for a tenth
    assert knowing.for_diameter(60.0).info.input.scale == pytest.approx(0.5)
    assert knowing.for_diameter(5.0).info.input.scale == pytest.approx(3.0)
    assert_same(knowing.for_diameter(60.0).predict(photograph()), predictor.at_scale(0.5).predict(photograph()))
    assert knowing.fast().for_diameter(25.0).info.input.scale == 1  # two thirds
    assert knowing.fast().for_diameter(12.0).info.input.scale == pytest.approx(1.25)  # as far as that is enough
    fitting = described(knowing, input=InputRules())
    assert fitting.for_diameter(10.0).info.input.scale == 2


def test_each_image_at_its_own_scale(predictor: Predictor) -> None:
    scales = {0: None, 1: 0.75, 2: 1.5, 3: 2.0}
    pictures = {k: photograph(seed=k) for k in scales}
    chosen = {k: ChosenScale(scale) for k, scale in scales.items()}
    found = predictor.predict_in_order(scales, pictures.__getitem__, choose=lambda k, _: chosen[k], in_parallel=False)
    for k, future in found:
        expected = predictor if scales[k] is None else predictor.at_scale(scales[k] or 0)
        assert_same(future.result(), expected.predict(pictures[k]))

    def unknown(k: int, pixels: object) -> ChosenScale:
        raise ImageError(f"{k}: of unknown size")

    with pytest.raises(ImageError, match="1: of unknown size"):
        next(predictor.predict_in_order([1], pictures.__getitem__, choose=unknown))[1].result()


def test_a_calibration_stays_with_its_scale(predictor: Predictor) -> None:
    calibrated = described(predictor, calibration=CALIBRATION)
    assert calibrated.at_scale(0.75).info.calibration is None
    near = calibrated.at_scale(1.4)
    assert near.info.calibration == replace(CALIBRATION, scales=(1.5, 1.5))
    assert near.at_scale(1.3).info.calibration is None  # a tenth of a tenth is no tenth any more
    assert near.at_scale(1.6).info.calibration == near.info.calibration


def test_scales_that_cannot_be(predictor: Predictor) -> None:
    with pytest.raises(ArgumentError, match="does not state the sizes of the objects that it was trained on"):
        predictor.for_diameter(20.0)
    with pytest.raises(ArgumentError, match="scale"):
        predictor.at_scale(0.0)
    one_size = described(predictor, input=InputRules(exact_hw=(96, 64)))
    with pytest.raises(ArgumentError, match="`scale`: this network takes 64 x 96 pixels, and nothing smaller"):
        one_size.at_scale(2.0)


def test_the_objects_fit_the_image(predictor: Predictor) -> None:
    objects = predictor.predict(photograph(90, 40))
    assert objects.class_names == CLASSES
    assert objects.masks is not None
    assert objects.masks.size_hw == objects.size_hw == (90, 40)
    assert objects.boxes_xyxy[:, 2].max() <= 40
    assert 40 < objects.boxes_xyxy[:, 3].max() <= 90
    assert objects.candidates is not None


def test_the_limit_counts_what_is_left_after_suppression_by_masks(predictor: Predictor) -> None:
    model = copy.deepcopy(predictor.model)
    model.settings = replace(model.settings, box_iou=0.8, mask_iou=0.3)
    predictor = Predictor(model, predictor.info, CPU)
    everything = predictor.predict(photograph(), threshold=0.6, limit=500)
    assert not everything.saturated
    for limit in (len(everything) - 1, len(everything), len(everything) + 1):
        some = predictor.predict(photograph(), threshold=0.6, limit=limit)
        assert len(some) == min(limit, len(everything))
        assert some.saturated == (limit < len(everything))


def test_threshold_and_limit_default_to_the_model_s(predictor: Predictor) -> None:
    usual = predictor.predict(photograph())
    assert usual.score_threshold == 0.3
    assert (usual.scores > 0.3).all()
    assert_same(predictor.predict(photograph(), threshold=0.3, limit=8), usual)
    low = predictor.predict(photograph(), threshold=0.0, limit=5)
    assert len(low) == 5
    assert low.saturated
    assert low.score_threshold == 0.0
    middle = float(usual.scores[3])
    assert len(predictor.predict(photograph(), threshold=middle)) == int((usual.scores > middle).sum()) < 8


@pytest.mark.parametrize(
    "given", [{"threshold": -0.1}, {"threshold": 1.0}, {"threshold": float("nan")}, {"limit": 0}, {"limit": 10**19}]
)
def test_values_out_of_range(predictor: Predictor, given: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"must be"):
        predictor.predict(photograph(), **given)


def test_unusable_images(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="missing"):
        predictor.predict(tmp_path / "missing.png")
    with pytest.raises(ImageError):
        predictor.predict(np.zeros((0, 5, 3), np.uint8))


def test_saved_and_loaded_gives_identical_objects(predictor: Predictor, tmp_path: Path) -> None:
    expected = predictor.predict(photograph())
    predictor.save(tmp_path / "mine.safetensors")
    loaded = load(tmp_path / "mine.safetensors")
    assert loaded.info == predictor.info
    assert_same(Predictor(loaded.model, loaded.info, CPU).predict(photograph()), expected)


def test_other_classes_keep_all_other_weights(predictor: Predictor, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
    swapped = predictor.with_classes(["a", "b", "c"])
    assert swapped.class_names == swapped.info.class_names == ("a", "b", "c")
    new = {
        f"{layer}.{part}"
        for layer in ("box_head.logits", "box_head.deltas", "mask_head.logits")
        for part in ("weight", "bias")
    }
    after = swapped.model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        if name in new:
            assert tensor.shape != before[name].shape
        else:
            assert torch.equal(tensor, before[name]), name
    assert len(after["box_head.logits.bias"]) == 4
    assert len(after["mask_head.logits.bias"]) == 3
    # the first one is untouched, and the copy predicts and saves
    assert all(torch.equal(tensor, before[name]) for name, tensor in predictor.model.state_dict().items())
    assert set(swapped.predict(photograph(), threshold=0.0).counts()) == {"a", "b", "c"}
    swapped.save(tmp_path / "swapped.safetensors")
    assert load(tmp_path / "swapped.safetensors").class_names == ("a", "b", "c")


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_classes_must_be_different_and_at_least_one(predictor: Predictor, names: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"class.names"):
        predictor.with_classes(names)


class Seeing(TorchBackend):
    seen: list[tuple[int, ...]]

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        self.seen = [*getattr(self, "seen", []), tuple(batch.tensor.shape)]
        return super().run(batch, limits)


def test_the_batch_is_padded_by_the_model_s_rule(predictor: Predictor) -> None:
    backend = Seeing(predictor.model, CPU)
    predictor.on(backend).predict(photograph(60, 50))
    assert backend.seen == [(1, 3, 96, 96)]
    assert ImageBatch.pad([torch.zeros(3, 90, 75)], RULES.divisor).tensor.shape == (1, 3, 96, 96)


def test_predict_fit_predict_shows_the_new_weights(predictor: Predictor) -> None:
    """Whoever trains the network of a predictor sees what it has become."""
    predictor = Predictor(copy.deepcopy(predictor.model), predictor.info, CPU)
    image = photograph(60, 50)
    assert len(predictor.predict(image, threshold=0.02)) > 0
    with torch.no_grad():
        for parameter in predictor.model.parameters():
            parameter.zero_()
    model = predictor.model
    with torch.no_grad():
        model.box_head.logits.bias[0] = 20.0  # all is background
    assert len(predictor.predict(image, threshold=0.02)) == 0


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_tiles_of_one_size_go_through_the_network_together(predictor: Predictor, at_once: int) -> None:
    rules = replace(predictor.info.input, scale=1.0, longest_side=64)
    tiled = Predictor(predictor.model, replace(predictor.info, input=rules), CPU)
    image = photograph(150, 128)
    expected = tiled.on(TorchBackend(tiled.model, CPU, "fp32")).predict(image)
    backend = TorchBackend(tiled.model, CPU, "fp32")
    backend.images_at_once = at_once
    sizes: list[int] = []
    run = backend.run
    backend.run = lambda batch, limits: sizes.append(len(batch)) or run(batch, limits)  # type: ignore[method-assign]
    found = tiled.on(backend).predict(image)
    assert max(sizes) <= at_once
    assert (len(sizes) == sum(sizes)) == (at_once == 1)
    assert len(list(tiled.prepared(image))) == sum(sizes) > 3
    assert len(found) == len(expected) > 3
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2, rtol=1e-3)
    assert found.masks is not None
    assert expected.masks is not None
    assert (found.masks.dense() != expected.masks.dense()).float().mean() < 1e-3


COMPUTED = ("pyramid.output.0", "rpn.objectness", "rpn.deltas", "box_head.logits", "box_head.deltas")
"""Parts of the network; the others make numbers of infinity, as they clamp."""

DAMAGED = (*COMPUTED, "backbone", "mask_head.logits")


@pytest.mark.parametrize("part", COMPUTED)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_computed_as_nan_is_no_empty_image(
    predictor: Predictor, part: str, precision: ComputePrecision
) -> None:
    huge = copy.deepcopy(predictor.model)
    with torch.no_grad():
        next(huge.get_submodule(part).parameters()).fill_(3e38).reshape(-1)[::2] *= -1  # inf - inf
    broken = Predictor(huge, predictor.info, CPU, backend=TorchBackend(huge, CPU, precision))
    with pytest.raises(ModelFileError, match=rf"not finite \(candidates, with torch in {precision}\)"):
        broken.predict(photograph(), threshold=0.0)


def test_an_output_that_is_nan_is_named(predictor: Predictor) -> None:
    backend = TorchBackend(predictor.model, CPU, "fp32")
    run = backend.run

    def spoiled(batch: ImageBatch, limits: Limits) -> Outputs:
        outputs = run(batch, limits)
        return outputs | {"masks": outputs["masks"].index_fill(0, torch.tensor([1]), torch.nan)}

    backend.run = spoiled  # type: ignore[method-assign]
    with pytest.raises(ModelFileError, match=r"not finite \(masks, with torch in fp32\)"):
        predictor.on(backend).predict(photograph())


@pytest.mark.parametrize("part", DAMAGED)
def test_weights_that_became_nan_are_named(predictor: Predictor, part: str) -> None:
    damaged = copy.deepcopy(predictor.model)
    broken = Predictor(damaged, predictor.info, CPU)
    broken.predict(photograph())
    with torch.no_grad():
        next(damaged.get_submodule(part).parameters()).reshape(-1)[0] = torch.nan
    with pytest.raises(ModelFileError, match=rf"the weights {part}.* are not finite"):
        broken.predict(photograph())
