"""What a stranger's path or JSON may be, each ending in one FormatError."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import FormatError, SaveError
from lorakit.foreign_files import local_path, parse_json, read_bytes, read_json


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (b"adapter", "b'adapter' is a bytes; a path is a str or a Path"),
        (3, "3 is a int; a path is a str or a Path"),
        (None, "None is a NoneType; a path is"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("x" * 5000, r"xxx\.\.\. \(5,000 letters\) cannot be read: File name too long"),
    ],
)
def test_path_that_is_none_is_refused(path: object, message: str) -> None:
    for function in (local_path, read):
        with pytest.raises(FormatError, match=message):
            function(path)  # type: ignore[operator]


@pytest.mark.parametrize("path", [b"adapter", 3, "a\0b", "x" * 5000])
def test_path_that_is_none_is_not_saved_to(path: object) -> None:
    bundle = AdapterBundle(method="head", trained={"head.weight": torch.ones(2)})
    with pytest.raises(SaveError, match="The adapter could not be saved: "):
        write(bundle, path)  # type: ignore[arg-type]


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Without the administrator's permissions, which no directory refuses."""
    if os.geteuid() != 0:
        yield
        return
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path(directory.root):
            directory.chmod(directory.stat().st_mode | 0o055)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100], ids=oct)
def test_directory_without_permission_is_refused(
    mode: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    directory.chmod(mode)
    request.getfixturevalue("as_nobody")
    with pytest.raises(FormatError, match="closed cannot be read: no permission"):
        read(directory)
    if mode != 0o100:
        with pytest.raises(FormatError, match="closed/inside cannot be read: Permission denied"):
            read(directory / "inside")


def test_pipe_and_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(FormatError, match=f"is {kind}; it must be a file"):
            read_bytes(path)


def test_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bytes(file, 5) == b"12345"
    with pytest.raises(FormatError, match="more than 4 bytes"):
        read_bytes(file, 4)


NUMBER = "is not a finite number"
JSON: dict[str, tuple[str, str]] = {
    "deep list": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "deep object": ('{"a":' * 100_000, "nested too deeply"),
    "deeper than any config": ("[" * 70 + "]" * 70, "nested more than 64 deep"),
    "integer of 5,000 digits": ("9" * 5000, r"9\.\.\. \(5,000 letters\) has more than 64 bits"),
    "10^400": ("1" + "0" * 400, "has more than 64 bits"),
    "1e400": ("[1e400]", f"1e400 {NUMBER}"),
    "-Infinity": ("[-Infinity]", f"-Infinity {NUMBER}"),
    "NaN": ('{"a": NaN}', f"NaN {NUMBER}"),
    "empty": ("", "not valid JSON"),
    "cut": ('{"a": [1, 2', "not valid JSON"),
    "two": ("{} {}", "not valid JSON"),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_no_program_should_read_is_refused(name: str, tmp_path: Path) -> None:
    text, message = JSON[name]
    file = tmp_path / "file.json"
    file.write_text(text)
    calls: list[Callable[[], object]] = [lambda: parse_json(text, "it"), lambda: read_json(file)]
    for call in calls:
        with pytest.raises(FormatError, match=message) as error:
            call()
        assert len(str(error.value)) < 400


def test_json_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="cannot be read: 'utf-8' codec"):
        read_json(tmp_path / "file.json")


def test_json_keeps_its_values() -> None:
    assert parse_json('{"a": [1, -2.5e3, true, null, "é"], "b": -9223372036854775808}', "it") == {
        "a": [1, -2500.0, True, None, "é"],
        "b": -(2**63),
    }
