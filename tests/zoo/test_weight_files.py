"""Why a file of others' weights is refused; what it holds is never run."""

import os
import pickle
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halfpixel.engine.load import load
from halfpixel.errors import ModelFileError
from halfpixel.zoo.weight_files import read_weights


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


def of_module(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """An object of a class of another program, which is not installed."""
    made = types.ModuleType(module)
    kind = type(name, (), {"__module__": module})
    setattr(made, name, kind)
    for k in range(module.count(".") + 1):
        part = module.rsplit(".", k)[0]
        monkeypatch.setitem(sys.modules, part, made if part == module else types.ModuleType(part))
    return kind()


@pytest.mark.parametrize(
    ("module", "name", "advice"),
    [
        ("ultralytics.nn.tasks", "SegmentationModel", r"yolo export model=best\.pt format=onnx\) and give that file"),
        ("models.yolo", "SegmentationModel", r"yolo export model=best\.pt format=onnx"),
        ("mmengine.logging.history_buffer", "HistoryBuffer", r"tools/model_converters/publish_model\.py"),
        ("torchvision.models.nobody", "Nothing", r"halfpixel\.from_torchvision\(module\)\.save\(FILE\)"),
        ("mine", "Trainer", r"save what the state_dict\(\) of the network gives instead"),
    ],
)
@pytest.mark.parametrize("archive", [True, False])
def test_whose_objects_it_holds(
    module: str, name: str, advice: str, archive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"state_dict": {"a": torch.zeros(1)}, "x": of_module(module, name, monkeypatch)}
    torch.save(content, tmp_path / "best.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelFileError, match=rf"best\.pt: .* holds {module}\.{name}, and no code .*{advice}") as caught:
        load(tmp_path / "best.pt")
    assert not set("`\n\x1b") & set(str(caught.value))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("writer", ["archive", "plain", "bare"])
def test_what_would_be_called(writer: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if writer == "bare":
        path.write_bytes(pickle.dumps({"a": Evil()}, protocol))
    else:
        torch.save({"a": Evil()}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=writer == "archive")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelFileError, match="weights only") as caught:
            read_weights(path)
    assert "UserWarning" not in repr(caught.value.__cause__)
    assert not set("`\n\x1b") & set(str(caught.value))
    assert "will likely succeed" not in str(caught.value)  # torch's advice to run it
    if protocol == 2 or writer == "bare":
        assert "posix.system" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def halved(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def scripted(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


@pytest.mark.parametrize(
    ("name", "write", "why"),
    [
        ("a.pth", lambda path: path.write_bytes(b""), "it is empty"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "it is empty"),
        ("a.safetensors", lambda path: path.write_text("not one, but long enough"), "header too large"),
        ("a.pth", lambda path: path.write_text("hello"), "does not begin like what torch.save writes"),
        ("a.pth", halved, "damaged, or only a part"),
        ("a.pth", zipped, "an archive of something else"),
        ("a.pth", lambda path: torch.save({"a": Path}, path, pickle_protocol=4), "pickle protocol that cannot"),
        ("a.pth", scripted, "a TorchScript archive"),
        ("a.pth", lambda path: path.write_bytes(b"\x80"), "damaged"),
        ("a.pth", lambda path: torch.save(torch.zeros(2), path), "got one tensor"),
        ("a.pth", lambda path: torch.save([torch.zeros(2)], path), "got a list"),
        ("a.pth", lambda path: path.write_bytes(pickle.dumps({"a": np.zeros(2)})), r"has to end in \.pkl"),
    ],
)
def test_files_that_are_something_else(name: str, write: Any, why: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelFileError, match=why):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["model.bin", "model.ckpt", "model"])
def test_a_name_that_ends_otherwise(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(ModelFileError, match=rf"{name}: not a safetensors model file; names of others end in \.onnx, "):
        load(tmp_path / name)
    load("nuclei").save(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").rename(tmp_path / name)
    assert load(tmp_path / name).info.variant == load("nuclei").info.variant


def test_a_name_in_capitals(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "MODEL.PTH")
    with pytest.raises(ModelFileError, match=r"MODEL\.PTH: no network that is read has weights of such names"):
        load(tmp_path / "MODEL.PTH")
    (tmp_path / "MODEL.ONNX").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"MODEL\.ONNX: ONNX Runtime cannot open it"):
        load(tmp_path / "MODEL.ONNX")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "mine.pth")

    torch.save({"a": torch.zeros(2)}, tmp_path / "mine.pth")
    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(ModelFileError, match=r"mine\.pth: it cannot be read \(Permission denied\)"):
        load(tmp_path / "mine.pth")
