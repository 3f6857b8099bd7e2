"""Going over files while others of them are read and looked at: order, failures and planes stay what they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from halfpixel import load
from halfpixel.cli.console import Walk
from halfpixel.data.images.picture import Reading
from halfpixel.engine.predictor import Predictor

Noise = Callable[..., Path]


@pytest.fixture(autouse=True)
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def files(tmp_path: Path, noise: Noise) -> list[Path]:
    """Two images, a broken one, a stack of four planes, and one more image."""
    (tmp_path / "c.png").write_bytes(b"no image")
    planes = np.random.default_rng(1).integers(0, 200, (4, 30, 34), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "d.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    pngs = [noise(tmp_path / f"{name}.png", (30 + k, 40), seed=k) for k, name in enumerate("abe")]
    return [pngs[0], pngs[1], tmp_path / "c.png", tmp_path / "d.tif", pngs[2]]


def walked(walk: Walk, predictor: Predictor, files: list[Path], **how: Any) -> list[tuple[str, str]]:
    seen = []
    for picture, objects in walk.predict(predictor, files, 0.3, 5, **how):
        assert objects.size_hw == picture.rgb.shape[:2]
        assert 0 < len(objects) <= 5
        seen.append((picture.path.name, picture.plane))
    return seen


ALL = [("a.png", ""), ("b.png", ""), *(("d.tif", f"z00{k}") for k in (1, 2, 3, 4)), ("e.png", "")]


@pytest.mark.parametrize("in_parallel", [True, False, None])
def test_in_order_with_what_is_broken_left_out(
    files: list[Path], tiny_model: Path, capsys: pytest.CaptureFixture[str], in_parallel: bool | None
) -> None:
    walk, predictor = Walk(), load(tiny_model)
    found = walked(walk, predictor, files, reading=Reading(planes="all"), in_parallel=in_parallel)
    assert found == ALL
    assert [Path(one).name.partition("#")[0] for one in walk.done] == [name for name, _ in ALL]
    assert [Path(one).name for one in walk.failed] == ["c.png"]
    assert capsys.readouterr().err.count("\n") == 1
    assert walk.exit_code == 1


def test_what_is_skipped_is_not_looked_at(files: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    real = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, image, **how: looked_at.append(image.shape) or real(self, image, **how)
    )
    found = walked(
        Walk(),
        load(tiny_model),
        files,
        reading=Reading(planes="all"),
        skip=lambda path, plane: path.name == "a.png" or plane in ("z002", "z003"),
    )
    assert found == [one for one in ALL if one[0] != "a.png" and one[1] not in ("z002", "z003")]
    assert len(looked_at) == len(found)


def test_after_a_plane_that_failed_the_rest_of_its_file_is_left_out(
    files: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = np.array(tifffile.imread(files[3])[1])
    real = Predictor.predict

    def full(self: Predictor, image: Any, **how: Any) -> Any:
        if np.array_equal(image[..., 0], second):
            raise MemoryError
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", full)
    walk = Walk()
    found = walked(walk, load(tiny_model), files, reading=Reading(planes="all"))
    assert found == [one for one in ALL if one[1] in ("", "z001")]
    assert walk.failed[str(files[3])] == f"{files[3]}: too large for the memory"


def test_only_the_first_planes(files: list[Path], tiny_model: Path) -> None:
    walk = Walk()
    assert walked(walk, load(tiny_model), files) == [(name, "") for name in ("a.png", "b.png", "d.tif", "e.png")]
    assert walk.notes[str(files[3])].frames == 4
    assert walk.notes[str(files[0])].saturated
