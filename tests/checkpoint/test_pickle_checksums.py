"""A damaged file of torch.save is refused: torch itself passes over the zip's checksums."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from lorakit.checkpoint import read
from lorakit.errors import FormatError
from tests.checkpoint.test_hostile_formats import flips, outcome, said

FORMS = {"loralib": ("lora.pt", "q.lora_{}"), "peft": ("adapter_model.bin", "x.q.lora_{}.weight")}


def written(form: str, directory: Path) -> tuple[Path, Path]:
    """The file, and what is read."""
    name, key = FORMS[form]
    key = key.replace("x.", "base_model.model.")
    torch.manual_seed(0)
    torch.save(
        {key.format("A"): torch.randn(2, 8), key.format("B"): torch.randn(8, 2)}, directory / name
    )
    if form == "loralib":
        return directory / name, directory / name
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory / name, directory


@pytest.mark.parametrize(
    "count", [60, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"]
)
@pytest.mark.parametrize("form", FORMS)
def test_flipped_byte_never_gives_other_weights(form: str, count: int, tmp_path: Path) -> None:
    file, target = written(form, tmp_path)
    content, whole = file.read_bytes(), said(read(target, 4.0))
    for flipped in flips(content, count, form):
        file.write_bytes(flipped)
        outcome(target, whole, 4.0)


@pytest.mark.parametrize("form", FORMS)
def test_flipped_weight_is_refused_by_its_checksum(form: str, tmp_path: Path) -> None:
    file, target = written(form, tmp_path)
    content = bytearray(file.read_bytes())
    content[content.index(torch.load(file).popitem()[1].numpy().tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"data/\d does not have the checksum \(CRC32\)"):
        read(target, 4.0)


@pytest.mark.parametrize("form", FORMS)
def test_compressed_parts_are_not_unpacked(form: str, tmp_path: Path) -> None:
    file, target = written(form, tmp_path)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data/9", bytes(2**20))
    with pytest.raises(FormatError, match="it is compressed"):
        read(target, 4.0)


@pytest.mark.parametrize("form", FORMS)
def test_part_that_is_a_directory_is_refused(form: str, tmp_path: Path) -> None:
    file, target = written(form, tmp_path)
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\x01\x02") + 38] = 0x10  # torch would leave the numbers as they were
    file.write_bytes(content)
    with pytest.raises(FormatError, match="a part says that it is a directory"):
        read(target, 4.0)
