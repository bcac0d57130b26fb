"""Downloads over HTTP: resumable, verified, atomic.

Bytes are written to `<name>.part` next to the target, which is renamed at the end. An interrupted
transfer is resumed, within one call and by the next one, with HTTP's Range; with If-Range the
server sends the file from the start if it has changed since. A lock keeps two processes from
writing one file.
"""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from lorakit.errors import FormatError, SaveError
from lorakit.files import sha256_of

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and, where the server sends it, the size of the file."""

_ATTEMPTS = 5
_CHUNK = 1 << 16
_SECONDS = 30
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
_PARTIAL, _NOT_SATISFIABLE = 206, 416


def download(
    address: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch `address` into `target`, unless that exists; returns `target`.

    Raises FormatError if the server cannot be reached, has no such file, keeps closing the
    connection, or sends a file that differs from `size` or `sha256`; SaveError if it cannot be
    written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_file():
                _fetch(address, part, progress)
                _check(address, part, size, sha256)
                os.replace(part, target)
                _validator(part).unlink(missing_ok=True)
    except urllib.error.HTTPError as error:
        raise FormatError(f"Could not download {address}: the server returned {error}.") from error
    except _BROKEN as error:
        raise FormatError(
            f"Could not download {address}: {error}. Run the command again to resume the download, "
            f"or put the file at {target} yourself."
        ) from error
    except OSError as error:
        raise SaveError(f"Could not write {target}: {error}") from error
    return target


def _fetch(address: str, part: Path, progress: Progress | None) -> None:
    """Resume `part` until it is complete; gives up after several attempts without progress."""
    failures = 0
    while True:
        before = _length(part)
        try:
            if _transfer(address, part, progress):
                return
            reason: Exception = ConnectionError("the connection was closed early")
        except urllib.error.HTTPError:
            raise
        except _BROKEN as error:
            reason = error
        failures = 0 if _length(part) > before else failures + 1
        if failures >= _ATTEMPTS:
            raise reason


def _transfer(address: str, part: Path, progress: Progress | None) -> bool:
    """One request; returns whether the file is complete."""
    have = _length(part)
    request = urllib.request.Request(address, headers=_range(part, have))
    try:
        response = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True  # it was complete already
        part.unlink()
        return False
    with response:
        if response.status != _PARTIAL:
            have = 0
        rest = response.headers.get("Content-Length")
        total = have + int(rest) if rest is not None else None
        if not have:
            _remember(part, response.headers)
        with part.open("ab" if have else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
    return total is None or have == total


def _chunks(response: Any) -> Iterator[bytes]:
    """What arrives of a body, to its last byte; raises IncompleteRead where it then breaks off."""
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except http.client.IncompleteRead as error:
        yield error.partial
        raise


def _range(part: Path, have: int) -> dict[str, str]:
    """The headers that request the rest, if the first bytes and their version are known."""
    validator = _validator(part)
    if not have or not validator.is_file():
        return {}
    return {"Range": f"bytes={have}-", "If-Range": validator.read_text(encoding="utf-8")}


def _remember(part: Path, headers: Any) -> None:
    """Store the server's ETag or date of this version next to the first bytes."""
    tag = headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    if version:
        _validator(part).write_text(version, encoding="utf-8")
    else:
        _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _check(address: str, part: Path, size: int | None, sha256: str | None) -> None:
    """Raise FormatError, and delete the file, if its size or SHA-256 is not the expected one."""
    problems = []
    if size is not None and _length(part) != size:
        problems.append(f"size mismatch: expected {size:,} bytes, got {_length(part):,}")
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        problems.append(f"sha256 mismatch: expected {sha256}, got {found}")
    if problems:
        part.unlink()
        _validator(part).unlink(missing_ok=True)
        raise FormatError(f"The file downloaded from {address} is not the expected one:", problems)
