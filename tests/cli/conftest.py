"""One tiny model with random weights for all tests of the command line, and a way to call it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel, Ran, write_model, write_noise

from halfpixel.cli import main


@pytest.fixture
def halfpixel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Halfpixel:
    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["halfpixel", *(str(one) for one in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return Ran(stop.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", ("nucleus",))


@pytest.fixture
def noise() -> Callable[..., Path]:
    return write_noise


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """A COCO file of three noise images, two squares on each, and one annotation of an image that is not there."""
    content: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "nucleus"}],
    }
    for k in range(1, 4):
        write_noise(tmp_path / "data" / "images" / f"{k}.png", seed=k)
        modality = "dark" if k == 1 else "bright"
        content["images"].append({"id": k, "file_name": f"{k}.png", "width": 48, "height": 40, "modality": modality})
        for n, left in enumerate((2, 25)):
            square = [left, 5, left + 20, 5, left + 20, 25, left, 25]
            numbers = {"id": 10 * k + n, "image_id": k, "category_id": 7}
            content["annotations"].append({**numbers, "segmentation": [square], "bbox": [left, 5, 20, 20], "area": 400})
    content["annotations"].append({**content["annotations"][0], "id": 99, "image_id": 4242})
    path = tmp_path / "data" / "instances.json"
    path.write_text(json.dumps(content))
    return path
