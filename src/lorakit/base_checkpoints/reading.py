"""A checkpoint, opened: the names of its tensors, and their values one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lorakit.base_checkpoints.layout import Layout, layout_of
from lorakit.base_checkpoints.shard_files import PickleFile, SafetensorsFile, ShardFile
from lorakit.base_checkpoints.stored import StoredTensor
from lorakit.errors import FormatError

_NAMED = 10
"""Names that one message lists."""


@dataclass(frozen=True)
class BaseCheckpoint:
    """The weights in a directory; nothing of them is kept in memory."""

    directory: Path
    shards: Mapping[str, tuple[str, ...]]
    """Names of the tensors by file, in the order of the file."""
    tensors: Mapping[str, StoredTensor]
    """Dtype and shape by name, shard after shard."""
    files: Mapping[str, ShardFile]
    """By name of the file."""
    file_of: Mapping[str, str]
    """The file of each tensor."""

    @property
    def largest_shard(self) -> int:
        """The bytes of the tensors of the largest one."""
        return max(sum(self.tensors[n].bytes for n in names) for names in self.shards.values())

    def read(self, name: str) -> Tensor:
        """A tensor, as a new one."""
        return self._file(name).whole(name)

    def read_rows(self, name: str, start: int, stop: int) -> Tensor:
        """The rows [start, stop) of a tensor, as a new one."""
        return self._file(name).rows(name, start, stop)

    def read_elements(self, name: str, places: Sequence[int]) -> Tensor:
        """Its values at these places of the flat tensor."""
        return self._file(name).elements(name, places)

    def blocks(self, name: str, limit: int) -> Iterator[tuple[int, int, Tensor]]:
        """(start, stop, rows) of a tensor from its first row to its last, about `limit` bytes each.

        A tensor of no dimension is one block of one row.
        """
        stored = self.tensors[name]
        if not stored.shape:
            yield 0, 1, self.read(name)
            return
        height = stored.shape[0]
        step = max(1, limit * height // max(1, stored.bytes))
        for start in range(0, height, step):
            stop = min(height, start + step)
            yield start, stop, self.read_rows(name, start, stop)

    def _file(self, name: str) -> ShardFile:
        wanted = self.file_of[name]
        for other, file in self.files.items():
            if other != wanted:
                file.release()
        return self.files[wanted]


def open_checkpoint(directory: Path) -> BaseCheckpoint:
    """The checkpoint in a directory as transformers would choose it: safetensors before pickles.

    No value is read. Raises FormatError where none is, for damaged files, and where the index and
    the shards contradict each other.
    """
    layout = layout_of(directory)
    kind = PickleFile if layout.pickled else SafetensorsFile
    files: dict[str, ShardFile] = {name: kind(directory / name) for name in layout.files}
    shards = {name: tuple(file.tensors) for name, file in files.items()}
    if problems := _contradictions(layout, shards):
        raise FormatError(
            f"The index of {directory} and its files contradict each other:", problems
        )
    tensors = {name: stored for file in files.values() for name, stored in file.tensors.items()}
    file_of = {name: file for file, names in shards.items() for name in names}
    return BaseCheckpoint(directory, shards, tensors, files, file_of)


def _contradictions(layout: Layout, shards: Mapping[str, tuple[str, ...]]) -> list[str]:
    if layout.weight_map is None:
        return []
    problems = []
    for file, names in shards.items():
        said = {name for name, other in layout.weight_map.items() if other == file}
        if missing := sorted(said - set(names)):
            problems.append(f"{file} lacks {_listed(missing)}, which the index names there")
        if unknown := sorted(set(names) - said):
            problems.append(f"{file} has {_listed(unknown)}, which the index does not name there")
    return problems


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
