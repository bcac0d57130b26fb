"""Data sets by name: folders, what `save_to_disk` wrote, and those of the Hub.

`NAME`, `NAME:CONFIG`, `NAME:CONFIG:SPLIT` or `NAME::SPLIT`; NAME may be a directory.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError, MissingDependencyError
from lorakit.tables.folders import files_of_folder, has_splits

_SAVED = ("dataset_dict.json", "state.json")


def files_of_named(name: str, split: str, kinds: Collection[str]) -> list[Path] | None:
    """The files of a folder that are of this split, in order; None for what `datasets` loads.

    `datasets` would read these files, too, but with guessed types ("007" as 7) and rounded numbers.
    It reads what itself has saved, folders whose card says which files are which, and other kinds.
    """
    path, config, named_split = _parts(name)
    folder = Path(path)
    if config or not folder.is_dir() or _is_saved(folder) or _has_configurations(folder):
        return None
    if named_split and not has_splits(folder, kinds):
        return None
    return files_of_folder(folder, named_split or split, kinds) or None


def load_named(name: str, split: str) -> Any:
    """The data set as `datasets` loads it; raises FormatError with its reason."""
    datasets = require_datasets()
    path, config, named_split = _parts(name)
    split = named_split or split
    try:
        if not _is_saved(Path(path)):
            return datasets.load_dataset(path, config or None, split=split)
        saved = datasets.load_from_disk(path)
        return _split_of(saved, split) if isinstance(saved, dict) else saved
    except Exception as error:  # datasets raises whatever its loaders do
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FormatError(
            f"{name} is not a local file, and `datasets` could not load it with the split "
            f"{split!r}: {reason}"
        ) from error


def require_datasets() -> Any:
    """The package `datasets`; raises MissingDependencyError if it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "Reading data needs the package datasets: pip install 'lorakit[train]'"
        ) from error
    return datasets


def _parts(name: str) -> tuple[str, str, str]:
    """Path or name, configuration and split; empty where they are not given."""
    path, config, split = (*name.split(":"), "", "")[:3] if ":" in name else (name, "", "")
    return path, config, split


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _has_configurations(folder: Path) -> bool:
    card = folder / "README.md"
    return card.is_file() and "configs:" in card.read_text(encoding="utf-8", errors="replace")


def _split_of(saved: Any, split: str) -> Any:
    if split not in saved:
        raise KeyError(f"its splits are {', '.join(saved)}")
    return saved[split]
