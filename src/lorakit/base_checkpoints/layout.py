"""Which files of a directory hold the weights, in the order that transformers looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError, suggest
from lorakit.foreign_files import local_path, read_json

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS, PICKLES = "model*.safetensors", "pytorch_model*.bin"
"""Patterns of transformers' names; there may be other copies of the weights beside them."""


@dataclass(frozen=True)
class Layout:
    """The files with weights, and what the index says stands in which."""

    files: tuple[str, ...]
    weight_map: Mapping[str, str] | None = None
    """File by tensor name; None where one file has all."""

    @property
    def pickled(self) -> bool:
        """Whether they are files of torch.save."""
        return not self.files[0].endswith(".safetensors")


def layout_of(directory: Path) -> Layout:
    """The layout of a checkpoint's directory.

    Raises FormatError that names what was found where no weights are, for an index that is
    damaged or whose files are missing or elsewhere.
    """
    if not local_path(directory).is_dir():
        what = "a file" if directory.exists() else "not there"
        raise FormatError(f"{directory} is {what}; a checkpoint is a directory with weights.")
    for single, index in ((SAFETENSORS, SAFETENSORS_INDEX), (PICKLE, PICKLE_INDEX)):
        if (directory / single).is_file():
            return Layout((single,))
        if (directory / index).is_file():
            return _indexed(directory, index)
    raise FormatError(_nothing_found(directory))


def _indexed(directory: Path, name: str) -> Layout:
    index = read_json(directory / name)
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table or not all(map(_is_text, table.values())):
        raise FormatError(f"{directory / name} has no weight_map: file names by tensor name.")
    files = tuple(sorted(set(table.values())))
    kind = ".safetensors" if name == SAFETENSORS_INDEX else ".bin"
    problems = [p for file in files if (p := _file_problem(directory, file, kind))]
    if problems:
        raise FormatError(f"{directory / name} names files that cannot be read:", problems)
    return Layout(files, table)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _file_problem(directory: Path, name: str, kind: str) -> str | None:
    if name != Path(name).name or name in ("", ".", ".."):
        return f"{name!r} is no name of a file beside the index"
    if not name.endswith(kind):
        return f"{name} does not end in {kind}"
    if not (directory / name).is_file():
        beside = (file.name for file in directory.iterdir())
        return f"{name} is missing{suggest(name, beside)}; download or copy it again"
    return None


def _nothing_found(directory: Path) -> str:
    """Why a directory is no checkpoint, by what is in it."""
    if (directory / ADAPTER_CONFIG).is_file():
        return f"{directory} holds an adapter ({ADAPTER_CONFIG}) and no weights of a base model."
    weights = sorted(
        file.name for file in directory.iterdir() if file.suffix in (".safetensors", ".bin", ".h5")
    )
    found = f"found {', '.join(weights[:5])}, and no index" if weights else "found no weights"
    return (
        f"{directory} is no checkpoint that transformers would read: {SAFETENSORS}, {PICKLE} or an "
        f"index of several such files ({SAFETENSORS_INDEX}) is expected; {found}."
    )
