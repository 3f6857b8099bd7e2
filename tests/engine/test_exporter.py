"""One network of each kind is exported once, and every test looks at its files."""

import copy
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import numpy as np
import pytest
import torch
from networks import CLASSES, batch_of, enliven, scene, smallest
from PIL import Image

import halfpixel
from halfpixel.engine import load as loading
from halfpixel.engine.backends import exported_files
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.backends.onnx import OnnxBackend
from halfpixel.engine.backends.openvino import OpenVinoBackend
from halfpixel.engine.export import cache
from halfpixel.engine.export import exporter as exporting
from halfpixel.engine.export.exporter import export
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError
from halfpixel.models import mask_rcnn, unet
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.structures.images import ImageBatch, InputRules, Limits
from halfpixel.zoo.modelfile import ModelInfo, settings_of

for needed in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(needed)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "run_exported.py"
DIAMETERS = TrainedDiameters(15.0, 10.0, 20.0)
CPU = torch.device("cpu")


class Made(NamedTuple):
    predictor: Predictor
    onnx: Path
    openvino: Path


@pytest.fixture(scope="module", autouse=True)
def shapes_unchecked() -> Iterator[None]:
    """While a graph is made, sizes are symbols."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def make(variant: str, module: object, folder: Path, **settings: object) -> Made:
    torch.manual_seed(0)
    images = torch.stack([scene(96, seed=seed)[0] for seed in (1, 2)])
    model = enliven(smallest(module, **settings).eval(), images)
    rules = InputRules((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), scale=1.5, longest_side=320, stretch_below=0.9)
    info = ModelInfo(variant, CLASSES, rules, settings_of(model), 0.3, 20, source="random", diameters=DIAMETERS)
    predictor = Predictor(model, info, CPU, backend=TorchBackend(model, CPU, "fp32"))
    made = Made(predictor, folder / "cells.onnx", folder / "cells.xml")
    with pytest.MonkeyPatch.context() as patch:
        graph = exporting.onnx_graph(model, rules.divisor)  # takes the most time by far
        patch.setattr(exporting, "onnx_graph", lambda network, divisor: copy.deepcopy(graph))
        for path, to in ((made.onnx, "onnx"), (made.openvino, "openvino")):
            written = export(predictor, path, to)
            assert written.agreement > 0.95
            assert written.compared > (0 if module is unet else 100)
            files = [path] if to == "onnx" else [path, path.with_suffix(".bin")]
            assert written.size_bytes == sum(file.stat().st_size for file in files)
    return made


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Made:
    settings = {"mask_iou": 0.4, "mask_margin": 0.125}
    return make("mask_rcnn_lite", mask_rcnn, tmp_path_factory.mktemp("detector"), **settings)


@pytest.fixture(scope="module")
def semantic(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make("unet_lite", unet, tmp_path_factory.mktemp("semantic"))


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def to(request: pytest.FixtureRequest) -> str:
    return request.param


def path_of(made: Made, to: str) -> Path:
    return made.onnx if to == "onnx" else made.openvino


def assert_same(batch: ImageBatch, limits: Limits, made: Made, backend: exported_files.ExportedBackend) -> int:
    with torch.inference_mode():
        expected = made.predictor.model(batch.tensor, batch.sizes_hw, limits)
    found = backend.run(batch, limits)
    assert expected.keys() <= found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, atol=1e-3, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    return len(expected.get("scores", ()))


def test_every_size_threshold_and_limit_gives_what_torch_gives(detector: Made, to: str) -> None:
    backend = exported_files.open_file(path_of(detector, to), threads=1)
    assert isinstance(backend, OnnxBackend if to == "onnx" else OpenVinoBackend)
    assert backend.precision == "fp32"
    pictures = [
        scene(side, seed=side + 1)[0][:, :height] for side, height in ((96, 90), (200, 130), (32, 20), (256, 256))
    ]
    counts = []
    for threshold, limit in ((0.3, 10), (0.2, 4), (0.02, 40), (0.9999999, 3)):
        given = Limits.of(threshold, limit)
        counts.append([assert_same(batch_of(picture), given, detector, backend) for picture in pictures])
    many, few, all_of_them, none = counts
    assert min(many) > 5
    assert set(few) == {8}  # twice as many, as suppression by masks follows
    assert min(all_of_them) > 20  # of all the proposals of the smallest picture
    assert max(none) == 0
    best = exported_files.open_file(path_of(detector, to)).run(batch_of(pictures[0]), Limits.of(0.02, 1))
    assert len(best["scores"]) == 2
    assert bool(best["saturated"])


def test_several_images_of_a_batch(detector: Made, to: str) -> None:
    backend = exported_files.open_file(path_of(detector, to))
    batch = batch_of(scene(96, seed=3)[0], scene(128, seed=4)[0][:, :100])
    assert assert_same(batch, Limits.of(0.3, 20), detector, backend) > 10


def test_a_network_of_maps(semantic: Made, to: str) -> None:
    backend = exported_files.open_file(path_of(semantic, to))
    for side in (96, 160):
        assert_same(batch_of(scene(side)[0]), Limits.of(0.3, 20), semantic, backend)
    loaded = halfpixel.load(path_of(semantic, to))
    picture = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    expected, found = semantic.predictor.predict(picture), loaded.predict(picture)
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-3, rtol=1e-3)


def test_a_file_is_all_that_is_needed(detector: Made, to: str) -> None:
    loaded = halfpixel.load(path_of(detector, to))
    assert loaded.info == dataclasses.replace(detector.predictor.info, settings=loaded.info.settings)
    assert json.dumps(loaded.info.settings) == json.dumps(dict(detector.predictor.info.settings))
    assert loaded.class_names == CLASSES
    picture = (scene(200, seed=5)[0].permute(1, 2, 0).clamp(-2, 2).add(2).mul(60)).byte().numpy()
    expected, found = detector.predictor.predict(picture), loaded.predict(picture)
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=0.01, rtol=0)
    assert found.masks is not None
    assert expected.masks is not None
    assert (found.masks.dense() != expected.masks.dense()).sum() < 5
    with pytest.raises(ArgumentError, match="cannot be exported: the file was exported"):
        export(loaded, path_of(detector, to), to)
    with pytest.raises(ArgumentError, match="cannot be exported: the file was exported"):
        loading.open_backend(loaded, "onnx")


def test_threads_share_a_backend(detector: Made, to: str) -> None:
    backend = exported_files.open_file(path_of(detector, to))
    batches = [batch_of(scene(96, seed=seed)[0]) for seed in range(4)]
    expected = [backend.run(batch, Limits.of(0.2, 20)) for batch in batches]
    found: dict[int, list[dict[str, torch.Tensor]]] = {}

    def work(k: int) -> None:
        found[k] = [backend.run(batches[k], Limits.of(0.2, 20)) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, outputs in found.items():
        for output in outputs:
            torch.testing.assert_close(output, expected[k], atol=1e-5, rtol=1e-5)


def test_nothing_of_this_machine_is_in_the_files(detector: Made) -> None:
    home = str(Path(__file__).resolve().parents[2]).encode()
    for path in (detector.onnx, detector.openvino):
        assert home not in path.read_bytes()
    assert sorted(file.name for file in detector.onnx.parent.iterdir()) == ["cells.bin", "cells.onnx", "cells.xml"]


def test_broken_files(detector: Made, to: str, tmp_path: Path) -> None:
    path = tmp_path / path_of(detector, to).name
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        halfpixel.load(path)
    shutil.copytree(path_of(detector, to).parent, tmp_path, dirs_exist_ok=True)
    whole = path.read_bytes()
    for broken in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ModelFileError, match=re.escape(str(path))):
            halfpixel.load(path)
    path.write_bytes(whole.replace(b"variant", b"varianz"))
    with pytest.raises(ModelFileError, match=rf"{re.escape(str(path))}: the model's description is broken"):
        halfpixel.load(path)
    path.write_bytes(whole.replace(b"mask_rcnn_lite", b"mask_rcnn_lost"))
    with pytest.raises(ModelFileError, match=rf"{re.escape(str(path))}: there is no network called"):
        halfpixel.load(path)
    path.write_bytes(whole.replace(b"halfpixel", b"someoneel"))
    with pytest.raises(ModelFileError, match=rf"{re.escape(str(path))}: not exported by halfpixel"):
        halfpixel.load(path)
    if to == "openvino":
        path.with_suffix(".bin").unlink()
        with pytest.raises(ModelFileError, match=r"cells\.bin: no such file"):
            halfpixel.load(path)


def test_a_graph_without_an_output_that_is_needed(detector: Made, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    forged = onnx.load(detector.onnx)
    for output in [one for one in forged.graph.output if one.name == "image_index"]:
        forged.graph.output.remove(output)
    onnx.save(forged, tmp_path / "forged.onnx")
    with pytest.raises(ModelFileError, match=r"forged\.onnx: not the graph of mask_rcnn_lite: output image_index"):
        halfpixel.load(tmp_path / "forged.onnx")


def test_a_graph_whose_description_is_none(detector: Made, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    forged = onnx.load(detector.onnx)
    (described,) = (one for one in forged.metadata_props if one.key == "halfpixel")
    described.value = json.dumps(json.loads(described.value) | {"variant": [1]})
    onnx.save(forged, tmp_path / "forged.onnx")
    with pytest.raises(ModelFileError, match=r"forged\.onnx: the model's description is broken \(variant: expected"):
        halfpixel.load(tmp_path / "forged.onnx")


def test_a_graph_that_cannot_be_run_names_its_file(detector: Made, to: str) -> None:
    backend = exported_files.open_file(path_of(detector, to))
    batch = ImageBatch(torch.zeros(1, 5, 64, 64), torch.tensor([[64, 64]]))
    with pytest.raises(ModelFileError, match=rf"{path_of(detector, to).name}: {to} cannot run it \("):
        backend.run(batch, Limits.of(0.5, 3))


def test_what_cannot_be_exported(detector: Made, tmp_path: Path) -> None:
    predictor = detector.predictor
    for path, to, images, message in (
        (tmp_path / "cells.xml", "onnx", None, "ends with .onnx"),
        (tmp_path / "no" / "cells.onnx", "onnx", None, "no such folder"),
        (tmp_path / "cells.onnx", "onnx", [], "int8 is for openvino only"),
        (tmp_path / "cells.xml", "openvino", [], "at least one"),
    ):
        with pytest.raises(ArgumentError, match=message):
            export(predictor, path, to, images)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_finds_other_things_is_not_kept(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    graph = onnx.load(detector.onnx)
    del graph.metadata_props[:]
    for weight in graph.graph.initializer:
        if len(weight.dims) == 4 and weight.dims[2] == 3:
            array = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(array[..., ::-1].copy(), weight.name))
    monkeypatch.setattr(exporting, "onnx_graph", lambda network, divisor: graph)
    (tmp_path / "cells.onnx").write_text("of yesterday")
    with pytest.raises(ModelFileError, match=r"not written, as the exported network finds something else .*%"):
        export(detector.predictor, tmp_path / "cells.onnx", "onnx")
    assert (tmp_path / "cells.onnx").read_text() == "of yesterday"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("library", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino"), ("onnxscript", "export")]
)
def test_missing_libraries_name_the_extra(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    runs = extra != "export"
    path = path_of(detector, extra) if runs else tmp_path / "cells.onnx"
    with pytest.raises(MissingDependencyError, match=re.escape(f'pip install "halfpixel[{extra}]"')):
        halfpixel.load(path) if runs else export(detector.predictor, path, "onnx")


def test_other_backends_are_exported_once(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path))
    asked = []

    def instead(predictor: Predictor, path: Path, format: str) -> None:
        asked.append(path)
        for file in path_of(detector, format).parent.glob("cells.*"):
            shutil.copy(file, path.with_suffix(file.suffix))

    monkeypatch.setattr(cache, "export", instead)
    first, again = (loading.open_backend(detector.predictor, to, threads=1) for _ in range(2))
    assert (first.name, first.precision, again.precision) == (to, "fp32", "fp32")
    assert len(asked) == 1
    assert asked[0].parent == tmp_path / "exported"
    other = copy.deepcopy(detector.predictor.model)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    loading.open_backend(Predictor(other, detector.predictor.info, CPU), to)
    assert len(set(asked)) == 2


def test_precisions_that_there_are_not(detector: Made, to: str) -> None:
    with pytest.raises(ArgumentError, match=f"{to} runs networks in fp32 or, from a file, int8"):
        loading.open_backend(detector.predictor, to, "bf16")
    with pytest.raises(ArgumentError, match=r"halfpixel export MODEL --to openvino --int8"):
        loading.open_backend(detector.predictor, to, "int8")
    assert loading.open_backend(detector.predictor, "torch", "fp32").name == "torch"


def test_the_example_runs_without_halfpixel_and_torch(detector: Made, tmp_path: Path) -> None:
    """And finds, to the pixel, what `predict` finds."""
    picture = (scene(200, seed=5)[0].permute(1, 2, 0).clamp(-2, 2).add(2).mul(60)).byte().numpy()[:150]
    Image.fromarray(picture).save(tmp_path / "cells.png")
    alone = "import sys; sys.modules.update(halfpixel=None, torch=None); import runpy; sys.argv[:] = sys.argv[1:]; "
    command = [sys.executable, "-W", "error", "-c", alone + "runpy.run_path(sys.argv[0], run_name='__main__')", EXAMPLE]
    command += [detector.onnx, tmp_path / "cells.png", "--out", tmp_path / "labels.png"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = detector.predictor.predict(picture)
    assert done.stdout.startswith(f"{len(expected)} objects (score above 0.3)")
    assert len(expected) > 5
    assert expected.masks is not None
    labels = np.zeros(expected.size_hw, dtype=np.uint16)
    for k, mask in reversed(list(enumerate(expected.masks.dense().numpy()))):
        labels[mask] = k + 1
    with Image.open(tmp_path / "labels.png") as drawn:
        assert (np.array(drawn) != labels).sum() <= 5


def test_int8_from_the_command_line(semantic: Made, tmp_path: Path) -> None:
    """In a process of its own, to hear that no library speaks up or reports to anybody."""
    pytest.importorskip("nncf")
    semantic.predictor.save(tmp_path / "cells.safetensors")
    for k in range(3):
        picture = (scene(96, seed=k)[0].permute(1, 2, 0).clamp(-2, 2).add(2).mul(60)).byte().numpy()
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    script = "import sys, atexit; from halfpixel.cli import main; "
    script += "atexit.register(lambda: print('telemetry:', sys.modules.get('openvino_telemetry'))); main()"
    command = [sys.executable, "-c", script, "export", "cells.safetensors", "--to", "openvino", "--out", "cells.xml"]
    command += ["--int8", "--images", ".", "--most-images", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "int8, calibrated on 2 images." in done.stdout
    assert done.stdout.endswith("telemetry: None\n")
    assert sorted(file.name for file in tmp_path.glob("cells.*")) == ["cells.bin", "cells.safetensors", "cells.xml"]
    loaded = halfpixel.load(tmp_path / "cells.xml")
    assert loaded.backend.precision == "int8"
    assert b'element_type="i8"' in (tmp_path / "cells.xml").read_bytes()
    batch, limits = batch_of(scene(96, seed=1)[0]), Limits.of(0.3, 20)
    exact = semantic.predictor.backend.run(batch, limits)["probabilities"]
    rounded = loaded.backend.run(batch, limits)["probabilities"]
    assert 1e-4 < float((exact - rounded).abs().mean()) < 0.05


def test_onnx_runtime_does_not_report_its_use(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from halfpixel.engine.backends.onnx import OnnxBackend\n"
        "from halfpixel.errors import ModelFileError\n"
        "try:\n    OnnxBackend(Path('none.onnx'))\nexcept ModelFileError:\n    import onnxruntime\n"
    )
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    given = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script], env=given | home, check=True)
    assert list(tmp_path.rglob("*nnxruntime*")) == []


def test_int8_is_calibrated_on_parts_of_large_images(detector: Made, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((600, 700, 3), dtype=np.uint8)).save(tmp_path / "large.png")
    info = detector.predictor.info
    info = dataclasses.replace(info, input=dataclasses.replace(info.input, scale=4.0, longest_side=4000))
    shown = exporting.inputs_of(Predictor(detector.predictor.model, info))(tmp_path / "large.png")["image"]
    assert max(shown.shape[2:]) <= exporting.CALIBRATION_SIDE
