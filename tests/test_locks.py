"""A directory has one writer, the next one is told who, and a killed one holds nothing."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import shutil
import signal
import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lorakit.errors import SaveError
from lorakit.locks import LOCK_FILES, exclusive, new_directory, reserved

FORK = multiprocessing.get_context("fork")


def hold(directory: Path, ready: Connection) -> None:
    with exclusive(directory):
        ready.send(True)
        signal.pause()


def held_elsewhere(directory: Path) -> multiprocessing.Process:
    """A process that holds the directory until it is killed."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=hold, args=(directory, there))
    process.start()
    assert here.poll(30)
    return process


def kill(process: multiprocessing.Process) -> None:
    process.kill()
    process.join(30)


def test_the_second_process_is_told_pid_host_and_time(tmp_path: Path) -> None:
    process = held_elsewhere(tmp_path)
    said = (
        rf"{re.escape(str(tmp_path))} is being written by process {process.pid} on "
        rf"{socket.gethostname()} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\+"
    )
    try:
        with pytest.raises(SaveError, match=said), exclusive(tmp_path):
            pytest.fail("both hold it")
    finally:
        kill(process)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    kill(held_elsewhere(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(LOCK_FILES)
    with exclusive(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_second_thread_is_refused(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        try:
            with exclusive(tmp_path, Path("the model")):
                pass
        except SaveError as error:
            said.append(str(error))

    with exclusive(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(said) == 1
    assert said[0].startswith(f"the model is being written by process {os.getpid()} on ")


def test_a_reserved_directory_is_held_through_what_takes_it_again(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        try:
            with exclusive(tmp_path):
                said.append("both hold it")
        except SaveError as error:
            said.append(str(error))

    with reserved(tmp_path):
        with exclusive(tmp_path) as require_held:
            require_held()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(said) == 1
    assert f"{tmp_path} is being written by process {os.getpid()}" in said[0]
    assert os.listdir(tmp_path) == []


def test_a_block_that_fails_lets_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), exclusive(tmp_path):
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": 1}'])
def test_a_note_that_says_nothing_is_no_obstacle(note: str, tmp_path: Path) -> None:
    with exclusive(tmp_path):
        (tmp_path / LOCK_FILES[1]).write_text(note)
        with pytest.raises(SaveError, match="written by another process"), exclusive(tmp_path):
            pytest.fail("both hold it")


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_flock_has_one_writer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    process = held_elsewhere(tmp_path)
    with pytest.raises(SaveError, match=f"process {process.pid}"), exclusive(tmp_path):
        pytest.fail("both hold it")
    kill(process)
    with exclusive(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_a_directory_is_the_systems_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), exclusive(tmp_path / "file"):
        pytest.fail("there is nothing to hold")


@pytest.mark.parametrize("away", ["deleted", "moved", "taken over"])
def test_a_directory_that_is_no_longer_there_is_told(away: str, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with exclusive(directory) as require_held:
        require_held()
        directory.rename(tmp_path / "elsewhere")
        if away == "deleted":
            shutil.rmtree(tmp_path / "elsewhere")
        if away == "taken over":
            kill(held_elsewhere(directory))
        with pytest.raises(SaveError, match=f"{directory} was deleted or moved while"):
            require_held()


def test_a_new_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "model"
    with new_directory(output) as directory:
        (directory / "a").write_text("whole")
        assert not output.exists()
        with pytest.raises(SaveError, match="model is being written by"), new_directory(output):
            pytest.fail("both make it")
    assert (output / "a").read_text() == "whole"
    assert os.listdir(output.parent) == ["model"]


def write_half(output: Path, error: BaseException) -> None:
    with new_directory(output) as directory:
        (directory / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SaveError("full"), ValueError()])
def test_a_new_directory_that_fails_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        write_half(tmp_path / "model", error)
    assert os.listdir(tmp_path) == []


def test_a_new_directory_replaces_an_empty_one_only(tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    with new_directory(output) as directory:
        (directory / "a").touch()
    with pytest.raises(SaveError, match="could not be written"), new_directory(output):
        pass
    assert os.listdir(output) == ["a"]
    assert os.listdir(tmp_path) == ["model"]
