"""Files of every format, cut or with another byte: one error, or the adapter that was saved."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.checkpoint.formats.registry import FORMATS
from lorakit.errors import FormatError
from tests.checkpoint.format_files import (
    FILES,
    WITHOUT_CHECKSUM,
    Written,
    flips,
    outcome,
    place_of,
    said,
    unsigned,
)

PAGE = 4096
COUNTS = pytest.mark.parametrize(
    "count", [40, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"]
)


def test_every_format_that_is_read_is_damaged_here() -> None:
    assert {name.partition(",")[0] for name in FILES} == set(FORMATS)


@pytest.mark.parametrize("format", FILES)
def test_file_cut_at_every_page_is_refused(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    content, whole = written.file.read_bytes(), said(written.read())
    cuts = [*range(0, len(content), PAGE), 1, 8, 9, len(content) - 1]
    assert len(cuts) > 6
    for cut in cuts:
        written.file.write_bytes(content[:cut])
        assert outcome(written, whole) == "refused", cut


@COUNTS
@pytest.mark.parametrize("format", FILES)
def test_flipped_byte_is_found(format: str, count: int, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    content, whole = written.file.read_bytes(), said(written.read())
    found: Counter[str] = Counter()
    for flipped in flips(content, count, format):
        written.file.write_bytes(flipped)
        found[outcome(written, whole)] += 1
    if format not in WITHOUT_CHECKSUM:
        assert found["another"] == 0
    if written.file.suffix in (".safetensors", ".gguf") and format not in WITHOUT_CHECKSUM:
        assert found["same"] <= count // 50, found  # what pads the file


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Written, bytes, str]]:
    """Of each format: where one is, its bytes, and what it says."""
    found = {}
    for format, write in FILES.items():
        written = write(tmp_path_factory.mktemp("whole"))
        found[format] = written, written.file.read_bytes(), said(written.read())
    return found


@pytest.mark.parametrize("format", FILES)
@given(share=st.floats(0, 1), tail=st.binary(max_size=64), middle=st.binary(max_size=64))
@settings(max_examples=20)
def test_file_with_anything_in_it_is_the_same_or_refused(
    format: str,
    whole_files: dict[str, tuple[Written, bytes, str]],
    share: float,
    tail: bytes,
    middle: bytes,
) -> None:
    written, content, whole = whole_files[format]
    at = int(share * len(content))
    for broken in (content[:at] + tail, content[:at] + middle + content[at + len(middle) :]):
        written.file.write_bytes(broken)
        assert outcome(written, whole) in ("same", "refused") or format in WITHOUT_CHECKSUM


@pytest.mark.parametrize("format", [name for name in FILES if name not in WITHOUT_CHECKSUM])
def test_flipped_number_is_found_by_the_checksum(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    content = bytearray(written.file.read_bytes())
    tensor = max(written.read().tensors.values(), key=torch.Tensor.numel)
    content[place_of(tensor, content) + tensor.nbytes // 2] ^= 1
    written.file.write_bytes(content)
    with pytest.raises(FormatError, match="checksum"):
        written.read()


@COUNTS
@pytest.mark.parametrize(
    "format", ["peft", "lorakit", "portable", "gguf", "diffusers", "kohya", "mlx"]
)
def test_flipped_byte_in_a_file_of_another_tool_is_no_other_error(
    format: str, count: int, tmp_path: Path
) -> None:
    written = FILES[format](tmp_path)
    content, whole = unsigned(written.file.read_bytes()), said(written.read())
    found: Counter[str] = Counter()
    for flipped in flips(content, count, format):
        written.file.write_bytes(flipped)
        found[outcome(written, whole)] += 1
    assert found["another"] > 0, "nothing but a checksum finds another number"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("format", FILES)
def test_numbers_that_are_none_are_refused(format: str, value: float, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    if written.file.suffix in (".bin", ".pt"):
        tensors = torch.load(written.file)
        next(iter(tensors.values())).view(-1)[3] = value
        torch.save(tensors, written.file)
    else:
        content = bytearray(unsigned(written.file.read_bytes()))
        tensor = next(iter(written.read().tensors.values()))
        struct.pack_into("<f", content, place_of(tensor, content) + 12, value)
        written.file.write_bytes(content)
    with pytest.raises(FormatError, match="values are NaN or infinite"):
        written.read()
