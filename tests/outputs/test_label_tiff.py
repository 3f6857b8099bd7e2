import io

import numpy as np
import pytest
import tifffile
from masked import disc, masked
from PIL import Image

from halfpixel.outputs.label_tiff import STRIP_ROWS, label_tiff_bytes
from halfpixel.structures.masks import CropMasks

MASKS = masked(disc(6, (12, 14)), disc(6, (16, 14)), disc(8, (48, 38))).masks


def test_numbers_read_back() -> None:
    data = label_tiff_bytes(MASKS)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        labels = file.asarray()
        assert len(file.pages) == 1
        assert "XResolution" not in file.pages[0].tags or file.pages[0].resolutionunit == 1
    assert labels.dtype == np.uint32
    first, second, third = MASKS.dense().numpy()
    assert np.array_equal(labels == 1, first)
    assert np.array_equal(labels == 2, second & ~first)
    assert np.array_equal(labels == 3, third)
    assert data == label_tiff_bytes(MASKS)


def test_the_pixel_size_is_the_resolution() -> None:
    with tifffile.TiffFile(io.BytesIO(label_tiff_bytes(MASKS, 0.2495))) as file:
        page = file.pages[0]
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        assert [1e4 / value for value in page.resolution] == pytest.approx([0.2495] * 2, rel=1e-6)
    with Image.open(io.BytesIO(label_tiff_bytes(MASKS, 0.5))) as image:
        assert image.info["dpi"][0] == pytest.approx(25400 / 0.5)


def test_an_image_without_objects_is_background() -> None:
    assert not tifffile.imread(io.BytesIO(label_tiff_bytes(CropMasks.empty((7, 9))))).any()


def test_strips_make_the_whole() -> None:
    size_hw = (2 * STRIP_ROWS + 30, 130)
    places = ((12, 14), (60, STRIP_ROWS), (99, 2 * STRIP_ROWS))
    large = masked(*(disc(radius, xy, size_hw) for radius, xy in zip((6, 90, 60), places, strict=True)))
    labels = tifffile.imread(io.BytesIO(label_tiff_bytes(large.masks)))
    assert np.array_equal(labels, large.masks.label_image().numpy())
    assert set(np.unique(labels)) == {0, 1, 2, 3}
