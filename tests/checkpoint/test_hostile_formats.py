"""Files of other tools that a stranger broke: each is what was written, or one error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakit.errors import FormatError
from tests.checkpoint.format_files import FILES, read_or_refuse
from tests.checkpoint.test_hostile_files import HOSTILE, changed, odd_tensors, places


def metadata_of(file: Path) -> dict[str, str]:
    """Without the checksum, as another tool writes it."""
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    del metadata["lorakit_checksum"]
    return metadata


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format", ["diffusers", "kohya", "mlx"])
def test_hostile_header_or_config_is_refused_or_read(
    format: str, count: int, tmp_path: Path
) -> None:
    written = FILES[format](tmp_path)
    file = written.file
    tensors, metadata = load_file(file), metadata_of(file)
    draw = random.Random(format)
    texts = [key for key in metadata if key.startswith("lora")]
    config = file.parent / "adapter_config.json"
    for _ in range(count):
        key = draw.choice([*texts, *(["config"] if format == "mlx" else [])])
        before = json.loads(config.read_text() if key == "config" else metadata[key])
        path, value = draw.choice(list(places(before))), draw.choice(HOSTILE)
        text = changed(before, path, value)
        if key == "config":
            whole = config.read_text()
            config.write_text(text)
            read_or_refuse(written)
            config.write_text(whole)
        else:
            save_file(tensors, file, metadata={**metadata, key: text})
            read_or_refuse(written)
    save_file(tensors, file, metadata=metadata)
    written.read()


@pytest.mark.parametrize("format", ["diffusers", "kohya", "mlx"])
def test_odd_tensor_is_refused_or_read(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    file = written.file
    tensors, metadata = load_file(file), metadata_of(file)
    for key in list(tensors)[:3]:
        for odd in odd_tensors(tensors[key]):
            save_file({**tensors, key: odd}, file, metadata=metadata)
            read_or_refuse(written)
        save_file({k: t for k, t in tensors.items() if k != key}, file, metadata=metadata)
        read_or_refuse(written)


@pytest.mark.parametrize("format", ["peft", "lorakit", "diffusers", "mlx"])
def test_file_without_tensors_is_refused(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    save_file({}, written.file, metadata=metadata_of(written.file))
    with pytest.raises(FormatError, match="it contains no tensors"):
        written.read()
