import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, kinds, squares, write_picture

from halfpixel.data.formats.data_yaml import read_names
from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.formats.yolo import label_file_of, read_yolo, splits_of
from halfpixel.errors import AnnotationError


def line(number, x, y, side=5):
    corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    return " ".join([str(number), *(f"{u / WIDTH} {v / HEIGHT}" for u, v in corners)])


def write_labels(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


@pytest.fixture
def splits(tmp_path):
    for name in ("train/10", "train/2", "val/a"):
        write_picture(tmp_path / f"images/{name}.png")
    write_labels(tmp_path / "labels/train/2.txt", line(1, 1, 2), line(0, 20, 9), "")
    write_labels(tmp_path / "labels/val/a.txt", line(0, 3, 3))
    (tmp_path / "data.yaml").write_text("names:\n  0: cell\n  1: 'größe'\n", encoding="utf-8")
    return tmp_path


def test_a_data_set_and_its_splits(splits):
    for path in (splits, splits / "data.yaml"):
        data = read_yolo(path)
        assert [sample.path.stem for sample in data.samples] == ["2", "10", "a"]
        assert (data.class_names, data.warnings) == (("cell", "größe"), ())
    for path in (splits / "images/train", splits / "labels/train"):
        data = read_yolo(path)
        first, background = data.samples
        assert data.class_names == ("cell", "größe")
        assert first.objects.labels.tolist() == [1, 0]
        np.testing.assert_array_equal(dense(first), squares((1, 2), (20, 9)))
        assert (background.path.stem, len(background.objects)) == ("10", 0)


def test_images_elsewhere_and_folders_by_split(tmp_path):
    write_picture(tmp_path / "pictures/a.png")
    write_labels(tmp_path / "text/labels/a.txt", line(0, 1, 1))
    write_labels(tmp_path / "text/classes.txt", "cell")
    data = read_yolo(tmp_path / "text", tmp_path / "pictures")
    assert (data.class_names, data.warnings) == (("cell",), ())
    assert len(data.samples[0].objects) == 1

    write_picture(tmp_path / "robo/valid/images/a.png")
    write_labels(tmp_path / "robo/valid/labels/a.txt", line(0, 1, 1))
    (tmp_path / "robo/data.yaml").write_text("names: [cell]")
    for path in ("robo", "robo/valid"):
        assert len(read_yolo(tmp_path / path).samples[0].objects) == 1


def test_what_cannot_be_used_is_named_and_left_out(splits):
    lines = (
        line(0, 1, 1),
        "0 .5 .5 .1 .1",
        "0 .1 .1 .2 .2 .3",
        "x .1 .1 .2 .2 .3 .3",
        "0 .1 .1 .2 nan .3 .3",
        line(2, 1, 1),
        line(0, 40, 1),
        "0 1 1 20 1 20 20",
    )
    write_labels(splits / "labels/train/10.txt", *lines)
    write_labels(splits / "labels/train/nobody.txt", line(0, 1, 1))
    (splits / "labels/train/2.txt").write_bytes(b"\xff\xfe\x00")
    (splits / "images/val/a.png").write_bytes(b"broken")
    data = read_yolo(splits)
    (sample,) = data.samples
    assert len(sample.objects) == 1
    told = [(issue.kind, issue.path.name, issue.where) for issue in data.warnings]
    assert sorted(told) == [
        ("annotation_without_image", "nobody.txt", ""),
        ("box_without_outline", "10.txt", "line 2"),
        ("empty_mask", "10.txt", "line 7"),
        ("unknown_category", "10.txt", "line 6"),
        ("unusable_file", "2.png", ""),
        ("unusable_file", "a.png", ""),
        ("unusable_polygon", "10.txt", "line 3"),
        ("unusable_polygon", "10.txt", "line 4"),
        ("unusable_polygon", "10.txt", "line 5"),
        ("unusable_polygon", "10.txt", "line 8"),
    ]
    assert "no outline" in next(str(issue) for issue in data.warnings if issue.kind == "box_without_outline")


def test_classes_without_names(splits):
    (splits / "data.yaml").unlink()
    write_labels(splits / "labels/train/10.txt", line(10, 1, 1), line(2, 9, 9))
    data = read_yolo(splits)
    assert data.class_names == ("0", "1", "2", "10")
    assert kinds(data) == ["no_class_names"]
    assert [data.class_names[k] for k in data.samples[1].objects.labels] == ["10", "2"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("names: {", "broken YAML"),
        ("train: x", "'names' must be"),
        ("names: {a: b}", "'names' must be"),
        ("names: !!python/object/apply:os.getcwd []", "broken YAML"),
        ("names: [a, a]", "two classes are called 'a'"),
        ("a: &a [x]\nnames: [*a, *a]", "broken YAML"),
        ("a: &a [x]\nb: {<<: *a}\nnames: [x]", "broken YAML"),
        ("names: [[x], y]", "'names' must be texts"),
        ("names: {" + "9" * 500 + ": x}", "'names' must be"),
        ("names: &a [*a]", "broken YAML"),
        ("names: " + "[" * 5000, "broken YAML"),
        ("names: [x]\ntrain: {a: b}", "'train' must be a folder"),
    ],
)
def test_broken_names(tmp_path, content, what):
    file = tmp_path / "data.yaml"
    file.write_text(content)
    with pytest.raises(AnnotationError, match=rf"data\.yaml: {what}"):
        read_names(file)


