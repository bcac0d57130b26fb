"""A file appears whole or not at all, with the permissions that the umask gives."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from lorakit.files import (
    atomic_write,
    atomic_write_text,
    directory_for_writing,
    sha256_of,
    undone_on_error,
)


class Crash(BaseException):
    """The process is gone."""


def test_text_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for text in ("old", "new, with a ü\r\nand a line"):
        atomic_write_text(file, text, newline="")
        assert file.read_bytes() == text.encode("utf-8")
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), Crash()], ids=["full", "crash"])
@pytest.mark.parametrize("step", ["write_text", "fsync", "replace"])
def test_failure_at_any_step_leaves_the_old_file(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_text("old")

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(Path if step == "write_text" else os, step, fail)
    with pytest.raises(type(error)):
        atomic_write_text(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    with atomic_write(file) as temporary:
        temporary.write_text("half")
        assert file.read_text() == "old"
        assert temporary.parent == file.parent
        assert temporary.suffix == ".tmp"
    assert file.read_text() == "half"


def test_two_threads_that_write_one_file_leave_one_whole(tmp_path: Path) -> None:
    file, both = tmp_path / "a", threading.Barrier(2)

    def write(text: str) -> None:
        with atomic_write(file) as temporary:
            both.wait(30)
            temporary.write_text(text)
            both.wait(30)

    threads = [threading.Thread(target=write, args=(letter * 9,)) for letter in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() in ("x" * 9, "y" * 9)
    assert os.listdir(tmp_path) == ["a"]


def test_missing_directory_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write_text(tmp_path / "nowhere" / "a", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_mode_is_the_umasks_whatever_the_writer_chose(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)  # as safetensors does
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_directories_that_were_made_go_again_if_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(Crash), directory_for_writing(tmp_path / "there" / "new" / "deep"):
        raise Crash
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "no links"])
def test_what_a_failing_block_replaced_is_there_again(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "no links")

    if not has_links:
        monkeypatch.setattr(os, "link", fail)
    for name in ("replaced", "removed", "kept"):
        (tmp_path / name).write_text(name)

    def change_and_crash() -> None:
        with undone_on_error(tmp_path):
            atomic_write_text(tmp_path / "replaced", "new")
            atomic_write_text(tmp_path / "added", "new")
            (tmp_path / "removed").unlink()
            raise Crash

    with pytest.raises(Crash):
        change_and_crash()
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {name: name for name in ("kept", "replaced", "removed")}


def test_what_a_whole_block_replaced_is_new(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    with undone_on_error(file):
        atomic_write_text(file, "new")
    assert (os.listdir(tmp_path), file.read_text()) == (["a"], "new")


def test_what_is_undone_may_be_a_part_of_what_is_undone(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")

    def change_twice_and_crash() -> None:
        with undone_on_error(tmp_path):
            with undone_on_error(file):
                atomic_write_text(file, "new")
            raise Crash

    with pytest.raises(Crash):
        change_twice_and_crash()
    assert (os.listdir(tmp_path), file.read_text()) == (["a"], "old")
