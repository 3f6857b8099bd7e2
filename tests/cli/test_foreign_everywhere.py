"""Networks of other programs go through all that halfpixel does with networks, or are refused in one sentence."""

import csv
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import hotcoco.mask as hotcoco_mask
import numpy as np
import pytest
import torch
from calling import Halfpixel
from PIL import Image
from yolo_files import STRIDE, Known, Made, write

from halfpixel.zoo import names
from halfpixel.zoo.converters import CONVERTERS
from halfpixel.zoo.modelfile import load_model
from halfpixel.zoo.published import NamedModel

SIZE = (64, 96)
CELL = Known((20.25, 10.5, 60.75, 40.25), (0.9,), (3.1, -6.47, 0.33))
OTHER = Known((62.5, 20.0, 88.0, 55.0), (0.6,), (0.0, 0.0, 9.0))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.onnx", Made((CELL, OTHER), SIZE, ("cell",)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Annotated images whose objects are just those that the model finds."""
    images, annotations = [], []
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    (tmp_path / "data").mkdir()
    for image in range(3):
        pixels = np.random.default_rng(image).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{image}.png")
        images.append({"id": image, "file_name": f"{image}.png", "width": SIZE[1], "height": SIZE[0]})
        for one in (CELL, OTHER):
            x0, y0, x1, y1 = one.box_xyxy
            a, b, c = one.weights
            logits = a * x.clip(STRIDE / 2) / 32 + b * y.clip(STRIDE / 2) / 32 + c
            mask = (x >= x0) & (x < x1) & (y >= y0) & (y < y1) & (logits > 0)
            rle = hotcoco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()},
                }
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    file = tmp_path / "data" / "annotations.json"
    file.write_text(json.dumps(content))
    return file


def test_predict_and_count(halfpixel: Halfpixel, model: Path, data: Path, tmp_path: Path) -> None:
    save = "coco,overlay,labels,table,cutouts"
    ran = halfpixel("predict", data.parent, "--model", model, "--out", tmp_path / "out", "--save", save)
    assert ran.code == 0, ran.err
    with (tmp_path / "out" / "objects.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    assert len(list((tmp_path / "out" / "cutouts").rglob("*.png"))) == 6
    ran = halfpixel("count", data.parent, "--model", model, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["total"]["cell"] == 6
    assert halfpixel("count", data.parent, "--model", model, "--threshold", 0.7).code == 0


@pytest.mark.parametrize("verb", ["evaluate", "sweep"])
def test_evaluate_and_sweep(halfpixel: Halfpixel, model: Path, data: Path, tmp_path: Path, verb: str) -> None:
    ran = halfpixel(verb, data, "--model", model, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    if verb == "evaluate":
        report = json.dumps(json.loads(ran.out))
        assert '"ap": 1.0' in report


def test_a_saturation_is_told(halfpixel: Halfpixel, data: Path, tmp_path: Path) -> None:
    full = write(tmp_path / "full.onnx", Made((CELL, OTHER), SIZE, ("cell",), chosen=True, rows=2))
    ran = halfpixel("count", data.parent, "--model", full, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["images"][0]["limit_reached"] is True


def test_it_describes_itself(halfpixel: Halfpixel, model: Path) -> None:
    content = json.loads(halfpixel("models", model, "--json").out)
    assert (content["variant"], content["class_names"], content["licence"]) == ("yolo_seg", ["cell"], "CC0-1.0")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("train", "{data}", "--model", "{model}", "--out", "{new}"), "it cannot be trained: it is an ONNX file"),
        (("export", "{model}", "--to", "openvino", "--out", "{new}.xml"), "it cannot be exported: it is an ONNX file"),
        (("calibrate", "{data}", "--model", "{model}", "--out", "{new}.safetensors"), ""),
        (("bench", "{images}", "--model", "{model}"), "it cannot be timed in several configurations"),
        (("count", "{images}", "--model", "{model}", "--fast"), "96 x 64 pixels, and nothing smaller"),
        (("count", "{images}", "--model", "{model}", "--backend", "torch"), "it cannot be run by torch"),
        (("count", "{images}", "--model", "{model}", "--backend", "openvino"), "it cannot be exported"),
        (("count", "{images}", "--model", "{model}", "--first-pass", "nuclei-unet"), "a first pass needs"),
    ],
)
def test_what_is_refused(
    halfpixel: Halfpixel, model: Path, data: Path, tmp_path: Path, command: tuple[str, ...], why: str
) -> None:
    filled = {"data": data, "images": data.parent, "model": model, "new": tmp_path / "new"}
    ran = halfpixel(*(word.format(**filled) for word in command))
    assert ran.code == 2, ran
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("halfpixel: error: ")
    assert why in last
    assert "Traceback" not in ran.err


def test_something_else(halfpixel: Halfpixel, tmp_path: Path, data: Path) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"\x08\x09not a graph")
    ran = halfpixel("count", data.parent, "--model", file)
    assert (ran.code, ran.err.count("\n")) == (2, 1)


# Fetched by name -----------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which it is served."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def named(monkeypatch: pytest.MonkeyPatch, model: NamedModel) -> None:
    monkeypatch.setattr(names, "NAMED_MODELS", (*names.NAMED_MODELS, model))


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_published_model_of_transformers(
    halfpixel: Halfpixel, site: tuple[Path, str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    folder, address = site
    config = transformers.EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, num_blocks=1, num_queries=5,
        num_upscale_blocks=2, id2label={0: "cell"},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.EomtForUniversalSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    beside = ("config.json", "preprocessor_config.json")
    named(monkeypatch, NamedModel("far", "far away", "MIT", url=address + "model.safetensors", beside=beside))
    ran = halfpixel("count", data.parent, "--model", "far", "--threshold", 0.0, "--json")
    assert ran.code == 0, ran.err
    assert ran.err.count("is recorded in") == 1
    assert len(json.loads(ran.out)["images"]) == 3
    ran = halfpixel("count", data.parent, "--model", "far", "--threshold", 0.0)
    assert ran.code == 0, ran.err
    assert "is recorded in" not in ran.err
    ran = halfpixel("train", data, "--model", "far", "--out", tmp_path / "run")
    assert ran.code == 2
    assert "it cannot be trained: halfpixel only runs this network" in ran.err


def test_a_published_model_has_its_reader(
    halfpixel: Halfpixel, site: tuple[Path, str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new converter is a file in `halfpixel.zoo.convert`; it turns what the file holds into a network."""
    folder, address = site
    torch.save({"state_dict": {"theirs": torch.ones(3)}}, folder / "weights.pth")
    reader = ModuleType("test")
    seen = []

    def convert(checkpoint: object, class_names: tuple[str, ...]) -> object:
        seen.append(checkpoint)
        assert (len(class_names), class_names[0], class_names[-1]) == (80, "person", "toothbrush")
        return load_model(names.find("nuclei").path)  # type: ignore[union-attr]

    reader.convert = convert  # type: ignore[attr-defined]
    monkeypatch.setitem(CONVERTERS, "test", reader)
    sha256 = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    model = NamedModel("far", "far away", "MIT", url=address + "weights.pth", sha256=sha256, reader="test")
    named(monkeypatch, model)
    ran = halfpixel("count", data.parent, "--model", "far")
    assert ran.code == 0, ran.err
    assert list(seen[0]) == ["state_dict"]
