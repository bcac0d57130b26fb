"""The parser of a corpus' file, by the task's name and the file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.reading import naming, parse_file, to_table
from lorakit.tables.text_files import kind_of
from lorakit.tasks.nlg import dart, e2e, own, webnlg
from lorakit.tasks.nlg.inputs import Entry, checked, table_of

PARSERS: dict[str, dict[str, Callable[[str], Iterator[Entry]]]] = {
    "e2e": {".csv": e2e.parse_table, ".txt": e2e.parse_text},
    "webnlg": {
        ".xml": webnlg.parse_xml,
        ".json": webnlg.parse_json,
        ".jsonl": webnlg.parse_lines,
    },
    "dart": {".json": dart.parse_json, ".xml": dart.parse_xml},
    "data_to_text": {".jsonl": own.parse_lines},
}


def read_corpus(source: str, corpus: str) -> Any:
    """One of a corpus' own files, or a folder of them, as a `datasets.Dataset`, one row an input.

    Raises FormatError for a file that is not there, empty, damaged or not UTF-8, ConfigError for a
    kind of file that is not read.
    """
    entries = read_entries(Path(source), corpus)
    with naming(source):
        columns = table_of(entries)
    return to_table(columns, source)


def read_entries(source: Path, corpus: str) -> list[Entry]:
    """The entries of a file, or of all files below a folder in the order of their paths.

    An input can have several entries. Raises as `read_corpus`.
    """
    files = _files(source, corpus) if source.is_dir() else [source]
    return [entry for file in files for entry in parse_file(file, partial(_parser_for, corpus))]


def _files(folder: Path, corpus: str) -> list[Path]:
    """WebNLG's training and development sets are folders of XML, one file a category and size."""
    files = [file for file in folder.rglob("*") if kind_of(file) in PARSERS[corpus]]
    kinds = sorted({kind_of(file) for file in files})
    if len(kinds) == 1:
        return sorted(files)
    wanted = f"pass a folder with files of one kind of {', '.join(PARSERS[corpus])}"
    if not kinds:
        raise ConfigError(f"{folder} has no file that can be read as {corpus}; {wanted}.")
    raise ConfigError(
        f"{folder} has files of kinds {', '.join(kinds)}, in which entries can stand twice: "
        f"{wanted}."
    )


def _parser_for(corpus: str, path: Path, kind: str) -> Callable[[str], list[Entry]]:
    parsers = PARSERS[corpus]
    if kind not in parsers:
        raise ConfigError(
            f"{path} cannot be read as {corpus}; pass a file that ends in {', '.join(parsers)}, "
            "optionally followed by .gz, or a folder of such files."
        )
    return lambda text: checked(parsers[kind](text))
