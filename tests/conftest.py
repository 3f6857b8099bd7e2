"""Shapes and dtypes in `ops`, `structures` and `nn` are checked by beartype while tests run; a toy model is found."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

if os.environ.get("HALFPIXEL_CHECK_SHAPES", "1") == "1":
    install_import_hook(["halfpixel.ops", "halfpixel.structures", "halfpixel.nn"], "shapes.check")

import networks  # noqa: F401  # puts the toy models where models are found

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development images, which live beside the project and are not part of it."""
    if not SHARED.is_dir():
        pytest.skip("the development data beside the project is not here")
    return SHARED
