"""Whole files of every kind that is read, small, from which mutations start."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import yaml
from calling import write_model
from coco_files import DATA_SET
from PIL import Image, PngImagePlugin

from halfpixel.data.formats.detect import read_dataset
from halfpixel.outputs.write_dataset import DATASET_WRITERS, write_dataset

SIZE_HW = (24, 32)


@dataclass(frozen=True)
class Seed:
    """A whole file or folder.

    Attributes:
        kind: what reads it: "image", "annotations" or "model".
        name: for people.
        root: the file or folder that is copied.
        mutable: the files in it that mutations may change; `root` itself for a file.
        read: what is handed to the reader, inside of `root`; `root` itself for a file.
    """

    kind: str
    name: str
    root: Path
    mutable: tuple[Path, ...]
    read: Path


def write_seeds(folder: Path) -> list[Seed]:
    """All of them, in a new folder."""
    folder.mkdir(parents=True)
    images = [Seed("image", path.name, path, (path,), path) for path in _images(folder / "images")]
    model = write_model(folder / "model.safetensors", ("nucleus",))
    return [*images, *_annotations(folder / "annotations"), Seed("model", model.name, model, (model,), model)]


def _images(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, SIZE_HW, dtype=np.uint8)
    colour = rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    deep = rng.integers(0, 60_000, SIZE_HW, dtype=np.uint16)
    for name, content in {**_with_pillow(grey, colour, deep), **_with_tifffile(grey, colour, deep)}.items():
        (folder / name).write_bytes(content)
        yield folder / name


def _with_pillow(grey: npt.NDArray[Any], colour: npt.NDArray[Any], deep: npt.NDArray[Any]) -> dict[str, bytes]:
    rgb, exif = Image.fromarray(colour), Image.Exif()
    exif[0x0112] = 6
    clear, text = Image.fromarray(np.dstack([colour, grey])), PngImagePlugin.PngInfo()
    text.add_text("Comment", "noise", zip=True)

    def saved(image: Image.Image, format: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    return {
        "grey.png": saved(Image.fromarray(grey), "PNG"),
        "deep.png": saved(Image.fromarray(deep), "PNG"),
        "clear.png": saved(clear, "PNG", pnginfo=text),
        "palette.png": saved(rgb.quantize(16), "PNG", transparency=3),
        "turned.jpg": saved(rgb, "JPEG", exif=exif),
        "progressive.jpg": saved(rgb, "JPEG", progressive=True),
        "inks.jpg": saved(rgb.convert("CMYK"), "JPEG"),
        "moving.gif": saved(rgb.quantize(16), "GIF", save_all=True, append_images=[rgb.quantize(8)]),
        "flat.bmp": saved(rgb, "BMP"),
        "clear.webp": saved(clear, "WEBP", lossless=True),
        "moving.png": saved(rgb, "PNG", save_all=True, append_images=[clear.convert("RGB")]),
    }


def _with_tifffile(grey: npt.NDArray[Any], colour: npt.NDArray[Any], deep: npt.NDArray[Any]) -> dict[str, bytes]:
    stack = np.stack([deep, deep[::-1], deep[:, ::-1]])

    def saved(array: npt.NDArray[Any], **options: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, array, **options)
        return file.getvalue()

    pyramid = io.BytesIO()
    with tifffile.TiffWriter(pyramid) as writer:
        for k, level in enumerate([np.tile(colour, (2, 2, 1)), colour]):
            writer.write(level, tile=(16, 16), subfiletype=k, photometric="rgb", compression="lzw", metadata=None)
    return {
        "pyramid.tif": pyramid.getvalue(),
        "plain.tif": saved(deep, photometric="minisblack"),
        "lzw.tif": saved(colour, photometric="rgb", compression="lzw", predictor=True),
        "tiles.tif": saved(np.tile(grey, (2, 2)), tile=(16, 16), compression="deflate", bigtiff=True),
        "float.tif": saved(deep.astype(np.float32), byteorder=">", extratags=[(42113, 2, 5, "-9999", True)]),
        "colours.tif": saved(grey, photometric="palette", colormap=np.tile(np.arange(256).astype("u2") * 257, (3, 1))),
        "jpeg.tif": saved(np.tile(colour, (2, 2, 1)), photometric="rgb", compression="jpeg", tile=(32, 32)),
        "imagej.tif": saved(stack, imagej=True, resolution=(5.0, 5.0), metadata={"axes": "ZYX", "unit": "um"}),
        "planes.ome.tif": saved(
            np.stack([stack, stack]), ome=True, photometric="minisblack",
            metadata={"axes": "CZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["DAPI", "GFP"]}},
        ),
    }  # fmt: skip


def _annotations(folder: Path) -> Iterator[Seed]:
    coco = folder / "coco"
    (coco / "images").mkdir(parents=True)
    (coco / "images" / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        rng = np.random.default_rng(len(name))
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(coco / "images" / name)
    (coco / "instances.json").write_text(json.dumps(DATA_SET))
    yield Seed("annotations", "coco", coco, (coco / "instances.json",), coco / "instances.json")
    dataset = read_dataset(coco / "instances.json")
    for writer in DATASET_WRITERS:
        out = folder / f"written-{writer.name}"
        out.mkdir()
        write_dataset(dataset, out, ("a", "b"), writer.name)
        yield _seed_of(out, f"written {writer.name}")
    yield _seed_of(_labelme(folder / "labelme"), "labelme")
    yield _seed_of(_via(folder / "via"), "via")
    yield _seed_of(_label_studio(folder / "label_studio"), "label_studio")
    yield _seed_of(_semantic(folder / "semantic"), "semantic")
    yolo = folder / "written-yolo" / "data.yaml"
    if yolo.is_file():
        assert isinstance(yaml.safe_load(yolo.read_text()), dict)
        yield Seed("annotations", "data.yaml", yolo.parent, (yolo,), yolo)


def _seed_of(folder: Path, name: str) -> Seed:
    """All files but the pictures may change; where there is nothing else, those."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    texts = [path for path in files if is_text(path)]
    return Seed("annotations", name, folder, tuple(texts or files), folder)


