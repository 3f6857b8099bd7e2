"""Named models and the way to their files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from halfpixel.errors import ArgumentError, DownloadError, MissingDependencyError, ModelFileError
from halfpixel.zoo import names
from halfpixel.zoo.modelfile import read_info, variant_names
from halfpixel.zoo.names import DEFAULT_MODEL, NAMED_MODELS, check_model, check_start, find, locate, with_weights
from halfpixel.zoo.published import EMBEDDED, PUBLISHED, NamedModel

BODY = b"pretend that these are weights" * 99


def test_names_are_unique_and_complete() -> None:
    assert len({model.name for model in NAMED_MODELS}) == len(NAMED_MODELS)
    assert find(DEFAULT_MODEL) is not None
    for model in NAMED_MODELS:
        assert find(model.name) is model
        assert model.summary
        assert model.licence
        assert bool(model.file) != bool(model.url)


def test_what_is_published_says_by_whom() -> None:
    names = [model.name for model in (*EMBEDDED, *PUBLISHED)]
    assert len(set(names)) == len(names)
    for model in PUBLISHED:
        assert model.url.startswith("https://")
        assert bool(model.accuracy) == bool(model.page) == bool(model.coco_ap)
        assert f" AP {model.coco_ap.removeprefix('box ')}%" in model.accuracy or not model.accuracy
        assert model.page.startswith("https://") or not model.page
        assert len(model.name) + len(model.summary) + len(model.coco_ap) + len(model.licence) <= 71  # one line of 80
        assert bool(model.reader) != bool(model.needs)
        if model.sha256:
            assert re.fullmatch("[0-9a-f]{8}", model.sha256)
            assert model.url.endswith(f"-{model.sha256}.pth")  # as torchvision and MMDetection name their files
        if model.md5:
            assert re.fullmatch("[0-9a-f]{6}", model.md5)
            assert model.url.endswith(f"_{model.md5}.pkl")  # as Detectron2's MODEL_ZOO.md says of its files
        if "detectron2" in model.url:
            assert model.licence == "CC-BY-SA-3.0"


def test_the_networks_of_named_models_are_known() -> None:
    for model in NAMED_MODELS:
        assert bool(model.variant) != bool(model.needs)
        assert model.variant in ("", *variant_names())
        if model.file:
            assert read_info(model.path).variant == model.variant
    assert with_weights("rtmdet_ins_tiny") == ("rtmdet-ins-tiny",)
    assert with_weights("mask_rcnn_r50_fpn") == ("coco", "detectron2-r50")
    assert with_weights("rtmdet_lite") == ()


@pytest.mark.parametrize("variant", variant_names())
def test_every_network_is_told_from_what_is_not_known(variant: str) -> None:
    check_start(variant)
    with pytest.raises(ModelFileError, match="a network that has to be trained first"):
        check_model(variant)


def test_an_embedded_model_lies_inside_the_package() -> None:
    path = locate("nuclei")
    assert path.name == "nuclei.safetensors"
    assert path.parent == Path(names.__file__).parent


def test_a_file_is_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"x")
    assert locate(path) == locate(str(path)) == path


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nucleii", "neither a model file nor a named model; did you mean nuclei"),
        ("rt-detr-r5", "did you mean rt-detr-r50 or rt-detr-r18"),
        ("/no/such/file.safetensors", r"nor a named model \(halfpixel models lists the names\)$"),
        ("", r"nor a named model \(halfpixel models lists the names\)$"),
        (".", r"the folder has no model\.safetensors"),
        ("rtmdet_lite", r"a network that has to be trained first \(halfpixel train\)$"),
        ("rtmdet_ins_tiny", "a network that has to be trained first .*; with weights there is rtmdet-ins-tiny$"),
        ("mask_rcnn_r50_fpn", "with weights there is coco or detectron2-r50$"),
    ],
)
def test_neither_a_name_nor_a_file(wrong: str, message: str) -> None:
    for refused in (locate, check_model):
        with pytest.raises(ModelFileError, match=message) as caught:
            refused(wrong)
        assert str(caught.value).startswith(wrong)
        assert len(str(caught.value)) < 150


def test_what_training_may_start_from(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"x")
    for good in ("nuclei", "coco", "rtmdet_lite", tmp_path / "mine.safetensors"):
        check_start(good)
    with pytest.raises(ModelFileError, match=r"nor a network to train; did you mean .*rtmdet_lite"):
        check_start("rtmdet_light")
    with pytest.raises(ArgumentError, match="rf-detr-seg-nano: it cannot be trained: halfpixel only runs it"):
        check_start("rf-detr-seg-nano")


def test_what_cannot_be_run_is_not_fetched(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, address + "weights.pth", "0" * 64, needs="halfpixels_elbow")
    for refused in (locate, check_model):
        with pytest.raises(MissingDependencyError, match=r'far: .* pip install "halfpixel\[halfpixels_elbow\]"'):
            refused("far")
    assert Quiet.asked == []


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path / "cache"))
    site = tmp_path / "site"
    site.mkdir()
    (site / "weights.pth").write_bytes(BODY)
    Quiet.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def published(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str = "", **more: Any) -> None:
    model = NamedModel("far", "far away", "MIT", url=url, sha256=sha256, **more)
    monkeypatch.setattr(names, "NAMED_MODELS", (*(one for one in NAMED_MODELS if one.file), model))


def test_a_download_happens_once(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, address + "weights.pth", hashlib.sha256(BODY).hexdigest()[:8])
    heard: list[tuple[int, int | None]] = []
    path = locate("far", lambda done, total: heard.append((done, total)))
    assert path == tmp_path / "cache" / "weights.pth"
    assert path.read_bytes() == BODY
    assert heard[-1] == (len(BODY), len(BODY))
    assert locate("far") == path
    assert Quiet.asked == ["/weights.pth"]


def test_another_file_than_promised(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, address + "weights.pth", "0" * 64)
    with pytest.raises(DownloadError, match="not the file that was promised"):
        locate("far")
    assert not list((tmp_path / "cache").iterdir())


def test_no_network(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, "http://127.0.0.1:1/weights.pth", "0" * 64)
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:1/weights\.pth") as caught:
        locate("far")
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in ("nuclei", "nuclei-unet", "halfpixel models"))  # what can be tried


def test_what_lies_beside_a_file_comes_with_it(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "config.json").write_text("{}")
    published(monkeypatch, address + "weights.pth", beside=("config.json",))
    far = find("far")
    assert far is not None
    assert not far.is_here
    with pytest.warns(UserWarning, match="no checksum of its publisher's is known here") as warned:
        path = locate("far")
    assert path == far.path == tmp_path / "cache" / "far" / "weights.pth"
    assert far.is_here
    assert len(warned) == 1
    assert path.with_name("config.json.sha256.json").is_file()
    recorded = json.loads(path.with_name("weights.pth.sha256.json").read_text())
    assert recorded["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert locate("far") == path
    assert Quiet.asked == ["/config.json", "/weights.pth"]
    path.unlink()
    (tmp_path / "site" / "weights.pth").write_bytes(b"others")
    with pytest.raises(DownloadError, match=r"not the file that was promised.*recorded at the first download, in .*"):
        locate("far")


def test_an_md5_that_the_publisher_states(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(monkeypatch, address + "weights.pth", md5="000000")
    with pytest.raises(DownloadError, match=r"not .* promised: its MD5 is [0-9a-f]{32}, expected 000000"):
        locate("far")
    assert not list((tmp_path / "cache").iterdir())
    published(monkeypatch, address + "weights.pth", md5=hashlib.md5(BODY).hexdigest()[:6])
    path = locate("far")  # no warning, which would be an error: it was checked
    recorded = json.loads(path.with_name("weights.pth.sha256.json").read_text())
    assert recorded["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_a_folder_is_its_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the folder has no"):
        locate(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert locate(tmp_path) == tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ((), "so it is no model"),
        (("readme.txt",), "so it is no model"),
        (("config.json", "readme.txt"), "it has config.json, but no weights"),
        (("config.json", "best.safetensors"), "it has best.safetensors: give one of its files"),
        (("a.onnx", "b.PTH", "c.pt", "d.pkl", "e.xml"), "it has a.onnx, b.PTH, c.pt and 2 more: give one of its files"),
        (
            ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
            "weights in several files; max_shard_size of save_pretrained puts them into one",
        ),
        (
            ("config.json", "pytorch_model.bin"),
            "it has pytorch_model.bin: weights in a pickle; save_pretrained of a newer transformers writes the file",
        ),
        (
            ("adapter_config.json", "adapter_model.safetensors"),
            "it has adapter_config.json: an adapter, which has to be merged into the weights of its network first",
        ),
    ],
)
def test_what_a_folder_has_instead(files: tuple[str, ...], there: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    for refused in (check_model, check_start):
        with pytest.raises(ModelFileError) as caught:
            refused(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: the folder has no model.safetensors, so it is no model")
        assert str(caught.value).endswith(there)
