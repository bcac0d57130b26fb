"""The files of a folder or a pattern that are one table: its shards, in the order of their names.

In a folder, the names of files and folders say of which split they are, in the words that data sets
on the Hub use: `train-00000-of-00002.parquet`, `data/validation/a.csv`, `test.jsonl`. If none does,
all of them are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from glob import glob, has_magic
from pathlib import Path

from lorakit.errors import FormatError
from lorakit.tables.text_files import kind_of

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def is_pattern(source: str) -> bool:
    """Whether a source names files by a pattern, such as `shards/*.parquet`."""
    return has_magic(source) and not Path(source).exists()


def files_of_pattern(pattern: str, kinds: Collection[str]) -> list[Path]:
    """The files that a pattern names, sorted; raises FormatError for none, or several kinds."""
    files = [path for path in map(Path, glob(pattern, recursive=True)) if path.is_file()]
    if not files:
        raise FormatError(f"No file fits the pattern {pattern}.")
    return _of_one_kind(sorted(f for f in files if kind_of(f) in kinds) or sorted(files), pattern)


def files_of_folder(folder: Path, split: str, kinds: Collection[str]) -> list[Path]:
    """The files of a split in a folder and below it, sorted; none if there are none of these kinds.

    Raises FormatError for several kinds of files, in which rows can stand twice.
    """
    files = _data_files(folder, kinds)
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    if any(splits.values()):
        files = [path for path in files if splits[path] == split]
    return _of_one_kind(files, str(folder)) if files else []


def has_splits(folder: Path, kinds: Collection[str]) -> bool:
    """Whether names of files in the folder say of which split they are."""
    return any(_split_of(f.relative_to(folder)) for f in _data_files(folder, kinds))


def _data_files(folder: Path, kinds: Collection[str]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_data(path, folder, kinds))


def _is_data(path: Path, folder: Path, kinds: Collection[str]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    return kind_of(path) in kinds and path.is_file() and not hidden


def _split_of(path: Path) -> str | None:
    """The split that the words of a path name, its last one first."""
    for word in reversed(re.split(r"[^a-z]+", str(path).lower())):
        for split, words in _WORDS.items():
            if word in words:
                return split
    return None


def _of_one_kind(files: Sequence[Path], source: str) -> list[Path]:
    found = sorted({kind_of(file) for file in files})
    if len(found) > 1:
        raise FormatError(
            f"{source} has files of the kinds {', '.join(found)}, in which rows can stand twice; "
            f"name those of one kind, such as {source.rstrip('/')}/*{found[0]}."
        )
    return [*files]
