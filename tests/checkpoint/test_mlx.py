"""mlx-lm's directory is two files, which are of one save, or refused."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import FormatError, SaveError
from tests.checkpoint.format_files import bundle
from tests.checkpoint.test_gguf import LLAMA

CONFIG, TENSORS = "adapter_config.json", "adapters.safetensors"


def scaled(lora_alpha: float) -> AdapterBundle:
    whole = bundle()
    adapters = {
        name: replace(one, spec=replace(one.spec, lora_alpha=lora_alpha))
        for name, one in whole.adapters.items()
    }
    return replace(whole, config=whole.config.replace(lora_alpha=lora_alpha), adapters=adapters)


def save(lora_alpha: float, path: Path) -> Path:
    return write(scaled(lora_alpha), path, "mlx", base=LLAMA)


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "replaced"])
def test_failure_at_either_file_leaves_both(
    name: str, is_new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "a", os.replace
    before = {} if is_new else content(save(6, path))

    def fail(source: Path, target: Path) -> None:
        if target.name == name and ".before-" not in source.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SaveError, match=r"No space left.*Nothing there was changed"):
        save(12, path)
    assert path.exists() != is_new
    assert (content(path) if path.exists() else {}) == before


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_config_and_tensors_of_two_saves_are_refused(name: str, tmp_path: Path) -> None:
    one, other = save(6, tmp_path / "one"), save(12, tmp_path / "other")
    shutil.copy(other / name, one)
    said = r"scale is (0\.375|0\.75) in adapter_config\.json, and was (0\.375|0\.75) when the"
    with pytest.raises(FormatError, match=said):
        read(one)
    save(12, one)
    assert read(one).adapters.keys() == bundle().adapters.keys()
