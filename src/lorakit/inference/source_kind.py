"""Whether a name stands for an adapter or for data, by what is there."""

from __future__ import annotations

from pathlib import Path

from lorakit.checkpoint.formats.registry import FORMATS, adapters_within
from lorakit.checkpoint.releases import release_of
from lorakit.errors import FormatError
from lorakit.foreign_files import local_path
from lorakit.runs.directory import RECIPE
from lorakit.tables.reading import SUFFIXES
from lorakit.tables.text_files import kind_of

_ADAPTER_FILES = {name for codec in FORMATS.values() for name in codec.files}


def holds_rows(source: str) -> bool:
    """Whether this is data; else it is a run or an adapter, or an id that may be one on the Hub.

    Raises FormatError for a path that is neither.
    """
    path = local_path(source)
    if release_of(source) is not None:
        return False
    if not path.exists():
        return kind_of(path) in SUFFIXES or ":" in source
    if path.is_file() and kind_of(path) in SUFFIXES and path.name not in _ADAPTER_FILES:
        return True
    if (path / RECIPE).is_file() or any(codec.sniff(path) for codec in FORMATS.values()):
        return False
    if adapters_within(path):
        return False  # whose configs are no rows
    if path.is_dir() and _has_rows(path):
        return True
    raise FormatError(
        f"{source} is neither an adapter nor data: it must be a run, an adapter in a format of "
        f"{', '.join(FORMATS)}, a file that ends in {', '.join(SUFFIXES)} (and may be packed, "
        "as .gz), or a folder of such files."
    )


def _has_rows(folder: Path) -> bool:
    """Whether `datasets` has saved the folder, or a file of rows stands in it; not of a model."""
    if (folder / "config.json").is_file():
        return False
    saved = ("dataset_dict.json", "state.json")
    return any((folder / name).is_file() for name in saved) or any(
        kind_of(file) in SUFFIXES for file in folder.rglob("*")
    )
