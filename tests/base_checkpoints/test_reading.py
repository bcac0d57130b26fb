"""A checkpoint's names, shapes and dtypes without its values, and its values one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lorakit.base_checkpoints import StoredTensor, open_checkpoint
from lorakit.errors import FormatError
from tests.base_checkpoints import files


@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_tensors_of_every_layout_read_as_they_were_written(
    layout: files.Layout, tmp_path: Path
) -> None:
    values = files.tensors()
    layout(tmp_path, values)
    base = open_checkpoint(tmp_path)
    assert base.tensors == {name: StoredTensor.of(tensor) for name, tensor in values.items()}
    for name, tensor in values.items():
        read = base.read(name)
        assert read.dtype == tensor.dtype
        assert torch.equal(read, tensor)
        assert read.is_contiguous()


@pytest.mark.parametrize("layout", files.LAYOUTS)
@pytest.mark.parametrize("limit", [1, 16, 10**6])
def test_blocks_are_all_rows_in_order(layout: files.Layout, limit: int, tmp_path: Path) -> None:
    values = files.tensors()
    layout(tmp_path, values)
    base = open_checkpoint(tmp_path)
    for name, tensor in values.items():
        blocks = list(base.blocks(name, limit))
        if tensor.ndim == 0:
            assert torch.equal(blocks[0][2], tensor)
            continue
        stops = [0, *(stop for _, stop, _ in blocks)]
        assert [start for start, _, _ in blocks] == stops[:-1]
        assert torch.equal(torch.cat([rows for *_, rows in blocks] or [tensor]), tensor)


def test_reading_gives_new_tensors(tmp_path: Path) -> None:
    for layout in (files.safetensors, files.pickle):
        layout(tmp_path, files.tensors())
        open_checkpoint(tmp_path).read("wide").zero_()
        assert open_checkpoint(tmp_path).read("wide").count_nonzero()
        (tmp_path / "model.safetensors").unlink(missing_ok=True)


def test_safetensors_come_before_pickles(tmp_path: Path) -> None:
    files.pickle(tmp_path, {"old": torch.ones(1)})
    files.safetensors(tmp_path, {"new": torch.ones(1)})
    assert [*open_checkpoint(tmp_path).tensors] == ["new"]


def test_largest_shard_is_that_of_the_tensors_bytes(tmp_path: Path) -> None:
    files.safetensors_shards(tmp_path, {"a": torch.ones(1), "b": torch.ones(9)})
    assert open_checkpoint(tmp_path).largest_shard == 36


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "", "sub/x.safetensors"])
def test_index_that_leaves_the_directory_is_refused(file: str, tmp_path: Path) -> None:
    index = {"weight_map": {"a": file}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="no name of a file beside the index"):
        open_checkpoint(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    files.safetensors_shards(tmp_path, files.tensors())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_checkpoint(tmp_path)


def test_index_and_shards_that_differ_are_listed(tmp_path: Path) -> None:
    files.safetensors_shards(tmp_path, {"a": torch.ones(1), "b": torch.ones(1)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"a"', '"c"'))
    with pytest.raises(FormatError) as raised:
        open_checkpoint(tmp_path)
    assert "00001-of-00002.safetensors lacks c" in str(raised.value)
    assert "00001-of-00002.safetensors has a, which the index does not name" in str(raised.value)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"weight_map": {"a": 1}}', "{", '{"weight_map": {}}']
)
def test_damaged_index_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(FormatError, match=r"index\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("layout", [files.safetensors, files.pickle, files.old_pickle])
def test_files_cut_anywhere_are_refused(layout: files.Layout, tmp_path: Path) -> None:
    layout(tmp_path, {"a": torch.randn(64, 64), "b": torch.randn(8)})
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for length in (0, 1, 7, 8, 100, *range(4096, len(content), 4096), len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(FormatError, match=file.name):
            open_checkpoint(tmp_path)


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"a": pytest.fail}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FormatError, match="could run code"):
        open_checkpoint(tmp_path)


def test_what_is_there_instead_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found no weights"):
        open_checkpoint(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(FormatError, match=r"found weights\.safetensors, and no index"):
        open_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FormatError, match="holds an adapter"):
        open_checkpoint(tmp_path)
    with pytest.raises(FormatError, match="is not there"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(FormatError, match="is a file"):
        open_checkpoint(tmp_path / "weights.safetensors")
