"""Which reader reads which file of a corpus, by the task's name and the file's suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from lorakit.errors import ConfigError
from lorakit.tasks.nlg import dart, e2e, own, webnlg
from lorakit.tasks.nlg.inputs import Columns, Entry, table_of

Parser = Callable[[str], Columns]

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


def parser_for(path: Path, kind: str, corpus: str) -> Parser:
    """The reader of a corpus for a kind of file: from its text to columns, one row an input.

    Raises ConfigError that says which files are read.
    """
    parsers = PARSERS[corpus]
    if kind not in parsers:
        raise ConfigError(
            f"{path} is not read as {corpus}; give a file that ends in {', '.join(parsers)}, also "
            "with .gz."
        )
    return lambda text: table_of(parsers[kind](text))
