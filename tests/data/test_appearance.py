"""An image in ten numbers, against loops."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from halfpixel.data.images.appearance import LEAST_CONTRAST, OCTAVES, appearance
from halfpixel.data.images.prepare import prepare
from halfpixel.structures.images import InputRules

RULES = InputRules(scale=1.0)


def seen(
    image: npt.NDArray[np.uint8], rules: InputRules = RULES, cell_px: float = 8.0, octaves: float = 0.0
) -> tuple[float, ...]:
    return appearance(prepare(image, rules)[0], rules, cell_px, octaves)


def coloured(seed: int, size_hw: tuple[int, int] = (128, 192)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def halved(level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width = level.shape
    return level.reshape(height // 2, 2, width // 2, 2).mean((1, 3))


def enlarged(level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Twice as large, between the two nearest centres along each axis."""
    for axis in (0, 1):
        length = level.shape[axis]
        places = np.clip((np.arange(2 * length) + 0.5) / 2 - 0.5, 0, length - 1)
        low = np.floor(places).astype(int)
        share = np.expand_dims(places - low, 1 - axis)
        level = level.take(low, axis) * (1 - share) + level.take(np.minimum(low + 1, length - 1), axis) * share
    return level


def by_loops(image: npt.NDArray[np.uint8], cell: int) -> list[float]:
    height, width = image.shape[:2]
    cells = image.reshape(height // cell, cell, width // cell, cell, 3).mean((1, 3)) / 255
    red, green, blue = np.moveaxis(cells, 2, 0)
    brightness = (red + green + blue) / 3
    level, bands = brightness, []
    for _ in range(OCTAVES):
        bands.append(level - enlarged(halved(level)))
        level = halved(level)
    channels = [brightness, red - green, blue - (red + green) / 2]
    contrasts = [math.log(one.std() + LEAST_CONTRAST) for one in (*bands, *channels)]
    return contrasts + [float(one.mean()) for one in channels]


@pytest.mark.parametrize("cell", [8, 4])
def test_against_loops(cell: int) -> None:
    for seed in range(3):
        image = coloured(seed)
        np.testing.assert_allclose(seen(image, cell_px=cell, octaves=-0.5), [*by_loops(image, cell), -0.5], atol=2e-5)


def test_it_is_the_same_for_every_network() -> None:
    """Whatever it subtracts and divides by."""
    image = coloured(3)
    other = InputRules(mean=(0.0, 0.5, 0.1), std=(1.0, 0.1, 0.5), scale=1.0)
    np.testing.assert_allclose(seen(image), seen(image, other), atol=2e-5)


def test_size_by_itself_makes_little_difference() -> None:
    """Once the network sees objects at one size."""
    cells = np.random.default_rng(4).integers(40, 216, (12, 16, 3), dtype=np.uint8)
    large = cells.repeat(16, 0).repeat(16, 1)
    small = cells.repeat(8, 0).repeat(8, 1)
    np.testing.assert_allclose(seen(large), seen(small, InputRules(scale=2.0)), atol=0.15)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 40), (8, 8), (17, 9)], ids=str)
def test_small_images(size_hw: tuple[int, int]) -> None:
    numbers = seen(coloured(5, size_hw))
    assert len(numbers) == 10
    assert all(map(math.isfinite, numbers))


def test_an_image_without_contrast() -> None:
    numbers = seen(np.full((64, 64, 3), (255, 0, 51), dtype=np.uint8))
    np.testing.assert_allclose(numbers[:6], [math.log(LEAST_CONTRAST)] * 6, atol=1e-3)
    np.testing.assert_allclose(numbers[6:], [0.4, 1.0, -0.3, 0.0], atol=1e-5)


def test_threads_give_the_same() -> None:
    prepared = prepare(coloured(6), RULES)[0]
    with torch.inference_mode():
        assert appearance(prepared, RULES, 8.0) == appearance(prepared.contiguous(), RULES, 8.0)
