"""A file that lorakit wrote and that changed by one bit since is refused, or reads as it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.checksum import CHECKSUM, checked_beside, with_checksum
from lorakit.config import LoraConfig
from lorakit.errors import FormatError
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter
from tests.checkpoint.bundles import assert_equal, random_tensor

FILES = {"peft": "adapter_model.safetensors", "lorakit": "trained.safetensors"}


def small_bundle(dtype: torch.dtype = torch.float32) -> AdapterBundle:
    tensors = {name: random_tensor((8, 8), dtype, 0) for name in ("lora_A", "lora_B")}
    adapter = ModuleAdapter(AdapterSpec(8, 8, merge_weights=False), tensors, LinearSite(8, 8))
    config = LoraConfig(r=8, target_modules=["q"])
    trained = {"score.bias": torch.zeros(()), "score.weight": torch.ones(0, 4, dtype=dtype)}
    return AdapterBundle(config, {"layer.0.q": adapter}, trained)


def with_flipped_bit(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_flipped_bit_in_a_tensor_is_refused(form: str, dtype: torch.dtype, tmp_path: Path) -> None:
    write(small_bundle(dtype), tmp_path, form)
    file = tmp_path / FILES[form]
    content = file.read_bytes()
    bytes_of_tensors = sum(t.numel() * t.element_size() for t in load_file(file).values())
    draws = random.Random(0)
    for _ in range(50):
        bit = 8 * len(content) - 1 - draws.randrange(8 * bytes_of_tensors)
        file.write_bytes(with_flipped_bit(content, bit))
        with pytest.raises(FormatError, match="damaged: its content is not what was saved"):
            read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FILES)
def test_flipped_bit_anywhere_is_refused_or_changes_nothing(form: str, tmp_path: Path) -> None:
    write(small_bundle(), tmp_path, form)
    file, whole = tmp_path / FILES[form], read(tmp_path)
    content, refused, bits = file.read_bytes(), 0, 8 * (tmp_path / FILES[form]).stat().st_size
    for bit in range(bits):
        file.write_bytes(with_flipped_bit(content, bit))
        try:
            found = read(tmp_path)
        except FormatError:
            refused += 1
        else:
            assert_equal(found, whole)
    assert bits > 10_000
    assert refused > 0.95 * bits


def test_checksum_of_another_header_is_refused(tmp_path: Path) -> None:
    write(small_bundle(), tmp_path, "lorakit")
    file = tmp_path / FILES["lorakit"]
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    changed = metadata["lorakit"].replace('"lora_alpha": 8', '"lora_alpha": 9')
    save_file(load_file(file), file, metadata=metadata | {"lorakit": changed})
    assert changed != metadata["lorakit"]
    with pytest.raises(FormatError, match="checksum in its header differs"):
        read(tmp_path)


def test_the_checksum_of_files_that_are_already_saved_stays_what_it_is() -> None:
    tensors = {
        "b.lora_B": torch.arange(6, dtype=torch.bfloat16).view(3, 2),
        "a.lora_A": torch.tensor([[0.5, -1.0]]),
        "score.bias": torch.tensor(2.0),
        "none": torch.ones(0, 4),
    }
    metadata = with_checksum({"format": "pt", "lorakit": '{"version": 1}'}, tensors)
    assert metadata[CHECKSUM] == (
        "sha256:d62ea53b02fa7b78160b8ecd5f26c760c262af67c47727e1cd6501dab7cbc4ab"
    )


def test_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    write(small_bundle(), tmp_path)
    file, whole = tmp_path / FILES["peft"], read(tmp_path)
    save_file(load_file(file), file, metadata={"format": "pt"})
    assert_equal(read(tmp_path), whole)


def test_damage_is_the_reason_where_it_also_makes_a_file_unreadable(tmp_path: Path) -> None:
    """A flipped bit may change the file's own settings as well."""
    write(small_bundle(), tmp_path, "peft")
    file = tmp_path / FILES["peft"]
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    changed = {**metadata, "lorakit": metadata["lorakit"].replace('"r": 8', '"r": 9')}
    assert changed != metadata
    save_file(load_file(file), file, changed)
    with pytest.raises(FormatError, match="damaged: its content is not what was saved"):
        read(tmp_path)


def test_a_file_is_checked_while_more_is_done_and_before_it_is_over(tmp_path: Path) -> None:
    write(small_bundle(), tmp_path, "peft")
    file = tmp_path / FILES["peft"]
    file.write_bytes(with_flipped_bit(file.read_bytes(), 8 * file.stat().st_size - 8))
    done = []

    def work() -> None:
        with checked_beside():
            read(tmp_path)
            done.append("more")

    with pytest.raises(FormatError, match="damaged"):
        work()
    assert done == ["more"]
