from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfpixel.data.checks.fingerprint import LUMA, _cell_means, find_repeats, fingerprint
from halfpixel.data.images.rgb8 import read_image


def scene(seed: int, size_hw: tuple[int, int] = (120, 150)) -> np.ndarray:
    """A dark picture with bright discs, as of nuclei."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    picture = np.full(size_hw, 6.0)
    for _ in range(15):
        row, column, radius = rng.uniform(0, size_hw[0]), rng.uniform(0, size_hw[1]), rng.uniform(5, 12)
        picture[np.hypot(y - row, x - column) < radius] = rng.uniform(40, 90)
    picture += rng.normal(0, 1.5, size_hw)
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def stored_anew(image: np.ndarray, scale: float = 1, quality: int = 75, gain: float = 1) -> np.ndarray:
    picture = Image.fromarray((image * gain).clip(0, 255).astype(np.uint8))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_copies_are_found_and_others_are_not() -> None:
    originals = [scene(seed) for seed in range(8)]
    copies = [
        originals[3].copy(),
        stored_anew(originals[5], quality=40),
        stored_anew(originals[0], scale=0.5),
        stored_anew(originals[6], scale=2.3),
        stored_anew(originals[1], gain=2.5),
    ]
    repeats = find_repeats([fingerprint(image) for image in originals + copies])
    assert repeats == [(3, 8), (5, 9), (0, 10), (6, 11), (1, 12)]


def test_what_all_pictures_of_a_microscope_share_does_not_make_them_one() -> None:
    y, x = np.mgrid[:120, :150]
    lamp = 200 - 0.02 * ((y - 60) ** 2 + (x - 75) ** 2)  # bright in the middle
    pictures = [(lamp - 0.3 * scene(seed)[..., 0]).clip(0, 255).astype(np.uint8) for seed in range(6)]
    assert np.corrcoef([one.ravel() for one in pictures])[0, 1] > 0.9
    assert find_repeats([fingerprint(np.repeat(one[..., None], 3, axis=2)) for one in pictures]) == []


@pytest.mark.parametrize("value", [0, 100, 255])
def test_blank_pictures_are_known_by_nothing(value: int) -> None:
    assert fingerprint(np.full((50, 60, 3), value, dtype=np.uint8)) is None
    y, x = np.mgrid[:80, :80]
    slope = np.repeat((y + x).astype(np.uint8)[..., None], 3, axis=2)
    assert find_repeats([None, fingerprint(slope), None]) == []
    assert find_repeats([]) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (5, 3), (31, 33)])
def test_tiny_pictures(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    one = fingerprint(image)
    assert find_repeats([one, one]) == ([(0, 1)] if one is not None else [])


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 40), (16, 17), (61, 35)])
def test_cells_against_plain_means(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    grey = image @ np.array(LUMA)
    found = _cell_means(image, 16, 17)
    assert found.shape == (16, 17)
    for i in range(16):
        for j in range(17):
            top, left = i * size_hw[0] // 16, j * size_hw[1] // 17
            bottom, right = (max((k + 1) * side // n, k * side // n + 1) for k, side, n in
                             ((i, size_hw[0], 16), (j, size_hw[1], 17)))  # fmt: skip
            assert found[i, j] == pytest.approx(grey[top:bottom, left:right].mean(), rel=1e-12)


def test_real_nuclei_have_no_repeats(shared_data: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "images").glob("*.png"))[:20]
    images = [read_image(path) for path in paths]
    assert find_repeats([fingerprint(image) for image in images]) == []
    again = [stored_anew(image, scale=0.5) for image in images]
    repeats = find_repeats([fingerprint(image) for image in images + again])
    assert repeats == [(k, 20 + k) for k in range(20)]
