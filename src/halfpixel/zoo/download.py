"""Fetch published weights: checked, whole or not at all, and only once."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import secrets
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, Literal

from halfpixel.errors import ArgumentError, DownloadError
from halfpixel.files import write_whole

TIMEOUT_S = 30.0
"""How long one read may stay silent."""

CHUNK_BYTES = 1 << 20

Algorithm = Literal["sha256", "md5"]
CALLED = {"sha256": "SHA-256", "md5": "MD5"}

CURRENT = "/resolve/main/"
"""In addresses of the Hugging Face hub: the newest revision."""
REVISION_HEADER, REVISION = "X-Repo-Commit", "[0-9a-f]{40}"
"""Where the hub says of which revision a file is."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and, where the server says it, the bytes in all."""


def cache_dir() -> Path:
    """The folder for downloads: `$HALFPIXEL_HOME`, else `$XDG_CACHE_HOME/halfpixel`, else `~/.cache/halfpixel`."""
    if home := os.environ.get("HALFPIXEL_HOME"):
        return Path(home).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification asks to ignore relative paths
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "halfpixel"


def fetch(url: str, sha256: str, to: Path, *, progress: Progress | None = None) -> Path:
    """Make sure that `to` is the promised file, downloading it if it is not there or is another one.

    The bytes go to a temporary file beside `to`, which takes its name once the checksum is right; so a download that
    breaks leaves nothing behind, and several processes may fetch the same file at once.

    Args:
        url: an http or https address.
        sha256: the file's SHA-256 in hex, or a prefix of at least 8 digits, such as torchvision puts into its file
            names. A prefix that short guards against damage, not against malice.
        to: where the file belongs. The folder is made when missing.
        progress: told of every piece that arrives.

    Returns:
        `to`.

    Raises:
        ArgumentError: the address or the checksum is not one.
        DownloadError: the file could not be reached, came incomplete, is another file, or could not be written.
    """
    sha256 = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ArgumentError(f"expected a SHA-256 of 8 to 64 hex digits, got {sha256!r}")
    _fetch(url, to, progress, "sha256", sha256)
    return to


