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
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import BinaryIO

from halfpixel.errors import ArgumentError, DownloadError
from halfpixel.files import write_whole

TIMEOUT_S = 30.0
"""How long one read may stay silent."""

CHUNK_BYTES = 1 << 20

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
    return _fetch(url, sha256, to, progress)


def fetch_recorded(url: str, to: Path, *, progress: Progress | None = None, quiet: bool = False) -> Path:
    """As `fetch`, for a file whose publisher is not known to state a checksum.

    That of the first download is recorded, in a small file beside it, and every later one has to be the same. A warning
    says so, unless it is to be `quiet`.

    Raises:
        DownloadError: see `fetch`; or the record cannot be read.
    """
    record = to.with_name(f"{to.name}.sha256.json")
    if record.is_file():
        try:
            return fetch(url, _recorded(record), to, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error} (its checksum was recorded at the first download, in {record})") from error
    _fetch(url, "", to, progress)
    said = {"url": url, "sha256": _sha256(to), "bytes": to.stat().st_size, "date": f"{date.today():%Y-%m-%d}"}
    try:
        write_whole(record, json.dumps(said, indent=1).encode())
    except OSError as error:
        raise DownloadError(f"cannot write {record}: {error.strerror or error}") from error
    if not quiet:
        warnings.warn(
            f"{url}: no checksum of its publisher's is known here. That of the file which came, {said['sha256']}, is "
            f"recorded in {record}, and checked from now on",
            stacklevel=3,
        )
    return to


def _recorded(record: Path) -> str:
    try:
        said = json.loads(record.read_bytes())["sha256"]
        if isinstance(said, str) and re.fullmatch(r"[0-9a-f]{64}", said):
            return said
        raise ValueError(f"its sha256 is {said!r:.80}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"{record}: cannot read the checksum of an earlier download ({error}); delete it to record a new one"
        ) from error


def _fetch(url: str, sha256: str, to: Path, progress: Progress | None) -> Path:
    """See `fetch`; no checksum at all lets any file pass."""
    if not re.match(r"https?://.", url):
        raise ArgumentError(f"expected an http or https address, got {url!r}")
    part = to.with_name(f".{to.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        if to.is_file() and _sha256(to).startswith(sha256):
            return to
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                found = _download(url, file, to, progress)
            if not found.startswith(sha256):
                raise DownloadError(
                    f"{url} is not the file that was promised: its SHA-256 is {found}, expected {sha256}; "
                    f"try again, or download the right file by hand and save it as {to}"
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
    return to


def _download(url: str, file: BinaryIO, to: Path, progress: Progress | None) -> str:
    """Copy the address into the open file; its SHA-256."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "halfpixel"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, to, error) from error
    with response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        done = 0
        while chunk := _read(response, url, to):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _unreachable(url, to, f"only {done} of {total} bytes came")
    return digest.hexdigest()


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
