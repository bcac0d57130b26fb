"""An adapter is written where one was: by one writer, and what cannot be written is one error."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lorakit as lora
from lorakit.algebra import Outcome
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.derivation import conversion, convert, derived
from lorakit.derivation.derived import write_derived
from lorakit.errors import FormatError, SaveError
from lorakit.files import atomic_write
from lorakit.locks import exclusive
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle

OLD, NEW, OTHER = (bundle({"q": adapter(LinearSite(7, 5), r)}) for r in (1, 2, 3))
FORMATS = ("peft", "lorakit")


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(write(NEW, tmp_path / "source"))


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def derive(output: Path) -> object:
    return write_derived(lora.resize(NEW, rank=4), [], output)


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_the_one_who_writes_already_stay(
    format: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(OLD, tmp_path / "place", format)
    with exclusive(place):
        expected = content(place)

        def write_after_the_holder(*arguments: Any, **options: Any) -> Path:
            (place / "new.bin").write_bytes(b"the holder's")
            expected.update({"new.bin": b"the holder's"})
            return write(*arguments, **options)

        monkeypatch.setattr(conversion, "write", write_after_the_holder)
        monkeypatch.setattr(derived, "write", write_after_the_holder)
        with pytest.raises(SaveError, match=r"place is being written by process"):
            convert(source, place, format, overwrite=True)
        with pytest.raises(SaveError, match=r"place is being written by process"):
            derive(place)
        assert content(place) == expected


@pytest.mark.parametrize("format", FORMATS)
def test_no_one_else_writes_before_the_adapter_was_read_again(
    format: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, said = tmp_path / "place", []

    def save_another() -> None:
        try:
            write(OTHER, place, format)
        except SaveError as error:
            said.append(str(error))

    def read_late(*arguments: Any) -> AdapterBundle:
        thread = threading.Thread(target=save_another)
        thread.start()
        thread.join()
        return read(*arguments)

    monkeypatch.setattr(conversion, "read", read_late)
    convert(source, place, format)
    assert len(said) == 1
    assert f"{place} is being written by process {os.getpid()}" in said[0]
    assert read(place).config.r == 2


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def denied(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_directory_without_permission_is_one_error(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(OLD, tmp_path / "place")
    before = content(place)
    monkeypatch.setattr(os, "link", denied)
    monkeypatch.setattr("lorakit.files.copy2", denied)
    with pytest.raises(SaveError, match=r"place could not be written: .*Permission denied"):
        convert(source, place, "peft", overwrite=True)
    with pytest.raises(SaveError, match=r"place could not be written: .*Permission denied"):
        derive(place)
    assert content(place) == before


def test_disk_that_is_full_at_the_tokenizer_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def without_room(path: Path) -> Iterator[Path]:
        with atomic_write(path) as file:
            full()
            yield file

    beside, place = tmp_path / "beside", write(OLD, tmp_path / "place")
    beside.mkdir()
    (beside / "tokenizer.json").write_text("{}")
    before = content(place)
    monkeypatch.setattr(derived, "atomic_write", without_room)
    with pytest.raises(SaveError, match=r"place could not be written: .*No space left"):
        write_derived(lora.resize(NEW, rank=4), [beside], place)
    assert content(place) == before


def test_tokenizer_that_cannot_be_read_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(derived, "read_bytes", denied)
    with pytest.raises(FormatError, match=r"tokenizer\.json cannot be read: .*Permission denied"):
        write_derived(lora.resize(NEW, rank=4), [tmp_path], tmp_path / "place")
    assert not (tmp_path / "place").exists()


@pytest.fixture
def unknown(source: str) -> AdapterBundle:
    """An adapter with a setting of another tool, and the bundle of it."""
    config = Path(source) / "adapter_config.json"
    config.write_text(config.read_text().replace("{", '{"invented_next_year": 3,', 1))
    return read(source)


def test_unknown_settings_are_reported_by_what_does_not_write_them(
    source: str, unknown: AdapterBundle, tmp_path: Path
) -> None:
    line = "unknown settings of the adapter: invented_next_year=3"
    made: list[Outcome] = [lora.resize(unknown, rank=4), lora.combine([(unknown, 2), (OTHER, 1)])]
    reports = [
        convert(source, tmp_path / "converted", "lorakit"),
        *(write_derived(one, [], tmp_path / str(n)) for n, one in enumerate(made)),
    ]
    for report in reports:
        assert report.unknown_settings == {"invented_next_year": 3}
        assert line in str(report).splitlines()
    assert read(tmp_path / "0").unknown_settings == {}
    assert "unknown settings" not in str(
        write_derived(lora.resize(NEW, rank=4), [], tmp_path / "known")
    )
