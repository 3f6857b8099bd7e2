"""Shapes and dtypes in `ops`, `structures` and `nn` are checked by beartype while tests run; a toy model is found."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

if os.environ.get("HALFPIXEL_CHECK_SHAPES", "1") == "1":
    install_import_hook(["halfpixel.ops", "halfpixel.structures", "halfpixel.nn"], "shapes.check")

import networks  # noqa: F401  # puts the toy models where models are found
from calling import write_model, write_noise

FIRST = ("test_exporter.py", "test_docs.py", "test_model_contract.py")
"""Files whose tests take longest, or share what takes long to make."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes take tests of each other from the end: so nothing long comes last, nor is shared work done twice."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development images, which live beside the project and are not part of it."""
    if not SHARED.is_dir():
        pytest.skip("the development data beside the project is not here")
    return SHARED


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