@dataclass(frozen=True)
class Record:
    """What was recorded of a file at its first download, in a small file beside it; empty where nothing was.

    Attributes:
        sha256: of the file, in hex.
        revision: of the repository of the Hugging Face hub that it came from.
    """

    sha256: str = ""
    revision: str = ""

    @staticmethod
    def beside(file: Path) -> Path:
        """Where it is."""
        return file.with_name(f"{file.name}.sha256.json")

    @classmethod
    def of(cls, file: Path) -> Record:
        """What was recorded.

        Raises:
            DownloadError: it cannot be read.
        """
        path = cls.beside(file)
        if not path.is_file():
            return cls()
        try:
            said = json.loads(path.read_bytes())
            found = cls(said["sha256"], said.get("revision", ""))
            if not isinstance(found.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", found.sha256):
                raise ValueError(f"its sha256 is {found.sha256!r:.80}")
            if not isinstance(found.revision, str) or not re.fullmatch(f"({REVISION})?", found.revision):
                raise ValueError(f"its revision is {found.revision!r:.80}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DownloadError(
                f"{path}: cannot read the checksum of an earlier download ({error}); delete it to record a new one"
            ) from error
        return found


def fetch_recorded(
    url: str, to: Path, *, md5: str = "", progress: Progress | None = None, quiet: bool = False
) -> Record:
    """As `fetch`, for a file whose publisher is not known to state a SHA-256.

    That of the first download is recorded, in a small file beside it, and every later one has to be the same. A warning
    says so where nothing could be checked at the first, unless it is to be `quiet`.

    Args:
        url: see `fetch`.
        to: see `fetch`.
        md5: the file's MD5 in hex, or its first digits, where its publisher states them: they guard against damage.
        progress: see `fetch`.
        quiet: no warning.

    Returns:
        What is recorded.

    Raises:
        DownloadError: see `fetch`; or the record cannot be read.
    """
    known, record = Record.of(to), Record.beside(to)
    if known.sha256:
        try:
            fetch(url, known.sha256, to, progress=progress)
            return known
        except DownloadError as error:
            raise DownloadError(f"{error} (its checksum was recorded at the first download, in {record})") from error
    revision = _fetch(url, to, progress, "md5", md5)
    new = Record(_digest(to, "sha256"), revision)
    said = {"url": url, "sha256": new.sha256, "bytes": to.stat().st_size, "date": f"{date.today():%Y-%m-%d}"}
    try:
        write_whole(record, json.dumps(said | ({"revision": revision} if revision else {}), indent=1).encode())
    except OSError as error:
        raise DownloadError(f"cannot write {record}: {error.strerror or error}") from error
    if not quiet and not md5:
        warnings.warn(
            f"{url}: no checksum of its publisher's is known here. That of the file which came, {new.sha256}, is "
            f"recorded in {record}, and checked from now on",
            stacklevel=3,
        )
    return new


def fetch_revision(url: str, beside: Sequence[str], to: Path, *, progress: Progress | None = None) -> Path:
    """A file in a repository of the Hugging Face hub and small ones beside it, all of one revision.

    The first download takes the current revision. Which that is, is recorded as the hub says it, and all that is
    fetched later comes from there.

    Args:
        url: of the file in the current revision.
        beside: names of the others, which are fetched first.
        to: where the file belongs; the others come beside it.
        progress: told of every piece of the file that arrives.

    Returns:
        `to`.

    Raises:
        DownloadError: see `fetch_recorded`.
    """
    files = (*map(to.with_name, beside), to)
    revision = next((one.revision for one in map(Record.of, files) if one.revision), "")
    for file in files:
        address = f"{url.rpartition('/')[0]}/{file.name}"
        if revision:
            address = address.replace(CURRENT, f"/resolve/{revision}/")
        last = file == to
        record = fetch_recorded(address, file, progress=progress if last else None, quiet=not last)
        revision = revision or record.revision
    return to


def _fetch(url: str, to: Path, progress: Progress | None, algorithm: Algorithm, expected: str) -> str:
    """See `fetch`; nothing expected lets any file pass. The revision that the server says, if any."""
    if not re.match(r"https?://.", url):
        raise ArgumentError(f"expected an http or https address, got {url!r}")
    part = to.with_name(f".{to.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        if to.is_file() and (not expected or _digest(to, algorithm).startswith(expected)):
            return ""
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                revision = _download(url, file, to, progress)
            if expected and not (found := _digest(part, algorithm)).startswith(expected):
                raise DownloadError(
                    f"{url} is not the file that was promised: its {CALLED[algorithm]} is {found}, expected "
                    f"{expected}; try again, or download the right file by hand and save it as {to}"
                )
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)
    except DownloadError:
        raise
    except OSError as error:  # the network's own errors are DownloadErrors by now
        raise DownloadError(
            f"cannot save {url} as {to}: {error.strerror or error}; "
            "make room or set HALFPIXEL_HOME to a folder that can be written"
        ) from error
    return revision


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps what the hub says of a file before it sends us to where the file is."""

    revision = ""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        self.revision = self.revision or headers.get(REVISION_HEADER, "")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _download(url: str, file: BinaryIO, to: Path, progress: Progress | None) -> str:
    """Copy the address into the open file; the revision that the server says it is of."""
    request, redirects = urllib.request.Request(url, headers={"User-Agent": "halfpixel"}), _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, to, error) from error
    with response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        done = 0
        while chunk := _read(response, url, to):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _unreachable(url, to, f"only {done} of {total} bytes came")
    revision = redirects.revision or response.headers.get(REVISION_HEADER, "")
    return revision if re.fullmatch(REVISION, revision) else ""


def _read(response: http.client.HTTPResponse, url: str, to: Path) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, to, error) from error


def _unreachable(url: str, to: Path, cause: Exception | str) -> DownloadError:
    if isinstance(cause, urllib.error.HTTPError):
        cause.close()
        cause = f"the server answered {cause.code} {cause.reason}"
    elif isinstance(cause, urllib.error.URLError):
        cause = str(cause.reason)
    elif isinstance(cause, TimeoutError):
        cause = f"no answer for {TIMEOUT_S:g} seconds"
    why = " ".join(str(cause).split()) or type(cause).__name__
    return DownloadError(
        f"could not download {url}: {why}; check the connection, or download it by hand and save it as {to}"
    )


def _digest(path: Path, algorithm: Algorithm) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
