"""Named models and the way to their files."""

import hashlib
import importlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from halfpixel.errors import DownloadError, ModelFileError
from halfpixel.zoo import names
from halfpixel.zoo.names import DEFAULT_MODEL, NAMED_MODELS, find, locate
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
        assert bool(model.accuracy) == bool(model.page)
        assert max(len(model.summary), len(model.accuracy)) <= 76  # a line each in a terminal of 100 columns
        assert model.reader or model.needs
        if model.sha256:
            assert re.fullmatch("[0-9a-f]{8}", model.sha256)
            assert model.url.endswith(f"-{model.sha256}.pth")  # as torchvision and MMDetection name their files
        if "detectron2" in model.url:
            assert model.licence == "CC-BY-SA-3.0"


def test_only_what_can_be_read_has_a_name() -> None:
    readers = {model.reader for model in NAMED_MODELS} - {""}
    assert readers >= {"torchvision", "mmdet_solov2"}
    for name in readers:
        assert callable(importlib.import_module(f"halfpixel.zoo.convert.{name}").convert)


def test_an_embedded_model_lies_inside_the_package() -> None:
    path = locate("nuclei")
    assert path.name == "nuclei.safetensors"
    assert path.parent == Path(names.__file__).parent


def test_a_file_is_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"x")
    assert locate(path) == locate(str(path)) == path


@pytest.mark.parametrize("wrong", ["nucleii", "/no/such/file.safetensors", ".", ""])
def test_neither_a_name_nor_a_file(wrong: str) -> None:
    with pytest.raises(ModelFileError, match=r"named models.*nuclei, nuclei-unet") as caught:
        locate(wrong)
    assert str(caught.value).startswith(wrong)


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


def published(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str = "", beside: tuple[str, ...] = ()) -> None:
    model = NamedModel("far", "far away", "MIT", url=url, sha256=sha256, beside=beside)
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


def test_a_folder_is_its_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="neither a model file"):
        locate(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert locate(tmp_path) == tmp_path / "model.safetensors"