def _labelme(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
        shapes = [
            {
                "label": "cell",
                "shape_type": "polygon",
                "points": [[1, 1], [9, 1], [9, 8.5]],
                "group_id": None,
                "flags": {},
            },
            {"label": "cell", "shape_type": "circle", "points": [[15, 12], [18, 12]], "group_id": 1, "flags": {}},
            {"label": "tree", "shape_type": "rectangle", "points": [[20, 2], [29, 20]], "group_id": None, "flags": {}},
        ]
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
        (folder / f"{name}.json").write_text(
            json.dumps(content | {"imageHeight": SIZE_HW[0], "imageWidth": SIZE_HW[1]})
        )
    return folder


def _with_picture(folder: Path) -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def _via(folder: Path) -> Path:
    shapes = (
        {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 8.5]},
        {"name": "rect", "x": 2, "y": 12, "width": 5, "height": 6},
        {"name": "ellipse", "cx": 20, "cy": 10, "rx": 5, "ry": 3, "theta": 0.3},
    )
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "cell"}} for shape in shapes]
    content = {"a.png9": {"filename": "a.png", "size": 9, "regions": regions, "file_attributes": {}}}
    (_with_picture(folder) / "via.json").write_text(json.dumps(content))
    return folder


def _label_studio(folder: Path) -> Path:
    height, width = SIZE_HW
    # one run of white over all of the picture, in the packing of brushes
    bits = (
        f"{4 * height * width:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}1" + f"11{4 * height * width - 1:016b}{255:08b}"
    )
    bits += "0" * (-len(bits) % 8)
    brush = {"format": "rle", "rle": [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)], "brushlabels": ["b"]}
    polygon = {"points": [[5, 5], [40, 5], [40, 60]], "polygonlabels": ["a"]}
    size = {"original_width": width, "original_height": height, "from_name": "label"}
    drawn = (("polygonlabels", polygon), ("brushlabels", brush))
    result = [{"id": str(k), "type": kind, "value": value} | size for k, (kind, value) in enumerate(drawn)]
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": result}]}]
    (_with_picture(folder) / "export.json").write_text(json.dumps(tasks))
    return folder


def _semantic(folder: Path) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros(SIZE_HW, dtype=np.uint8)
    mask[3:9, 4:12] = mask[12:20, 15:22] = 255
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)).save(
            folder / "images" / f"{name}.png"
        )
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def is_text(path: Path) -> bool:
    """By its name."""
    return path.suffix in {".json", ".txt", ".yaml", ".yml", ".csv", ".xml"}
