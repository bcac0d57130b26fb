"""Configs and headers of a hundred megabytes are refused in little time and memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lorakit.errors import FormatError
from lorakit.foreign_files import LARGEST_JSON
from tests.checkpoint.format_files import FILES, Written

HUGE = 100 * 2**20
CONFIG = "adapter_config.json"
WITH_CONFIG = ("peft", "peft, .bin", "portable", "vllm", "mlx", "adapterhub", "prompt_tuning")
WITH_HEADER = ("peft", "lorakit", "portable", "kohya", "mlx")


def assert_refused_soon(written: Written, message: str) -> None:
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(FormatError, match=message) as caught:
            written.read()
        assert time.process_time() - start < 5
        assert tracemalloc.get_traced_memory()[1] < 4 * HUGE
        assert len(str(caught.value)) < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", WITH_CONFIG)
def test_huge_config_is_refused(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    with (written.target / CONFIG).open("r+b") as opened:
        opened.write(b'{"x": "')
        opened.truncate(HUGE)  # no disk is needed for so many zeros
    assert_refused_soon(written, "has more than")


@pytest.mark.parametrize("format", [*WITH_HEADER, "diffusers"])
def test_header_of_a_hundred_megabytes_is_refused(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    with written.file.open("wb") as opened:
        opened.write(struct.pack("<Q", HUGE) + b'{"__metadata__":{"lorakit":"')
        opened.truncate(HUGE + 8)
    assert_refused_soon(written, "not a safetensors file: .*header too large")


@pytest.mark.parametrize(
    "format", ["peft", *(pytest.param(n, marks=pytest.mark.slow) for n in WITH_HEADER[1:])]
)
def test_header_that_safetensors_still_reads_is_refused(format: str, tmp_path: Path) -> None:
    written = FILES[format](tmp_path)
    text = '{"x": "' + "x" * LARGEST_JSON + '"}'
    save_file(load_file(written.file), written.file, {"lorakit": text})
    assert_refused_soon(written, "has more than")


def test_huge_value_in_gguf_is_refused(tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    kinds = {b"general.type": b"adapter", b"adapter.type": b"lora", b"lorakit": b"[" * HUGE}
    values = b"".join(text(k) + struct.pack("<I", 8) + text(v) for k, v in kinds.items())
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(kinds)) + values)
    assert_refused_soon(Written(file, file), "has more than")


def test_huge_config_for_images_is_refused(tmp_path: Path) -> None:
    written = FILES["diffusers"](tmp_path)
    text = '{"unet.r": "' + "x" * LARGEST_JSON + '"}'
    save_file(load_file(written.file), written.file, {"lora_adapter_metadata": text})
    assert_refused_soon(written, "has more than")
