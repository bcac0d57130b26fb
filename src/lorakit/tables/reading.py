"""Tables from files, packed or not, from folders and patterns of them, or from named data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lorakit.errors import ConfigError, FormatError
from lorakit.foreign_files import local_path
from lorakit.tables import conll
from lorakit.tables.chunks import Storage
from lorakit.tables.delimited import columns_of
from lorakit.tables.folders import files_of_pattern, is_pattern
from lorakit.tables.joining import joined
from lorakit.tables.json_rows import columns_of_lines, parse_json
from lorakit.tables.layouts import layout_of
from lorakit.tables.named import files_of_named, load_named, require_datasets
from lorakit.tables.parquet import parquet_tables
from lorakit.tables.plain_text import parse_text
from lorakit.tables.readings import Reading, read_as, several
from lorakit.tables.text_files import (
    PACKED,
    encoding_of,
    kind_of,
    lines_of,
    read_text,
    require_file,
)

SEPARATED = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".json")
_WHOLE = {
    ".json": parse_json,
    **dict.fromkeys(conll.SUFFIXES, conll.parse_conll),
    ".txt": parse_text,
}
"""Parsers of texts that are read as a whole."""
_FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSON lines",
    ".json": "JSON",
    **dict.fromkeys(conll.SUFFIXES, "CoNLL"),
    ".parquet": "Parquet",
    ".txt": "plain text",
}
SUFFIXES = (*_FORMATS,)
_IN_FOLDERS = tuple(kind for kind in SUFFIXES if kind != ".txt")  # a text there is about the data

_ON_DISK: dict[tuple[str, int, int], tuple[Any, Reading]] = {}
"""The tables of this process that are on disk, by their files, which a run reads more than once."""

Parsed = TypeVar("Parsed")


def read_table(source: str, split: str = "train") -> Any:
    """The rows as a `datasets.Dataset`; `reading_of` says how they were read.

    `source` is a file, a pattern of files (`shards/*.parquet`), a folder of such files, or what
    `datasets` loads: a directory of its `save_to_disk`, or the name of a data set, with a
    configuration and a split where it has several (`glue:sst2:validation`). Several files are read
    in the order of their names; of a folder those whose names say the split, if any does.

    `split` is the one to take where there are several: train, validation or test.

    Raises FormatError for data that are not there, empty, damaged, in another encoding, or in files
    that do not fit each other, ConfigError for a kind of file that is not read.
    """
    files = _files(source, split)
    if files is None:
        return _filled(_own(load_named(source, split)), source)
    storage = Storage()
    found = {str(file): _from_file(file, storage) for file in files}
    may_lack = len(files) > 1 and kind_of(files[0]) in _JSON
    table = joined({name: table for name, (table, _) in found.items()}, may_lack)
    return read_as(_filled(table, source), several(reading for _, reading in found.values()))


def absence(source: str) -> str | None:
    """Why the files that a source names are not there; None if they are, or it may be a name.

    Nothing is read, and nothing is looked for on the Hub.
    """
    try:
        if is_pattern(source):
            files_of_pattern(source, SUFFIXES)
        elif kind_of(path := local_path(source)) in SUFFIXES:
            require_file(path)
    except (ConfigError, FormatError) as error:
        return str(error)
    return None


def _files(source: str, split: str) -> list[Path] | None:
    """The files of the source, in their order; None for what `datasets` loads."""
    if is_pattern(source):
        return files_of_pattern(source, SUFFIXES)
    path = local_path(source)
    if path.exists() and not path.is_dir():
        return [path]
    if kind_of(path) in SUFFIXES and not path.is_dir():
        require_file(path)
    return files_of_named(source, split, _IN_FOLDERS)


def _from_file(path: Path, storage: Storage) -> tuple[Any, Reading]:
    state = _state(path)
    if state in _ON_DISK:
        return _ON_DISK[state]
    chunks, reading = _chunks(path)
    with naming(str(path)):
        tables = {f"chunk {n}": storage.put(_own(table)) for n, table in enumerate(chunks)}
    table = joined(tables, may_lack=True)
    if table.cache_files:
        _ON_DISK[state] = table, reading
    return table, reading


def _state(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    about = path.stat()
    return str(path.absolute()), about.st_mtime_ns, about.st_size


def _chunks(path: Path) -> tuple[Iterator[Any], Reading]:
    """The tables of a file, in their order, and how it is read."""
    kind = _kind(path)
    if kind not in SUFFIXES:
        raise ConfigError(
            f"{path} cannot be read as a table; pass a file that ends in {', '.join(SUFFIXES)}, "
            f"optionally followed by {', '.join(PACKED)}."
        )
    reading = Reading(_FORMATS[kind])
    if kind == ".parquet":
        return parquet_tables(path), reading
    _require_text(path)
    reading = replace(reading, encoding=encoding_of(path))
    table_of = _json_cells().table_of
    if kind in SEPARATED:
        text = partial(lines_of, path)
        with naming(str(path)):
            layout = layout_of(text, SEPARATED[kind])
        reading = replace(reading, separator=layout.separator, quotes=layout.quotes)
        return map(table_of, columns_of(text, layout)), reading
    if kind == ".jsonl":
        return map(table_of, columns_of_lines(lines_of(path, "\n"))), reading
    return (table_of(_WHOLE[kind](read_text(path))) for _ in range(1)), reading


def _kind(path: Path) -> str:
    """The suffix by which the file is read: CoNLL's for a text of columns with tags."""
    kind = kind_of(path)
    is_text = kind == ".txt" and path.is_file()
    return conll.SUFFIXES[0] if is_text and conll.is_tagged(lines_of(path)) else kind


def parse_file(path: Path, parser_for: Callable[[Path, str], Callable[[str], Parsed]]) -> Parsed:
    """What the parser for the file's kind makes of its text.

    Raises FormatError for a file that is not there, empty, damaged or in another encoding.
    """
    require_file(path)
    parser = parser_for(path, kind_of(path))
    _require_text(path)
    with naming(str(path)):
        return parser(read_text(path))


def to_table(columns: Mapping[str, Any], source: str) -> Any:
    """The columns as a `datasets.Dataset`; FormatError without rows."""
    return _filled(_own(_json_cells().table_of(columns)), source)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Say of which source a FormatError is."""
    try:
        yield
    except FormatError as error:
        if error.headline.startswith(source):
            raise
        raise FormatError(f"{source} cannot be read: {error.headline}", error.problems) from error


def _require_text(path: Path) -> None:
    if not any(line.strip() for line in lines_of(path)):
        raise FormatError(f"{path} is empty.")


def _filled(table: Any, source: str) -> Any:
    if len(table) == 0:
        raise FormatError(f"{source} has no rows.")
    return table


def _own(table: Any) -> Any:
    """The table with each object's own keys, and the names of classes."""
    return _json_cells().with_own_keys(_with_class_names(table))


def _with_class_names(table: Any) -> Any:
    """The table with the names of classes where it numbers them, also in lists of them."""
    for column, feature in table.features.items():
        inner = getattr(feature, "feature", feature)
        if names := getattr(inner, "names", None):
            values = [_named(value, names) for value in table[column][:]]
            table = table.remove_columns(column).add_column(column, values)
    return table


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class, or a list of names; None for a number without one."""
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    return None if value is None or not 0 <= value < len(names) else names[value]


def _json_cells() -> Any:
    """The module that needs `datasets`."""
    require_datasets()
    from lorakit.tables import json_cells

    return json_cells
