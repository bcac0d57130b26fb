"""Written checkpoints are read by safetensors and transformers, and hold the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorakit.base_checkpoints import (
    StoredTensor,
    cut_again,
    cut_alike,
    open_checkpoint,
    write_checkpoint,
)
from lorakit.errors import SaveError
from tests.base_checkpoints import files


def stored(values: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
    return {name: StoredTensor.of(tensor) for name, tensor in values.items()}


def whole(directory: Path) -> dict[str, Tensor]:
    """All tensors, by safetensors itself."""
    return {k: v for file in directory.glob("*.safetensors") for k, v in load_file(file).items()}


def test_one_file_is_what_safetensors_itself_would_read(tmp_path: Path) -> None:
    values = files.tensors()
    size = write_checkpoint(tmp_path, cut_again(stored(values), 10**9), lambda name: [values[name]])
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert size == (tmp_path / "model.safetensors").stat().st_size
    read = whole(tmp_path)
    assert read.keys() == values.keys()
    for name, tensor in values.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_tensors_begin_where_safetensors_itself_puts_them(tmp_path: Path) -> None:
    values = {name: tensor.contiguous() for name, tensor in files.tensors().items()}
    save_file(values, tmp_path / "own.safetensors", metadata={"format": "pt"})
    write_checkpoint(tmp_path, cut_again(stored(values), 10**9), lambda name: [values[name]])
    own, ours = tmp_path / "own.safetensors", tmp_path / "model.safetensors"
    assert ours.stat().st_size == own.stat().st_size


def test_blocks_are_written_one_after_the_other(tmp_path: Path) -> None:
    value = torch.randn(9, 3)
    told: list[int] = []
    plan = cut_again({"a": StoredTensor.of(value)}, 10**9)
    write_checkpoint(tmp_path, plan, lambda _: value.split(2), told.append)
    assert torch.equal(whole(tmp_path)["a"], value)
    assert told == [24, 24, 24, 24, 12]


@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_same_cut_as_the_base(layout: files.Layout, tmp_path: Path) -> None:
    values = files.tensors()
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    layout(before, values)
    base = open_checkpoint(before)
    tensors = {**base.tensors, "head.weight": StoredTensor(torch.float32, (1,))}
    plan = cut_alike(base, tensors, {name: name for name in base.tensors})
    written = {**values, "head.weight": torch.ones(1)}
    write_checkpoint(after, plan, lambda name: [written[name]])
    read = whole(after)
    assert all(torch.equal(read[name], tensor) for name, tensor in written.items())
    if len(base.shards) == 2:
        index = json.loads((after / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in written.values())
        assert index["weight_map"]["embed.weight"] == "model-00001-of-00002.safetensors"
        assert index["weight_map"]["head.weight"] == "model-00002-of-00002.safetensors"


def test_tensors_may_be_renamed_within_their_shards(tmp_path: Path) -> None:
    files.safetensors_shards(tmp_path, {"a": torch.ones(1), "b": torch.ones(1)})
    base = open_checkpoint(tmp_path)
    tensors = {f"bert.{name}": stored for name, stored in base.tensors.items()}
    plan = cut_alike(base, tensors, {f"bert.{name}": name for name in base.tensors})
    assert [[*held] for held in plan.values()] == [["bert.a"], ["bert.b"]]


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    plan = cut_again({"a": StoredTensor(torch.float32, (5,))}, 10**9)
    with pytest.raises(SaveError, match="to be written"):
        write_checkpoint(tmp_path, plan, lambda _: pytest.fail("computed"))
    assert not list(tmp_path.iterdir())
