"""The parser of a corpus' file, by the task's name and the file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.reading import read_parsed
from lorakit.tasks.nlg import dart, e2e, own, webnlg
from lorakit.tasks.nlg.inputs import Columns, Entry, table_of

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
    """One of a corpus' own files as a `datasets.Dataset`, one row an input.

    Raises FormatError for a file that is not there, empty, damaged or not UTF-8, ConfigError for a
    kind of file that is not read.
    """
    return read_parsed(source, partial(_parser_for, corpus))


def _parser_for(corpus: str, path: Path, kind: str) -> Callable[[str], Columns]:
    parsers = PARSERS[corpus]
    if kind not in parsers:
        raise ConfigError(
            f"{path} cannot be read as {corpus}; pass a file that ends in {', '.join(parsers)}, "
            "optionally followed by .gz."
        )
    return lambda text: table_of(parsers[kind](text))
