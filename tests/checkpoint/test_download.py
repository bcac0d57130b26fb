"""Downloads against a server on this machine: resumed, checked, whole or not there."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorakit.checkpoint.download import download
from lorakit.errors import FormatError, SaveError
from tests.checkpoint.http_files import Server, serving

CONTENT = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as one:
        yield one


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "file.bin"


def assert_only(target: Path, content: bytes = CONTENT) -> None:
    """The file is there, and nothing is left of the way to it."""
    assert target.read_bytes() == content
    left = {path.name for path in target.parent.iterdir()} - {"file.bin", "file.bin.lock"}
    assert not left


def test_a_file_arrives_whole(server, target):
    assert download(server.address, target, size=len(CONTENT), sha256=DIGEST) == target
    assert_only(target)
    assert server.requests == [None]


def test_a_file_that_is_there_is_not_fetched(server, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(server.address, target)
    assert target.read_bytes() == b"mine"
    assert not server.requests


def test_a_redirection_is_followed_with_its_range(server, target):
    server.breaks = [1000]
    download(server.address.replace("file.bin", "moved.bin"), target)
    assert_only(target)
    assert server.requests == [None, None, "bytes=1000-", "bytes=1000-"]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(server, target):
    server.breaks = [1000, 100_000, 50]
    download(server.address, target, sha256=DIGEST)
    assert_only(target)
    assert server.requests == [None, "bytes=1000-", "bytes=101000-", "bytes=101050-"]


def test_an_answer_in_chunks_that_breaks_off_goes_on_where_it_was(server, target):
    server.chunked = True
    server.breaks = [1000, 100_000]
    download(server.address, target)
    assert_only(target)
    assert server.requests == [None, "bytes=1000-", "bytes=101000-"]


def test_another_call_continues(server, target):
    server.breaks = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(FormatError, match="Run the command again to resume the download"):
        download(server.address, target)
    assert not target.exists()
    assert (target.parent / "file.bin.part").stat().st_size == 1000
    server.requests.clear()
    download(server.address, target)
    assert server.requests == ["bytes=1000-"]
    assert_only(target)


def test_a_file_that_has_changed_starts_again(server, target):
    server.breaks = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(FormatError):
        download(server.address, target)
    server.content = CONTENT[::-1]
    download(server.address, target)
    assert_only(target, CONTENT[::-1])


@pytest.mark.parametrize("missing", ["ranges", "versions"])
def test_a_server_that_cannot_continue_starts_again(missing, server, target):
    setattr(server, missing, False)
    server.breaks = [1000]
    download(server.address, target)
    assert_only(target)


def test_a_file_that_was_whole_but_not_in_place_is_taken(server, target):
    server.breaks = [len(CONTENT) - 1, 0, 0, 0, 0, 0]
    with pytest.raises(FormatError):
        download(server.address, target)
    with (target.parent / "file.bin.part").open("ab") as part:
        part.write(CONTENT[-1:])
    download(server.address, target, sha256=DIGEST)
    assert_only(target)
    assert server.requests[-1] == f"bytes={len(CONTENT)}-"


def test_a_start_that_is_too_long_is_thrown_away(server, target):
    server.breaks = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(FormatError):
        download(server.address, target)
    (target.parent / "file.bin.part").write_bytes(b"x" * (len(CONTENT) + 5))
    download(server.address, target)
    assert_only(target)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"size": 7}, "size mismatch: expected 7 bytes, got 300,000"),
        ({"sha256": "0" * 64}, f"sha256 mismatch: expected {'0' * 64}, got {DIGEST}"),
    ],
)
def test_another_file_than_expected_is_refused_and_not_kept(expected, message, server, target):
    with pytest.raises(FormatError, match=message):
        download(server.address, target, **expected)
    assert {path.name for path in target.parent.iterdir()} == {"file.bin.lock"}


def test_an_address_that_is_not_there_is_said(server, target):
    with pytest.raises(FormatError, match="the server returned HTTP Error 404"):
        download(server.address.replace("file", "other"), target)
    assert server.requests == [None]


def test_a_server_that_is_not_there_is_said(target):
    with serving(b"") as gone:
        address = gone.address
    with pytest.raises(FormatError, match=r"or put the file at .*file\.bin yourself"):
        download(address, target)
    assert not target.exists()


def test_a_place_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "folder").write_text("a file", encoding="utf-8")
    with pytest.raises(SaveError, match="Could not write"):
        download(server.address, tmp_path / "folder" / "file.bin")


def test_two_calls_at_once_fetch_once(server, target):
    threads = [threading.Thread(target=download, args=(server.address, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_only(target)
    assert len(server.requests) == 1


def test_progress_is_told(server, target):
    server.breaks = [1000]
    seen: list[tuple[int, int | None]] = []
    download(server.address, target, progress=lambda *now: seen.append(now))
    assert seen[0] == (1000, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
