import numpy as np
import pytest
import tifffile
from drawing import HEIGHT, WIDTH, dense, kinds, squares, write_array, write_picture
from PIL import Image

from halfpixel.data.formats.label_images import read_label_images
from halfpixel.errors import AnnotationError

MASKS = squares((1, 1), (8, 3), (20, 15))


def labels_with(*numbers, dtype=np.int64):
    labels = np.zeros((HEIGHT, WIDTH), dtype)
    for number, mask in zip(numbers, MASKS, strict=True):
        labels[mask] = number
    return labels


@pytest.mark.parametrize(
    ("suffix", "dtype", "numbers"),
    [
        (".png", np.uint8, (1, 7, 255)),
        (".png", np.uint16, (1, 257, 65535)),  # in 8 bits, 1 and 257 would be the same
        (".tif", np.uint16, (1, 257, 65535)),
        (".tif", np.int32, (1, 65537, 2_000_000_000)),
        (".tif", np.uint32, (1, 65537, 4_000_000_000)),
    ],
)
def test_numbers_are_read_without_loss(tmp_path, suffix, dtype, numbers):
    write_picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    file = tmp_path / "masks" / f"a{suffix}"
    labels = labels_with(*numbers, dtype=dtype)
    tifffile.imwrite(file, labels) if suffix == ".tif" else Image.fromarray(labels).save(file)
    data = read_label_images(tmp_path)
    assert (data.class_names, data.warnings) == (("object",), ())
    np.testing.assert_array_equal(dense(data.samples[0]), MASKS)


def test_pieces_of_one_number_are_one_object_and_negative_ones_none(tmp_path):
    write_picture(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", labels_with(4, 4, -1, dtype=np.int32))
    (sample,) = read_label_images(tmp_path).samples
    np.testing.assert_array_equal(dense(sample), [MASKS[0] | MASKS[1]])


def test_the_indices_of_a_palette_are_the_numbers(tmp_path):
    write_picture(tmp_path / "a.png")
    image = Image.fromarray(labels_with(1, 2, 3, dtype=np.uint8), mode=None).convert("P")
    image.putpalette([0, 0, 0] + [255, 0, 0] * 255)  # all colours are the same
    image.putdata(labels_with(1, 2, 3, dtype=np.uint8).ravel().tolist())
    image.save(tmp_path / "a_masks.png")
    np.testing.assert_array_equal(dense(read_label_images(tmp_path).samples[0]), MASKS)


def test_how_images_and_masks_are_paired(tmp_path):
    labels = labels_with(1, 2, 3, dtype=np.uint8)
    for name in ("10.tif", "2.png", "3_img.png", "lonely.png"):
        write_picture(tmp_path / "one" / name)
    for name in ("10_masks.png", "2_cp_masks.png", "3_masks.png", "4_masks.png"):
        write_array(tmp_path / "one" / name, labels)
    data = read_label_images(tmp_path / "one")
    assert [sample.path.name for sample in data.samples] == ["2.png", "3_img.png", "10.tif"]
    assert [(issue.kind, issue.path.name) for issue in data.warnings] == [
        ("image_without_annotation", "lonely.png"),
        ("annotation_without_image", "4_masks.png"),
    ]

    for name in ("images/sub/a.png", "images/b.png"):
        write_picture(tmp_path / "two" / name)
    for name in ("labels/sub/a.png", "labels/b_masks.png"):
        write_array(tmp_path / "two" / name, labels)
    data = read_label_images(tmp_path / "two")
    assert [sample.path.name for sample in data.samples] == ["b.png", "a.png"]
    assert data.warnings == ()

    data = read_label_images(tmp_path / "two" / "labels", tmp_path / "two" / "images")
    assert [len(sample.objects) for sample in data.samples] == [3, 3]


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    for name in "abcdef":
        write_picture(tmp_path / "images" / f"{name}.png")
    labels = labels_with(1, 2, 3, dtype=np.uint8)
    (tmp_path / "masks").mkdir()
    write_array(tmp_path / "masks/a.png", labels)
    write_array(tmp_path / "masks/b.png", np.stack([labels, labels, labels * 2], axis=2))
    write_array(tmp_path / "masks/c.png", labels[:-1])
    tifffile.imwrite(tmp_path / "masks/d.tif", labels / np.float32(2))
    tifffile.imwrite(tmp_path / "masks/e.tif", np.stack([labels] * 2), photometric="minisblack")
    (tmp_path / "masks/f.png").write_bytes(b"nothing")
    data = read_label_images(tmp_path)
    assert len(data.samples) == 1
    assert kinds(data) == ["unusable_file"] * 5
    for issue, what in zip(
        data.warnings,
        ("b.png: 3 channels", "c.png: 32 x 23 pixels", "float32 with fractions", "stack", "f.png: not an image"),
        strict=True,
    ):
        assert what in issue.what
    (tmp_path / "masks/a.png").unlink()
    with pytest.raises(AnnotationError, match="none of its 5 images can be used"):
        read_label_images(tmp_path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.tif", lambda path, labels: tifffile.imwrite(path, labels.astype(np.float32))),
        ("a.tif", lambda path, labels: tifffile.imwrite(path, labels.astype(np.float64))),
        ("a.tif", lambda path, labels: tifffile.imwrite(path, labels)),
        ("a.tif", lambda path, labels: tifffile.imwrite(path, labels[None].astype(np.uint16), imagej=True)),
        ("a.tif", lambda path, labels: tifffile.imwrite(path, labels[None, None].astype(np.uint16))),
        ("a.png", lambda path, labels: write_array(path, np.dstack([labels.astype(np.uint8)] * 3))),
        ("a.png", lambda path, labels: write_array(path, np.dstack([labels.astype(np.uint8)] * 3 + [labels > 0]))),
        ("a.png", lambda path, labels: write_array(path, np.dstack([labels.astype(np.uint8)] * 2))),
    ],
)
def test_whole_numbers_however_they_are_stored(tmp_path, name, write):
    write_picture(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks" / name, labels_with(1, 2, 200))
    data = read_label_images(tmp_path)
    assert data.warnings == ()
    np.testing.assert_array_equal(dense(data.samples[0]), MASKS)


def test_an_image_that_its_exif_data_turns(tmp_path):
    picture = Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    write_array(tmp_path / "a_masks.png", labels_with(1, 2, 3, dtype=np.uint8))
    data = read_label_images(tmp_path)
    assert data.samples[0].size_hw == (HEIGHT, WIDTH)
