"""Against a real server on this machine that behaves and misbehaves."""

import errno
import hashlib
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from halfpixel.errors import ArgumentError, DownloadError
from halfpixel.zoo import download
from halfpixel.zoo.download import Record, cache_dir, fetch, fetch_recorded, fetch_revision

BODY = bytes(range(256)) * 9001
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: list[str]
    both_are_here = threading.Barrier(2, timeout=30)

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/together":
            self.both_are_here.wait()
        self.send_response(200)
        if self.path == "/truncated":
            self.send_header("Content-Length", str(len(BODY) + 1000))
        elif self.path != "/unsized":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path == "/silent":
            self.wfile.write(BODY[:100])
            time.sleep(1.0)
        else:
            self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Handler.requests = []
    with serving(Handler) as address:
        yield address


def assert_one_line_and_nothing_left(error: DownloadError, url: str, to: Path) -> None:
    message = str(error)
    assert "\n" not in message
    assert url in message
    assert str(to) in message
    assert list(to.parent.iterdir()) == []


def test_a_good_file_arrives_whole_and_reports_progress(server: str, tmp_path: Path) -> None:
    to = tmp_path / "deep" / "folder" / "weights.pth"
    seen: list[tuple[int, int | None]] = []
    assert fetch(f"{server}/good", SHA256, to, progress=lambda done, total: seen.append((done, total))) == to
    assert to.read_bytes() == BODY
    assert list(to.parent.iterdir()) == [to]
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) > 1
    assert seen == sorted(seen)


def test_a_body_of_unstated_length_is_fine(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    to = fetch(f"{server}/unsized", SHA256, tmp_path / "w", progress=lambda done, total: seen.append((done, total)))
    assert to.read_bytes() == BODY
    assert seen[-1] == (len(BODY), None)


def test_a_prefix_of_the_checksum_is_enough_and_upper_case_is_fine(server: str, tmp_path: Path) -> None:
    assert fetch(f"{server}/good", SHA256[:8].upper(), tmp_path / "w").read_bytes() == BODY
    with pytest.raises(ArgumentError, match="8 to 64 hex digits"):
        fetch(f"{server}/good", SHA256[:7], tmp_path / "w")
    with pytest.raises(ArgumentError, match="8 to 64 hex digits"):
        fetch(f"{server}/good", "not hex at all", tmp_path / "w")


def test_a_good_file_is_used_without_the_network(server: str, tmp_path: Path) -> None:
    to = tmp_path / "weights.pth"
    to.write_bytes(BODY)
    fetch(f"{server}/good", SHA256, to)
    assert Handler.requests == []


def test_a_damaged_file_is_replaced(server: str, tmp_path: Path) -> None:
    to = tmp_path / "weights.pth"
    to.write_bytes(BODY[:-1])
    fetch(f"{server}/good", SHA256, to)
    assert to.read_bytes() == BODY
    assert Handler.requests == ["/good"]


def test_missing_on_the_server(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"404 Not Found.*by hand") as caught:
        fetch(f"{server}/missing", SHA256, tmp_path / "w")
    assert_one_line_and_nothing_left(caught.value, f"{server}/missing", tmp_path / "w")


def test_cut_short(server: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="by hand") as caught:
        fetch(f"{server}/truncated", SHA256, tmp_path / "w")
    assert_one_line_and_nothing_left(caught.value, f"{server}/truncated", tmp_path / "w")


def test_another_file_than_promised_is_not_kept(server: str, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(DownloadError, match=f"{SHA256}.*{wrong}") as caught:
        fetch(f"{server}/good", wrong, tmp_path / "w")
    assert_one_line_and_nothing_left(caught.value, f"{server}/good", tmp_path / "w")


def test_a_failed_fetch_leaves_what_was_there(server: str, tmp_path: Path) -> None:
    to = tmp_path / "w"
    to.write_bytes(b"mine")
    with pytest.raises(DownloadError):
        fetch(f"{server}/good", "0" * 8, to)
    assert to.read_bytes() == b"mine"


def test_nobody_listens(server: str, tmp_path: Path) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{closed.server_port}/good"
    closed.server_close()
    with pytest.raises(DownloadError, match="check the connection") as caught:
        fetch(url, SHA256, tmp_path / "w")
    assert_one_line_and_nothing_left(caught.value, url, tmp_path / "w")


def test_the_server_falls_silent(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    with pytest.raises(DownloadError, match=r"0\.1 seconds") as caught:
        fetch(f"{server}/silent", SHA256, tmp_path / "w")
    assert_one_line_and_nothing_left(caught.value, f"{server}/silent", tmp_path / "w")


def test_the_disk_is_full(server: str, tmp_path: Path) -> None:
    def no_space(done: int, total: int | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DownloadError, match="No space left") as caught:
        fetch(f"{server}/good", SHA256, tmp_path / "w", progress=no_space)
    assert_one_line_and_nothing_left(caught.value, f"{server}/good", tmp_path / "w")


def test_the_folder_is_a_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"cannot save .*HALFPIXEL_HOME"):
        fetch(f"{server}/good", SHA256, tmp_path / "file" / "w")


@pytest.mark.parametrize("url", ["", "weights.pth", "file:///etc/hostname", "ftp://example.org/x"])
def test_only_web_addresses(url: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="http or https"):
        fetch(url, SHA256, tmp_path / "w")


def test_a_checksum_that_nobody_states_is_recorded(server: str, tmp_path: Path) -> None:
    to, record = tmp_path / "w", tmp_path / "w.sha256.json"
    with pytest.warns(UserWarning, match=f"{SHA256}, is recorded in .* and checked from now on"):
        assert fetch_recorded(f"{server}/good", to).sha256 == SHA256
    said = json.loads(record.read_text())
    assert (said["url"], said["sha256"], said["bytes"]) == (f"{server}/good", SHA256, len(BODY))
    fetch_recorded(f"{server}/good", to)  # quietly: a warning would be an error here
    assert Handler.requests == ["/good"]
    to.write_bytes(b"damaged")
    fetch_recorded(f"{server}/good", to)
    assert to.read_bytes() == BODY
    assert Handler.requests == ["/good", "/good"]


def test_another_file_than_recorded(server: str, tmp_path: Path) -> None:
    record = tmp_path / "w.sha256.json"
    record.write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(DownloadError, match=f"SHA-256 is {SHA256}, expected 0000.*recorded at the first download"):
        fetch_recorded(f"{server}/good", tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"sha256": 3}', '{"sha256": ""}', '{"sha256": "abcd"}', "[" * 99_999),
        *(json.dumps({"sha256": "0" * 64, "revision": wrong}) for wrong in (3, None, "main", "../" * 13 + "a")),
    ],
)
def test_a_record_that_is_none(server: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "w.sha256.json").write_text(text)
    with pytest.raises(DownloadError, match=r"w\.sha256\.json: cannot read the checksum.*delete it"):
        fetch_recorded(f"{server}/good", tmp_path / "w")
    assert Handler.requests == []


