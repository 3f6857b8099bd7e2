import numpy as np
import pytest
from drawing import dense, kinds, squares, write_array, write_picture
from PIL import Image

from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.formats.mask_folders import read_mask_folders
from halfpixel.data.formats.mask_values import read_mask
from halfpixel.errors import AnnotationError

ROWS, COLUMNS = np.mgrid[:120, :160]
DISCS = np.stack([np.hypot(COLUMNS - 50, ROWS - 60) < 30, np.hypot(COLUMNS - 120, ROWS - 60) < 20])


def with_border(size_hw=(64, 96), dtype=np.uint8):
    """Two objects with Pascal VOC's border around them."""
    labels = np.zeros(size_hw, dtype)
    labels[8:34, 8:34], labels[18:52, 48:92] = 255, 255
    labels[10:32, 10:32], labels[20:50, 50:90] = 1, 2
    return labels


def test_the_border_of_pascal_voc_is_neither_object_nor_background(tmp_path):
    labels = with_border()
    for k in range(2):
        write_picture(tmp_path / f"images/{k}.png", labels.shape)
        write_array(tmp_path / f"masks/{k}.png", labels)
    data = read_dataset(tmp_path)
    assert kinds(data) == ["void_region"] * 2
    for sample in data.samples:
        assert sample.objects.masks.areas_px().tolist() == [22 * 22, 30 * 40]
        np.testing.assert_array_equal(sample.ignored.masks.dense().numpy(), [labels == 255])


def test_the_border_is_ignored_for_every_class_of_a_semantic_mask(tmp_path):
    labels = with_border()
    write_picture(tmp_path / "images/a.png", labels.shape)
    write_array(tmp_path / "masks/a.png", labels)
    (sample,) = read_dataset(tmp_path, format="semantic").samples
    assert sample.objects.class_names == ("1", "2")
    assert sample.ignored.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(sample.ignored.masks.dense().numpy(), [labels == 255] * 2)


def test_an_object_may_be_number_255(tmp_path):
    labels = np.zeros((64, 96), np.uint8)
    labels[2:22, 2:22], labels[30:50, 40:60] = 1, 255
    assert read_mask(write_array(tmp_path / "apart.png", labels)).ignored is None
    counted = np.arange(64 * 4).reshape(16, 16).astype(np.uint8).repeat(4, 0).repeat(4, 1)  # 0 to 255, side by side
    values = read_mask(write_array(tmp_path / "counted.png", counted))
    assert (values.ignored, values.issues) == (None, ())
    np.testing.assert_array_equal(values.numbers, counted)
    wide = with_border(dtype=np.uint16)
    assert read_mask(write_array(tmp_path / "wide.png", wide)).ignored is None


def test_cityscapes_numbers(tmp_path):
    labels = np.full((64, 96), 7, np.uint16)
    labels[:20], labels[30:50, 10:30], labels[30:50, 40:60], labels[55:60, 70:80] = 23, 26000, 26001, 26
    write_picture(tmp_path / "images/a_leftImg8bit.png", labels.shape)
    write_array(tmp_path / "labels/a_gtFine_instanceIds.png", labels)
    data = read_dataset(tmp_path)
    (sample,) = data.samples
    assert kinds(data) == ["stuff_region"]
    np.testing.assert_array_equal(dense(sample), [labels == 26000, labels == 26001])
    np.testing.assert_array_equal(sample.ignored.masks.dense().numpy(), [labels == 26])
    other = np.zeros((64, 96), np.uint16)
    other[:9], other[20:30] = 7, 1000  # numbers of a microscope's counting
    np.testing.assert_array_equal(read_mask(write_array(tmp_path / "b.png", other)).numbers, other)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {"quality": 75}), (".webp", {"quality": 75})])
def test_black_and_white_masks_that_were_compressed(tmp_path, suffix, options, colour):
    white = (DISCS.any(axis=0) * 255).astype(np.uint8)
    for k in range(2):
        write_picture(tmp_path / f"images/{k}.png", white.shape)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.dstack([white] * 3) if colour else white).save(tmp_path / f"masks/{k}{suffix}", **options)
    data = read_dataset(tmp_path)
    assert kinds(data) == ["touching_objects", "soft_mask", "soft_mask"]
    for sample in data.samples:
        found = sorted(sample.objects.masks.areas_px().tolist())
        assert found == pytest.approx(sorted(DISCS.sum(axis=(1, 2)).tolist()), rel=0.01)


def test_masks_that_were_resized(tmp_path):
    large = Image.fromarray((DISCS.any(axis=0) * 255).astype(np.uint8)).resize((240, 180), Image.Resampling.BILINEAR)
    assert len(np.unique(np.asarray(large))) > 20
    write_picture(tmp_path / "images/a.png", (180, 240))
    write_array(tmp_path / "masks/a.png", np.asarray(large))
    data = read_dataset(tmp_path)
    found = sorted(data.samples[0].objects.masks.areas_px().tolist())
    assert found == pytest.approx([one * 2.25 for one in sorted(DISCS.sum(axis=(1, 2)).tolist())], rel=0.01)

    write_picture(tmp_path / "bowl/a/images/a.png", (180, 240))
    write_array(tmp_path / "bowl/a/masks/1.png", np.asarray(large))
    (sample,) = read_mask_folders(tmp_path / "bowl").samples
    assert sample.objects.masks.areas_px().tolist() == [sum(found)]


def test_numbers_are_not_read_from_a_jpeg(tmp_path):
    labels = np.zeros((64, 96), np.uint8)
    labels[2:22, 2:22], labels[30:50, 40:60] = 40, 90
    Image.fromarray(labels).save(tmp_path / "a.jpg")
    with pytest.raises(AnnotationError, match=r"a\.jpg: the numbers of objects do not survive in a JPEG"):
        read_mask(tmp_path / "a.jpg")
    Image.fromarray(labels * 0).save(tmp_path / "b.jpg")
    assert not read_mask(tmp_path / "b.jpg").numbers.any()


def test_small_objects_are_no_soft_edges(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 96), np.uint8)
    for number in range(1, 256):  # thin lines, 255 as many as any
        x, y = rng.integers(0, 88), rng.integers(0, 64)
        labels[y, x : x + 8] = number
    values = read_mask(write_array(tmp_path / "a.png", labels))
    np.testing.assert_array_equal(values.numbers, labels)
    assert squares((1, 1)).any()
