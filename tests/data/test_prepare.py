"""Preparing images, against torchvision's own transform."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from halfpixel.data.images import prepare as preparing
from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.prepare import (
    exposure_gain,
    halved,
    network_size,
    normalise,
    prepare,
    prepare_batch,
    to_float,
)
from halfpixel.structures.images import ImageBatch, InputRules

RULES = InputRules()
SMALL = InputRules(shortest_side=80, longest_side=133)
ROUNDING = 2e-6
"""Of float32: normalised values go up to 2.6."""


def transform(rules: InputRules) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(rules.shortest_side, rules.longest_side, list(rules.mean), list(rules.std)).eval()


def random_sizes(n: int, most: int) -> list[tuple[int, int]]:
    generator = torch.Generator().manual_seed(0)
    return [tuple(size) for size in torch.randint(8, most, (n, 2), generator=generator).tolist()]


@pytest.mark.parametrize("size_hw", [(480, 640), (640, 480), (800, 1333), (500, 333), *random_sizes(30, 300)])
def test_pixels_and_sizes_equal_torchvision(size_hw: tuple[int, int]) -> None:
    # a tenth of the published size: the same arithmetic on fewer pixels
    image = np.random.default_rng(size_hw[0]).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    expected, _ = transform(SMALL)([torch.from_numpy(image).permute(2, 0, 1) / 255])
    found, size = prepare(image, SMALL)
    assert size.network_hw == expected.image_sizes[0] == tuple(found.shape[1:])
    assert size.original_hw == size_hw
    batch = ImageBatch.pad([found], SMALL.divisor)
    torch.testing.assert_close(batch.tensor, expected.tensors, atol=ROUNDING, rtol=0)
    alone, _ = prepare_batch(image, SMALL)
    assert torch.equal(alone.tensor, batch.tensor)
    assert torch.equal(alone.sizes_hw, batch.sizes_hw)


@pytest.mark.parametrize("scale", [0.07, 0.3, 0.5, 0.9, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_every_scale_equals_torch_s_interpolation(scale: float, gain: float) -> None:
    rules = InputRules(scale=scale)
    image = np.random.default_rng(1).integers(0, 256, (83, 131, 3), dtype=np.uint8)
    batch, size = prepare_batch(image, rules, gain)
    expected = interpolate(normalise(to_float(image, gain), rules)[None], size.network_hw, mode="bilinear")
    height, width = size.network_hw
    torch.testing.assert_close(batch.tensor[..., :height, :width], expected, atol=ROUNDING, rtol=0)
    assert [side % 16 for side in batch.tensor.shape[2:]] == [0, 0]
    assert not batch.tensor[..., height:, :].any()
    assert not batch.tensor[..., width:].any()
    assert batch.tensor.is_contiguous(memory_format=torch.channels_last)


def test_positions_in_a_large_image_are_torch_s() -> None:
    """Far from the corner, float32 leaves two binary digits less than it seems: they must be the same ones."""
    image = np.zeros((9, 9001, 3), np.uint8)
    image[:, ::2] = 255
    rules = InputRules(scale=1.3)
    found, size = prepare(image, rules)
    expected = interpolate(normalise(to_float(image), rules)[None], size.network_hw, mode="bilinear")[0]
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("scale", [0.2, 1.0, 2.3])
def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    image = np.random.default_rng(2).integers(0, 99, (57, 41, 3), dtype=np.uint8)
    rules = InputRules(scale=scale, stretch_below=0.5)
    expected, _ = prepare_batch(image, rules)
    for block_px in (1, 41, 500, 10**9):
        monkeypatch.setattr(preparing, "ROW_BLOCK_PX", block_px)
        assert torch.equal(prepare_batch(image, rules)[0].tensor, expected.tensor)


def test_views_and_read_only_pixels() -> None:
    whole = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    window = whole[10:50:2, 60:5:-1]
    window.flags.writeable = False
    expected, _ = prepare_batch(np.array(window), SMALL)
    assert torch.equal(prepare_batch(window, SMALL)[0].tensor, expected.tensor)
    assert exposure_gain(window, 0.9) == exposure_gain(np.array(window), 0.9)


def test_published_sizes_equal_torchvision() -> None:
    for size_hw in [(480, 640), (427, 640), (640, 427), (333, 500), (1333, 800), (375, 500)]:
        expected, _ = transform(RULES)([torch.zeros(3, *size_hw)])
        assert network_size(size_hw, RULES)[1] == expected.image_sizes[0]
    assert network_size((480, 640), RULES)[1] == (800, 1066)


def test_a_factor_instead_of_a_side() -> None:
    assert network_size((100, 200), InputRules(scale=3.0)) == (3.0, (300, 600))
    assert network_size((100, 500), InputRules(scale=3.0, longest_side=1000)) == (3.0, (300, 1500))
    assert network_size((1, 30000), RULES)[1] == (1, 1333)


def test_an_image_of_one_pixel() -> None:
    found, size = prepare(np.full((1, 1, 3), 255, np.uint8), InputRules(scale=3.0))
    assert found.shape == (3, 3, 3)
    assert size == ((1, 1), (3, 3))


def test_normalising() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1] = 255
    found = normalise(to_float(image), RULES)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([-0.485 / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225]))


def dim(brightest: float) -> Rgb8:
    values = np.random.default_rng(0).random((60, 60, 3)) * brightest
    values[0, 0, 0] = 1  # one hot pixel does not count
    return (values * 255).round().astype(np.uint8)


def test_a_dim_image_is_brightened() -> None:
    image = dim(0.1)
    factor = exposure_gain(image, 0.5)
    brightened = to_float(image, factor)
    assert float(np.quantile(brightened.numpy(), 0.999)) == pytest.approx(0.5, abs=0.005)
    assert brightened.max() == 1
    plain = to_float(image)
    torch.testing.assert_close(brightened[plain < 0.1], plain[plain < 0.1] * factor)


@pytest.mark.parametrize("seed", range(5))
def test_the_percentile_is_the_sorted_value(seed: int) -> None:
    image = (np.random.default_rng(seed).random((7 + seed, 90, 3)) ** 4 * 60).astype(np.uint8)
    values = np.sort(image.ravel())
    assert exposure_gain(image, 0.5) == pytest.approx(0.5 / (values[round(0.999 * len(values)) - 1] / 255))


def test_a_bright_or_black_image_stays() -> None:
    for image, below in [(dim(0.8), 0.5), (dim(0.1), 0.0), (np.zeros((5, 5, 3), np.uint8), 0.5)]:
        assert exposure_gain(image, below) == 1


def test_preparing_brightens_before_it_normalises() -> None:
    image = dim(0.1)
    rules = InputRules(scale=1.0, stretch_below=0.5)
    expected = normalise(to_float(image, exposure_gain(image, 0.5)), rules)
    torch.testing.assert_close(prepare(image, rules)[0], expected)
    window = image[20:40, 20:40] // 2  # a window takes the gain of the whole
    torch.testing.assert_close(prepare(window, rules, 2.5)[0], normalise(to_float(window, 2.5), rules))


@pytest.mark.parametrize(
    ("size_hw", "fits_hw"),
    [
        ((480, 640), (384, 512)),
        ((100, 1000), (64, 640)),
        ((427, 640), (384, 576)),
        ((1333, 7), (384, 2)),
        ((1, 999), (1, 640)),
    ],
)
def test_an_image_fits_inside_the_only_size_there_is(size_hw: tuple[int, int], fits_hw: tuple[int, int]) -> None:
    rules = InputRules(exact_hw=(384, 640))
    factor, found_hw = network_size(size_hw, rules)
    assert found_hw == fits_hw
    assert factor == min(384 / size_hw[0], 640 / size_hw[1])
    assert network_size(size_hw, replace(rules, stretch=True)) == (factor, (384, 640))
    assert network_size(size_hw, replace(rules, scale=2.0))[1] == (2 * size_hw[0], 2 * size_hw[1])


@pytest.mark.parametrize("size_hw", [(2, 2), (5, 7), (191, 636), (1040, 1389)])
def test_half_the_size(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    height, width = (side // 2 for side in size_hw)
    means = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean((1, 3))
    assert np.array_equal(halved(image), np.floor(means + 0.5).astype(np.uint8))