def test_nothing_is_recorded_of_what_did_not_come(server: str, tmp_path: Path) -> None:
    for what in ("missing", "truncated"):
        with pytest.raises(DownloadError):
            fetch_recorded(f"{server}/{what}", tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


OLD, NEW = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Each file that is asked for by the newest revision is the last of it: then there is a newer one."""

    newest: list[str]
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        revision = self.path.split("/")[-2]
        if self.path.startswith("/elsewhere"):  # where files are: says nothing of revisions
            self.send_response(200)
        else:
            revision = self.newest.pop(0) if revision == "main" else revision
            large = self.path.endswith(".safetensors")
            self.send_response(302 if large else 200)
            self.send_header("X-Repo-Commit", revision)
            if large:
                self.send_header("Location", f"/elsewhere/{revision}/{self.path.split('/')[-1]}")
        self.end_headers()
        self.wfile.write(revision.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Hub.newest, Hub.requests = [OLD, NEW, NEW], []
    with serving(Hub) as address:
        yield f"{address}/org/repo/resolve/main/w.safetensors"


def test_all_files_are_of_the_revision_of_the_first(hub: str, tmp_path: Path) -> None:
    to = tmp_path / "w.safetensors"
    with pytest.warns(UserWarning, match="no checksum of its publisher's"):
        assert fetch_revision(hub, ["config.json"], to) == to
    assert (tmp_path / "config.json").read_text() == to.read_text() == OLD
    assert Record.of(to).revision == Record.of(tmp_path / "config.json").revision == OLD
    to.unlink()
    assert fetch_revision(hub, ["config.json"], to).read_text() == OLD
    assert "/org/repo/resolve/main/config.json" in Hub.requests
    assert sum("/main/" in path for path in Hub.requests) == 1


def test_the_revision_is_that_of_the_hub_and_not_of_where_it_sends_us(hub: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no checksum of its publisher's"):
        fetch_revision(hub, [], tmp_path / "w.safetensors")
    assert Record.of(tmp_path / "w.safetensors").revision == OLD


def _fetch_in_process(url: str, to: Path) -> None:
    fetch(url, SHA256, to)


def test_processes_may_fetch_at_once(server: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    to = tmp_path / "weights.pth"
    processes = [context.Process(target=_fetch_in_process, args=(f"{server}/together", to)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert to.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [to]


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HALFPIXEL_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "halfpixel"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_dir() == tmp_path / ".cache" / "halfpixel"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "halfpixel"
    monkeypatch.setenv("HALFPIXEL_HOME", "~/here")
    assert cache_dir() == tmp_path / "here"
