"""Encodings by their mark, and an error that names the likeliest one of others; packed files."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from lorakit.errors import FormatError
from lorakit.tables import read_table, reading_of

TEXT = "text,label\ncafé \U0001f600,1\nnaïve,0\n"


@pytest.mark.parametrize(
    ("codec", "notes"),
    [
        ("utf-8", []),
        ("utf-8-sig", ["UTF-8 with a byte order mark"]),
        ("utf-16", ["UTF-16"]),
    ],
)
def test_an_encoding_with_a_mark_is_read_and_said(
    tmp_path: Path, codec: str, notes: list[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(codec))
    table = read_table(str(tmp_path / "a.csv"))
    assert table["text"][:] == ["café \U0001f600", "naïve"]
    reading = reading_of(table)
    assert reading is not None
    assert reading.notes == notes


def test_utf_16_with_the_high_byte_first_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xfe\xff" + '{"text": "\u00e9"}\n'.encode("utf-16-be"))
    assert read_table(str(tmp_path / "a.jsonl"))["text"][:] == ["\u00e9"]


@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
def test_another_encoding_is_named_with_its_text(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\nthe café,1\n".encode(codec))
    with pytest.raises(FormatError, match=r"line 2\).* Windows-1252 .* has 'the café,1'"):
        read_table(str(tmp_path / "a.csv"))


def test_bytes_that_are_no_text_name_no_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\n\x81\x8d\x02\n")
    with pytest.raises(FormatError, match=r"line 2\); save it as UTF-8\.$"):
        read_table(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(codec))
    with pytest.raises(FormatError, match="UTF-16 without a byte order mark"):
        read_table(str(tmp_path / "a.csv"))


def test_half_of_utf_16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode("utf-16")[:-1])
    with pytest.raises(FormatError, match="begins as UTF-16, and is not: truncated data"):
        read_table(str(tmp_path / "a.csv"))


def zstd(content: bytes) -> bytes:
    packed: bytes = pyarrow.compress(content, "zstd", asbytes=True)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_file_is_read(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.csv{ending}"
    file.write_bytes(PACK[ending](TEXT.encode()))
    assert read_table(str(file))["label"][:] == ["1", "0"]


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_file_that_breaks_off_is_refused(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.csv{ending}"
    file.write_bytes(PACK[ending](TEXT.encode() * 100)[:-9])
    with pytest.raises(FormatError, match=r"a\.csv.* cannot be read"):
        read_table(str(file))
