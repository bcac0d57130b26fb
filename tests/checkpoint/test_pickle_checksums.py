"""A damaged file of torch.save is refused: torch itself passes over the zip's checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from lorakit.errors import FormatError
from tests.checkpoint.format_files import FILES

FORMS = ("loralib", "peft, .bin", "adapterhub")


@pytest.mark.parametrize("form", FORMS)
def test_flipped_weight_is_refused_by_its_checksum(form: str, tmp_path: Path) -> None:
    written = FILES[form](tmp_path)
    file = written.file
    content = bytearray(file.read_bytes())
    content[content.index(torch.load(file).popitem()[1].numpy().tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"data/\d+ does not have the checksum \(CRC32\)"):
        written.read()


@pytest.mark.parametrize("form", FORMS)
def test_compressed_parts_are_not_unpacked(form: str, tmp_path: Path) -> None:
    written = FILES[form](tmp_path)
    file = written.file
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data/9", bytes(2**20))
    with pytest.raises(FormatError, match="it is compressed"):
        written.read()


@pytest.mark.parametrize("form", FORMS)
def test_part_that_is_a_directory_is_refused(form: str, tmp_path: Path) -> None:
    written = FILES[form](tmp_path)
    file = written.file
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 38] = 0x10  # torch would leave the numbers as they were
    file.write_bytes(content)
    with pytest.raises(FormatError, match="a part says that it is a directory"):
        written.read()
