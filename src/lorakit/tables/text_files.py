"""Files of text, line by line: unpacked by their ending, in UTF-8, or in UTF-16 with its mark.

No encoding is guessed: other ones are refused, with what the text would be in the likeliest.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from lorakit.errors import FormatError, suggest
from lorakit.foreign_files import open_file

_BEGINNING = 1024
_AROUND = 12


def _unzstd(file: Any) -> IO[bytes]:
    import pyarrow

    stream: IO[bytes] = io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
    return stream


_UNPACK: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _unzstd,
}
PACKED = tuple(_UNPACK)
"""The endings of files that are unpacked while they are read."""
UTF_8 = "UTF-8"
_MARKS = {
    codecs.BOM_UTF8: ("utf-8-sig", "UTF-8 with a byte order mark"),
    codecs.BOM_UTF16_LE: ("utf-16", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16", "UTF-16"),
}


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read: ".csv" for reviews.CSV.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[:-1][-1:] if suffixes[-1:] in ([p] for p in PACKED) else suffixes[-1:])


def require_file(path: Path) -> None:
    """Raise FormatError, with the nearest names, if there is no such file."""
    if not path.exists():
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FormatError(f"{path} does not exist{suggest(path.name, near)}.")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The content, unpacked; raises FormatError where the file cannot be read."""
    try:
        with open_file(path) as file:
            unpack = _UNPACK.get(path.suffix.lower(), nullcontext)
            with unpack(file) as content:
                yield content
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def encoding_of(path: Path) -> str:
    """The encoding by the mark that the file begins with, in words; UTF-8 without one."""
    return _codec(path)[1]


def lines_of(path: Path, newline: str = "") -> Iterator[str]:
    r"""The lines with their ends: any that Python knows, or "\n" alone with that `newline`.

    Raises FormatError for a file that is not there, damaged, or in another encoding.
    """
    codec = _codec(path)[0]
    try:
        with opened(path) as file, io.TextIOWrapper(file, codec, newline=newline) as text:
            yield from text
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, codec, error.reason) from error


def read_text(path: Path) -> str:
    """The whole text; raises FormatError as `lines_of` does."""
    return "".join(lines_of(path))


def _codec(path: Path) -> tuple[str, str]:
    with opened(path) as file:
        begins = file.read(_BEGINNING)
    for mark, codec in _MARKS.items():
        if begins.startswith(mark):
            return codec
    if b"\0" in begins:
        raise FormatError(
            f"{path} is not UTF-8: it has NUL characters, as UTF-16 without a byte order mark has; "
            "save it as UTF-8."
        )
    return "utf-8", UTF_8


def _wrong_encoding(path: Path, codec: str, reason: str) -> FormatError:
    """The error with the place of the first byte that is none of the encoding's."""
    if codec == "utf-16":
        return FormatError(f"{path} begins as UTF-16, and is not: {reason}; save it as UTF-8.")
    before = 0
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                place = f"{error.reason} at byte {before + error.start} (line {number})"
                likely = _in_windows_1252(line, error.start)
                return FormatError(f"{path} is not UTF-8: {place}; save it as UTF-8.{likely}")
            before += len(line)
    raise AssertionError("a decoder of the whole has found a byte that no line has")


def _in_windows_1252(line: bytes, at: int) -> str:
    """What the text around a byte is in the encoding that most such files have, if it is text."""
    text = line[max(0, at - _AROUND) : at + _AROUND].decode("cp1252", "replace").strip()
    if "\ufffd" in text or not text.isprintable():
        return ""
    return f" In Windows-1252 (cp1252), which is much like latin-1, it has {text!r} there."