def test_names_are_the_text_that_they_are(tmp_path):
    file = tmp_path / "data.yaml"
    file.write_bytes("\ufeffnames: [no, 1.0, 2001-99-99, ~, größe]".encode())
    assert list(read_names(file).values()) == ["no", "1.0", "2001-99-99", "~", "größe"]


def test_what_windows_and_numpy_write(tmp_path):
    write_picture(tmp_path / "images/a.png")
    write_labels(tmp_path / "labels/a.txt")
    text = f"{line('0.0', 1, 1)}\r\n{line(1, 9, 9)}\r\n"
    (tmp_path / "labels/a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    data = read_yolo(tmp_path)
    assert (data.class_names, data.warnings) == (("cat", "dog"), ())
    assert data.samples[0].objects.labels.tolist() == [0, 1]


@pytest.mark.parametrize("word", ["9" * 5000, "0.5", "-1", "²"])
def test_what_is_no_class_number(tmp_path, word):
    write_picture(tmp_path / "images/a.png")
    write_labels(tmp_path / "labels/a.txt", line(word, 1, 1), line(0, 9, 9))
    assert kinds(read_yolo(tmp_path)) == ["no_class_names", "unusable_polygon"]


def names_of(data):
    return [sample.path.stem for sample in data.samples]


@pytest.mark.parametrize(
    "layout",
    [
        "train: {0}/images/train\nval: {0}/images/val",
        "path: {0}\ntrain: images/train\nval: [images/val]",
        "path: ../else\ntrain: images/train\nval: images/val",  # not there: beside the file
        "train: ../images/train\nval: ../images/val",  # Roboflow
        "path: .\ntrain: train.txt\nval: lists/val.txt",
        "train: /content/set/images/train\nval: /content/set/images/val",
    ],
)
def test_the_splits_of_a_yaml_file_are_followed(splits, layout):
    (splits / "lists").mkdir()
    (splits / "train.txt").write_text("./images/train/2.png\nimages/train/10.png\n\n")
    (splits / "lists/val.txt").write_text("data/images/val/a.png\n")
    (splits / "data.yaml").write_text(f"names: [cell, b]\n{layout.format(splits)}\n")
    assert splits_of(splits) == splits_of(splits / "data.yaml") == ("train", "val")
    for path in (splits, splits / "data.yaml"):
        data = read_yolo(path)
        assert names_of(data) == ["2", "10"]
        assert [str(one) for one in data.warnings] == [
            f"{splits / 'data.yaml'}: took 'train' (2 images), not 'val'",
        ]
        assert [len(sample.objects) for sample in data.samples] == [2, 0]
        val = read_yolo(path, split="val")
        assert names_of(val) == ["a"]
        assert len(val.samples[0].objects) == 1
        assert val.warnings[0].what == "took 'val' (1 image), not 'train'"
    assert "took 'train'" in read_yolo(splits, split="test").warnings[0].what
    assert splits_of(splits / "images/train") == ()


def test_a_split_in_several_folders_and_without_others(splits):
    (splits / "data.yaml").write_text("names: [cell, b]\ntrain: [images/val, images/train]")
    data = read_yolo(splits)
    assert names_of(data) == ["a", "2", "10"]
    assert data.warnings == ()


def test_a_split_that_is_not_there_or_unclear_is_an_error(splits):
    (splits / "data.yaml").write_text("names: [cell, b]\ntrain: images/gone")
    with pytest.raises(AnnotationError, match=r"data\.yaml: 'train: images/gone': there is no "):
        read_yolo(splits)
    assert len(read_yolo(splits, splits / "images").samples) == 3  # as the folder of the images was given
    inner = splits / "images"
    write_picture(inner / "images/train/z.png")
    (inner / "data.yaml").write_text("names: [cell, b]\ntrain: ../images/train")
    with pytest.raises(AnnotationError, match=r"'train: \.\./images/train' could be .* and "):
        read_yolo(inner / "data.yaml")


def test_a_text_file_of_names_is_a_data_set(splits):
    (splits / "some.txt").write_text("images/val/a.png\nC:\\set\\images\\train\\2.png\nimages/val/gone.png\n")
    data = read_dataset(splits / "some.txt")
    assert names_of(data) == ["a", "2"]
    assert (data.class_names, kinds(data)) == (("cell", "größe"), ["unusable_file"])


def test_labels_lie_beside_the_last_folder_of_images(tmp_path):
    image = tmp_path / "images" / "images" / "sub" / "images.png"
    assert label_file_of(image) == tmp_path / "images" / "labels" / "sub" / "images.txt"
    assert label_file_of(tmp_path / "x.png") == tmp_path / "x.txt"
