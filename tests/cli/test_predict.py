import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from calling import Halfpixel
from PIL import Image

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.jobs.image_names import Names, output_names, output_stems
from halfpixel.outputs import pictures

ALL = "coco,overlay,labels,table,cutouts"
Noise = Callable[..., Path]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_written_and_fits_together(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    for folder in ("a", "b"):  # one stem twice
        noise(tmp_path / folder / "cells.png", seed=ord(folder))
    out = tmp_path / "out"
    ran = halfpixel(
        "predict", tmp_path / "a", tmp_path / "b" / "*.png", "--model", tiny_model, "--out", out, "--save", ALL
    )
    assert (ran.code, ran.err) == (0, "")
    assert str(tiny_model) in ran.out
    assert "at least 0.3" in ran.out

    predicted = read_coco(out / "instances.json")
    content = json.loads((out / "instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a/cells.png", "b/cells.png"]
    rows = rows_of(out / "objects.csv")
    assert len(rows) == len(content["annotations"]) > 2
    assert f"{len(rows)} objects on 2 images" in ran.out

    for sample, name in zip(predicted.samples, ("a/cells", "b/cells"), strict=True):
        mine = [row for row in rows if row["image"] == f"{name}.png"]
        masks = sample.objects.masks
        assert masks is not None
        dense = masks.dense().numpy()
        assert [int(row["object"]) for row in mine] == list(range(1, len(dense) + 1))
        assert [int(row["area_px"]) for row in mine] == dense.sum((1, 2)).tolist()
        for row, mask in zip(mine, dense, strict=True):
            y, x = np.nonzero(mask)
            assert float(row["centroid_x_px"]) == pytest.approx(x.mean() + 0.5, abs=0.006)
            assert float(row["centroid_y_px"]) == pytest.approx(y.mean() + 0.5, abs=0.006)
            assert float(row["left_px"]) - 1 < x.min() <= x.max() < float(row["right_px"]) + 1
        labels = tifffile.imread(out / "labels" / f"{name}.tif")
        assert labels.dtype == np.uint32
        assert labels.shape == (40, 48)
        assert (labels[dense[0]] == 1).all()  # the best object lies on top
        cutouts = sorted((out / "cutouts" / name).iterdir())
        assert [path.name for path in cutouts] == [f"{k:04d}.png" for k in range(1, len(mine) + 1)]
        with Image.open(cutouts[0]) as cutout:
            assert cutout.mode == "RGBA"
            assert np.count_nonzero(np.asarray(cutout)[..., 3]) == dense[0].sum()
        assert read_image(out / "overlay" / f"{name}.png").shape[1] == 48 * 8


def test_results_are_kept_unless_told_otherwise(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    image, out = noise(tmp_path / "cells.png"), tmp_path / "out"
    arguments = ("predict", image, "--model", tiny_model, "--out", out, "--save", "coco,cutouts")
    assert halfpixel(*arguments).code == 0
    before = (out / "instances.json").read_bytes()
    ran = halfpixel(*arguments, "--limit", 2)
    assert ran.code == 2
    assert ran.err == (
        f"halfpixel: error: {out / 'instances.json'} exists already; choose another --out, or say --overwrite\n"
    )
    assert (out / "instances.json").read_bytes() == before
    assert len(list((out / "cutouts" / "cells").iterdir())) > 2
    assert halfpixel(*arguments, "--limit", 2, "--overwrite").code == 0
    assert len(json.loads((out / "instances.json").read_text())["annotations"]) <= 2
    left = sorted(path.name for path in (out / "cutouts" / "cells").iterdir())
    assert left == ["0001.png", "0002.png"][: len(left)]
    assert not list(out.rglob(".*"))


def test_odd_images(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "exif.jpg", exif=exif)
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("1").save(folder / "onebit.png")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 99).save(folder / "sixteen.png")
    tifffile.imwrite(folder / "float.tif", rgb[..., 0].astype(np.float32) * 3.7)
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    Image.fromarray(rgb[:1, :1]).save(folder / "pixel.png")
    Image.fromarray(np.zeros((20, 30_000), dtype=np.uint8)).save(folder / "long.png")
    not_a_number = rgb[..., 0].astype(np.float32)
    not_a_number[3, 4] = np.nan
    tifffile.imwrite(folder / "nan.tif", not_a_number)
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").touch()
    (folder / "truncated.png").write_bytes((folder / "rgba.png").read_bytes()[:300])

    ran = halfpixel("predict", folder, "--model", tiny_model, "--out", tmp_path / "out", "--limit", 3)
    assert ran.code == 1
    images = json.loads((tmp_path / "out" / "instances.json").read_text())["images"]
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in images}
    assert sizes == dict.fromkeys(
        ("rgba.png", "palette.png", "cmyk.jpg", "onebit.png", "sixteen.png", "float.tif", "moving.gif", "nan.tif"),
        (30, 20),
    ) | {"exif.jpg": (20, 30), "pixel.png": (1, 1), "long.png": (30_000, 20)}
    overlays = sorted(path.stem for path in (tmp_path / "out" / "overlay").iterdir())
    assert overlays == sorted(Path(name).stem for name in sizes)
    errors = [line for line in ran.err.splitlines() if line.startswith("halfpixel: error: ")]
    assert [Path(line.split(": ")[2]).name for line in errors] == ["empty.png", "text.png", "truncated.png"]
    warnings = [line for line in ran.err.splitlines() if line.startswith("halfpixel: warning: ")]
    assert len(warnings) + len(errors) == len(ran.err.splitlines())
    assert "first frame" in warnings[0]
    assert "moving.gif: 3" in warnings[0]
    assert "nan.tif: 1 of 600 pixels): pixels without data" in "".join(warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{noise}", "--threshold", "1.5"], "--threshold must be from 0"),
        (["{noise}", "--threshold", "nan"], "--threshold must be from 0"),
        (["{noise}", "--threshold", "high"], "high"),
        (["{noise}", "--limit", "0"], "--limit must be from 1"),
        (["{noise}", "--save", "coco,videos"], "there is no 'videos'"),
        (["{noise}", "--save", ","], "--save: it is empty"),
        (["{noise}", "--model", "nowhere.safetensors"], "neither a model file nor a named model"),
        (["{noise}", "--model", "{broken}"], "not a safetensors model file"),
        (["{noise}", "--model", "{pickle}"], "not a file of weights only"),
        (["{noise}", "--no-such-option"], "--no-such-option"),
        (["{noise}", "--out", "{broken}"], "is a file, not a folder"),
        (["nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["{empty}"], "there are no images in this folder"),
        (["{empty}/*.png"], "no file matches"),
        ([""], "the argument after predict is empty"),
        ([], "PATH"),
    ],
)
def test_unusable_input_is_one_line(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {name: tmp_path / name for name in ("broken", "pickle", "empty", "out")}
    places["pickle"] = places["pickle"].with_suffix(".pth")
    trap = tmp_path / "sprung"
    # a pickle that would make a folder when loaded
    places["pickle"].write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
    places["broken"].write_bytes(b"\x10\0\0\0\0\0\0\0not a header")
    places["empty"].mkdir()
    filled = [one.format(noise=noise(tmp_path / "cells.png"), **places) for one in arguments]
    if "--out" not in filled:
        filled += ["--out", str(places["out"])]
    if "--model" not in filled:
        filled += ["--model", str(tiny_model)]
    ran = halfpixel("predict", *filled)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("halfpixel: error: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert not places["out"].exists()
    assert not trap.exists()


def test_names_are_kept_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "c" / "x.png", tmp_path / "a" / ".." / "y.png"]
    assert output_names(paths) == ["a/x.png", "b/c/x.png", "y.png"]
    assert output_names(paths[:1]) == ["x.png"]
    assert output_stems(["a/x.png", "b/c/x.png"]) == ["a/x", "b/c/x"]
    assert output_stems(["x.png", "x.tif", "y.z.png"]) == ["x.png", "x.tif", "y.z"]
    assert output_stems(["x.png", "x.tif", "x.png.bmp"]) == ["x.png", "x.tif", "x.png.bmp"]
    assert output_names([tmp_path / os.fsdecode(b"bad\xff.png")]) == ["bad\ufffd.png"]
    assert output_stems(["x.png", "X.tif"]) == ["x.png", "X.tif"]  # one file on many a disk
    assert output_names([]) == []


def test_planes_and_files_never_share_a_name(tmp_path: Path) -> None:
    stack, plane, other = (tmp_path / name for name in ("stack.tif", "stack_z01_t2.png", "cells_1.tif"))
    names = Names.of([stack, plane, other], planes=True)
    assert names.in_tables(stack, "z01_t2") == "stack.tif#z01_t2"
    assert names.stem(stack, "z01_t2") == "stack.tif_z01_t2"
    assert names.stem(plane, "") == "stack_z01_t2"
    assert names.stem(other, "z3") == "cells_1_z3"
    assert Names.of([stack, plane], planes=False).stem(stack, "") == "stack"


def test_overwriting_leaves_nothing_of_the_run_before(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    one, two = noise(tmp_path / "in" / "one.png"), noise(tmp_path / "in" / "two.png", seed=1)
    out = tmp_path / "out"
    kinds = "coco,overlay,labels,table,cutouts"
    assert halfpixel("predict", one, two, "--model", tiny_model, "--out", out, "--save", kinds).code == 0
    (out / "overlay" / "mine.txt").write_text("not theirs")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ran = halfpixel("predict", one, "--model", tiny_model, "--out", out, "--save", "overlay", "--overwrite")
    assert ran.code == 2
    assert "instances.json is of an earlier run and would not be replaced; add coco to --save" in ran.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert halfpixel("predict", one, "--model", tiny_model, "--out", out, "--save", kinds, "--overwrite").code == 0
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"overlay/mine.txt", "overlay/one.png", "labels/one.tif", "instances.json", "objects.csv"} <= left
    assert not any("two" in name for name in left)


def test_results_among_the_images_are_not_looked_at(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path
) -> None:
    noise(tmp_path / "a.png")
    noise(tmp_path / "deep" / "overlay" / "b.png", seed=1)  # of the user's own
    out = tmp_path / "results"
    everything = (
        "predict",
        f"{tmp_path}/**/*.png",
        "--model",
        tiny_model,
        "--out",
        out,
        "--save",
        "table,overlay,cutouts",
    )
    first = halfpixel(*everything)
    assert (first.code, first.err) == (0, "")
    before = rows_of(out / "objects.csv")
    again = halfpixel(*everything, "--overwrite")
    assert again.code == 0
    assert "left out: they are results" in again.err
    assert rows_of(out / "objects.csv") == before
    assert {row["image"] for row in before} == {"a.png", "deep/overlay/b.png"}
    named = halfpixel("predict", out / "overlay" / "a.png", "--model", tiny_model, "--out", out, "--save", "labels")
    assert named.code == 0  # whoever names one means it
    assert "left out" not in named.err


def test_names_as_long_as_they_may_be(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    names = ["m" * (n - 4) + ".png" for n in (200, 243, 251, 255)]
    for name in names:
        noise(tmp_path / "in" / name)
    kinds = "coco,overlay,labels,table,cutouts,geojson,rois,blurred"
    ran = halfpixel("predict", tmp_path / "in", "--model", tiny_model, "--out", tmp_path / "out", "--save", kinds)
    assert (ran.code, ran.err) == (0, "")
    assert {row["image"] for row in rows_of(tmp_path / "out" / "objects.csv")} == set(names)
    assert all(len(list((tmp_path / "out" / kind).iterdir())) == 4 for kind in ("overlay", "labels", "geojson", "rois"))


def test_a_name_that_the_drive_refuses(
    halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other images go on."""
    for name in ("a.png", "b.png", "c.png"):
        noise(tmp_path / "in" / name)
    real = pictures.write_with_folder

    def refuses(path: Path, data: bytes) -> None:
        if path.stem == "b":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        real(path, data)

    monkeypatch.setattr(pictures, "write_with_folder", refuses)
    ran = halfpixel("predict", tmp_path / "in", "--model", tiny_model, "--out", tmp_path / "out", "--save", "overlay")
    assert ran.code == 1
    assert "b.png" in ran.err
    assert "cannot be written" in ran.err
    assert sorted(path.name for path in (tmp_path / "out" / "overlay").iterdir()) == ["a.png", "c.png"]
