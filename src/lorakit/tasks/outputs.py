"""Texts and references from files, as systems write them and official scorers read them.

Texts: lines, of which an empty one is an empty text, or a table with a column `prediction`, as
`lorakit generate` writes it. References, in the order of the texts:

- one text file with empty lines: those of one text stand together, an empty line follows
  (tuetschek/e2e-metrics);
- one text file without empty lines: one reference a line;
- several text files: the first references, the second, ..., where a blank line is none
  (WebNLG's scripts, WebNLG/GenerationEval);
- a file of the corpus, or JSON lines with a column `references`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, FormatError
from lorakit.tables.cells import text_problem
from lorakit.tables.reading import SUFFIXES, read_table
from lorakit.tables.text_files import kind_of, read_text
from lorakit.tasks.nlg.corpora import PARSERS, read_corpus, read_entries
from lorakit.tasks.nlg.inputs import REFERENCES, SEEN
from lorakit.text import plural

PREDICTION = "prediction"
_LINES = (".txt", ".lex", "")  # kinds of files with a text a line


@dataclass(frozen=True)
class Truth:
    """The references of each text, and whether its category was seen in training, if known."""

    references: list[list[str]]
    seen: list[bool | None] | None = None


def read_outputs(
    task: str, predictions: Path, references: Sequence[Path] = ()
) -> tuple[list[str], Truth]:
    """The texts and their references; without files of references, those beside JSON lines' texts.

    Raises FormatError for files without them, ConfigError if there are no references.
    """
    kind = kind_of(predictions)
    if kind != ".jsonl" and not references:
        raise ConfigError(
            f"{predictions} contains no references; pass them with --references FILE."
        )
    if kind in _LINES or kind not in SUFFIXES:
        texts = read_lines(predictions)
    else:
        table = read_table(str(predictions))
        texts = _texts(_column(table, PREDICTION, predictions), predictions)
        if not references:
            return texts, _truth(table, predictions)
    truth = read_references(task, references)
    if len(texts) != len(truth.references):
        raise ConfigError(_miscount(task, predictions, len(texts), references, truth))
    return texts, truth


def read_references(task: str, files: Sequence[Path]) -> Truth:
    """The references from one file, or from one file for each; raises FormatError, ConfigError."""
    if len(files) > 1:
        return Truth(_side_by_side(files))
    file = files[0]
    if _is_corpus(task, file):
        return _truth(read_corpus(str(file), task), file)
    if kind_of(file) in _LINES:
        return Truth(_grouped(read_lines(file)))
    return _truth(read_table(str(file)), file)


def read_lines(file: Path) -> list[str]:
    """The lines of a text file, gzipped or not; raises FormatError if it cannot be read."""
    lines = read_text(file).split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def _side_by_side(files: Sequence[Path]) -> list[list[str]]:
    streams = [read_lines(file) for file in files]
    if len(set(map(len, streams))) > 1:
        found = [f"{file}: {len(lines)}" for file, lines in zip(files, streams, strict=True)]
        raise FormatError("The reference files have different numbers of lines:", found)
    return [list(group) for group in zip(*streams, strict=True)]


def _grouped(lines: Sequence[str]) -> list[list[str]]:
    if all(line.strip() for line in lines):
        return [[line] for line in lines]
    groups: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    return groups if groups[-1] else groups[:-1]


def _is_corpus(task: str, file: Path) -> bool:
    """Whether a file, or a folder, is the corpus' own, and not a table or lines of references."""
    if task not in PARSERS or file.is_dir():
        return task in PARSERS
    kind = kind_of(file)
    if kind == ".jsonl":
        return REFERENCES not in read_table(str(file)).column_names
    if kind in _LINES:  # microsoft/LoRA's E2E is `input||reference`
        return kind in PARSERS[task] and "||" in next(iter(read_lines(file)), "")
    return True


def _miscount(
    task: str, predictions: Path, texts: int, references: Sequence[Path], truth: Truth
) -> str:
    wanted = plural(len(truth.references), "text")
    message = (
        f"{predictions} has {plural(texts, 'text')}, but references for {wanted} are in "
        f"{', '.join(map(str, references))}"
    )
    entries = len(read_entries(references[0], task)) if _is_corpus(task, references[0]) else 0
    if entries > len(truth.references):
        message += (
            f", whose {entries:,} entries are put together by input: keep one text for each input, "
            "in the order in which they first occur"
        )
    return message + "."


def _truth(table: Any, file: Path) -> Truth:
    references = _column(table, REFERENCES, file)
    groups = [group if isinstance(group, list) else [group] for group in references]
    texts = [_texts([text for text in group if text is not None], file) for group in groups]
    return Truth(texts, table[SEEN][:] if SEEN in table.column_names else None)


def _texts(cells: Sequence[Any], file: Path) -> list[str]:
    """The cells as texts, an empty one for None; raises FormatError for lists and objects."""
    if problem := next(filter(None, map(text_problem, cells)), None):
        raise FormatError(f"A text or a reference in {file} {problem}.")
    return ["" if cell is None else str(cell) for cell in cells]


def _column(table: Any, name: str, file: Path) -> list[Any]:
    if name not in table.column_names:
        raise FormatError(
            f"{file} has no column {name!r}; its columns are {', '.join(table.column_names)}."
        )
    column: list[Any] = table[name][:]
    return column
