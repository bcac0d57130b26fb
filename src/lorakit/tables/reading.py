"""Tables from files: CSV, TSV, JSON lines, Parquet, gzipped or not, or a data set by name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lorakit.errors import (
    ConfigError,
    FormatError,
    LorakitError,
    MissingDependencyError,
    suggest,
)
from lorakit.foreign_files import local_path, read_bytes
from lorakit.tables import conll
from lorakit.tables.delimited import parse_csv, parse_tsv
from lorakit.tables.json_rows import parse_json, parse_json_lines
from lorakit.text import repeated

_PARSERS = {
    ".csv": parse_csv,
    ".tsv": parse_tsv,
    ".jsonl": parse_json_lines,
    ".json": parse_json,
    **dict.fromkeys(conll.SUFFIXES, conll.parse_conll),
}
SUFFIXES = (*_PARSERS, ".parquet")

Parsed = TypeVar("Parsed")


def read_table(source: str, split: str = "train") -> Any:
    """The rows as a `datasets.Dataset`.

    `source` is a file, or what `datasets` loads: the name of a data set, with a configuration and
    a split where it has several (`glue:sst2:validation`), or a directory. The only file of a split
    in a directory, such as `train.csv`, is read as a file.

    Raises FormatError for data that are not there, empty, damaged or not UTF-8, ConfigError for a
    kind of file that is not read.
    """
    path = local_path(source)
    kind = kind_of(path)
    if path.is_dir() or (not path.exists() and kind not in SUFFIXES):
        return _checked(_by_name(source, split), source)
    _require_file(path)
    if kind not in SUFFIXES:
        raise ConfigError(
            f"{path} cannot be read as a table; pass a file that ends in {', '.join(SUFFIXES)}, "
            "optionally followed by .gz."
        )
    if kind == ".parquet":
        return _checked(_from_parquet(path, _filled(path)), source)
    return to_table(parse_file(path, lambda _, kind: _PARSERS[kind]), source)


def parse_file(path: Path, parser_for: Callable[[Path, str], Callable[[str], Parsed]]) -> Parsed:
    """What the parser for the file's kind makes of its text.

    Raises FormatError for a file that is not there, empty, damaged or not UTF-8.
    """
    _require_file(path)
    parser = parser_for(path, kind_of(path))
    text = _decoded(path, _filled(path))
    with naming(str(path)):
        return parser(text)


def to_table(columns: Mapping[str, Any], source: str) -> Any:
    """The columns as a `datasets.Dataset`; FormatError without rows."""
    return _checked(_json_cells().table_of(columns), source)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Say of which source a FormatError is."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{source} cannot be read: {error.headline}", error.problems) from error


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read: ".csv" for reviews.CSV.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[:-1][-1:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def read_text(path: Path) -> str:
    """The text of a file, gzipped or not; FormatError if it cannot be read or is not UTF-8."""
    return _decoded(path, _content(path))


def _require_file(path: Path) -> None:
    if not path.exists():
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FormatError(f"{path} does not exist{suggest(path.name, near)}.")


def _checked(table: Any, source: str) -> Any:
    if len(table) == 0:
        raise FormatError(f"{source} has no rows.")
    return _json_cells().with_own_keys(_with_class_names(table))


def _content(path: Path) -> bytes:
    try:
        content = read_bytes(path)
        return gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def _filled(path: Path) -> bytes:
    content = _content(path)
    if not content.strip():
        raise FormatError(f"{path} is empty.")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start} (line {line}); save it as "
            "UTF-8."
        ) from error


def _from_parquet(path: Path, content: bytes) -> Any:
    """The table as it is, without the index that pandas adds; categories become their values."""
    cells = _json_cells()
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read()
    except (ValueError, OSError) as error:
        raise FormatError(f"{path} cannot be read as Parquet: {error}") from error
    names = table.column_names
    if twice := repeated(names):
        raise FormatError(f"{path} has columns of the same name: {', '.join(twice)}.")
    table = table.select([name for name in names if not name.startswith("__index_level_")])
    for i, field in enumerate(table.schema):
        if pyarrow.types.is_dictionary(field.type):
            plain = table.column(i).cast(field.type.value_type)
            table = table.set_column(i, field.name, plain)
    return cells.table_of_arrow(table)


def _by_name(name: str, split: str) -> Any:
    datasets = _datasets()
    path, config, named_split = (*name.split(":"), "", "")[:3] if ":" in name else (name, "", "")
    split = named_split or split
    try:
        if (Path(path) / "dataset_dict.json").is_file() or (Path(path) / "state.json").is_file():
            saved = datasets.load_from_disk(path)
            return saved[split] if isinstance(saved, dict) else saved
        if not config and (file := _file_of_split(Path(path), split)):
            return read_table(str(file))
        return datasets.load_dataset(path, config or None, split=split)
    except LorakitError:
        raise
    except Exception as error:  # datasets raises whatever its loaders do
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FormatError(
            f"{name} is not a local file, and `datasets` could not load it with the split "
            f"{split!r}: {reason}"
        ) from error


def _file_of_split(folder: Path, split: str) -> Path | None:
    """The only file of a folder that can be of this split, such as `train.jsonl`.

    `datasets` would read it, too, but with guessed types ("007" as 7) and rounded numbers.
    """
    files = [file for file in folder.rglob(f"*{split}*") if kind_of(file) in SUFFIXES]
    alone = len(files) == 1 and files[0].parent == folder
    return files[0] if alone and files[0].name.partition(".")[0] == split else None


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
    _datasets()
    from lorakit.tables import json_cells

    return json_cells


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "Reading data needs the package datasets: pip install 'lorakit[train]'"
        ) from error
    return datasets
