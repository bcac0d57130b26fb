"""The file that a Trainer reads beside the adapter: as safe as the adapter's own files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModel

import lorakit as lora
from lorakit.checkpoint.checksum import CHECKSUM
from lorakit.checkpoint.formats.tensor_files import load_safetensors
from lorakit.errors import FormatError, SaveError
from lorakit.locks import exclusive

NAME = "model.safetensors"


@pytest.fixture(scope="module")
def model(minilm: Path) -> Any:
    model = AutoModel.from_pretrained(minilm).eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    return model


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that is full (RLIMIT_FSIZE)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_a_directory_in_its_place_is_refused_before_anything_is_written(
    model: Any, tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(SaveError, match=f"{NAME} could not be written: it is a directory"):
        model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("size", [100, 2000])
def test_a_full_disk_leaves_what_was_there(size: int, model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(SaveError, match="could not be"), files_of_at_most(size):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_no_new_directory(model: Any, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=f"{NAME} could not be written"), files_of_at_most(100):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_directory_that_another_one_writes_is_left_alone(model: Any, tmp_path: Path) -> None:
    with exclusive(tmp_path):
        before = contents(tmp_path)
        with pytest.raises(SaveError, match="is being written by process"):
            model.save_pretrained(tmp_path)
        assert contents(tmp_path) == before


def test_it_has_a_checksum_and_the_models_own_names(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / NAME, framework="pt") as opened:
        assert opened.metadata().keys() == {"format", CHECKSUM}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = load_file(tmp_path / NAME)
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], trained[name]) for name in trained)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[-1] ^= 1
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        load_safetensors(tmp_path / NAME)
