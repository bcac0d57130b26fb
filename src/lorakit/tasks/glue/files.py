"""GLUE's tables, from a folder of its TSV files or from `datasets`: the same examples from both.

The files are read as GLUE's authors write them and as `datasets` reads them: tabs separate, quotes
are text, and no cell is trimmed. CoLA's train and dev files have no header. Some lines of QQP's
break off in the middle; `datasets` leaves them out, and so does this. Elsewhere a short line is an
error.

Source: https://github.com/huggingface/datasets/blob/2.14.5/datasets/glue/glue.py (the loading
script, from which the files of `nyu-mll/glue` were made).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, FormatError, suggest
from lorakit.tables.cells import is_place, label_name, number
from lorakit.tables.delimited import parse_records
from lorakit.tables.reading import read_table
from lorakit.tables.text_files import read_text
from lorakit.tasks.glue.benchmark import LABEL, STSB_RANGE, GlueTask
from lorakit.text import plural, rows_text

_TSV = (".tsv", ".tsv.gz")
_SPLITS = {"train": "train", "validation": "dev", "test": "dev"}
"""GLUE keeps the labels of its test sets, so what is tested on is its dev set."""


def glue_tables(source: str, task: GlueTask, role: str) -> dict[str, Any]:
    """The tables for "train", "validation" or "test"; MNLI is tested on "mismatched" as well.

    A table beside the one of the role has the name of its part.

    Raises FormatError for a missing or damaged file, labels out of range, and rows without labels.
    """
    tables = {}
    for i, (part, split) in enumerate(_splits(source, task, role).items()):
        tables[part if i else role] = table = read_glue(source, task, split)
        if LABEL not in table.column_names:
            raise FormatError(
                f"{source} has no labels for {task.name}: GLUE publishes none for its test sets. "
                "Train and evaluate with the train and dev sets; lorakit predict --glue writes "
                "predictions for a test set."
            )
    return tables


def glue_rows(source: str, task: GlueTask) -> Any:
    """The rows to predict: of one file, or the set that `glue_tables` tests on, labelled or not.

    A table that is not GLUE's TSV keeps its other columns. Raises ConfigError for a source with two
    such sets.
    """
    if is_file(source) and not source.endswith(_TSV):
        return read_table(source)
    splits = _splits(source, task, "test")
    if len(splits) > 1:
        raise ConfigError(
            f"{source} has {len(splits)} sets for {task.name}, and predictions are written for "
            f"one: pass the file of {' or '.join(splits.values())}. lorakit predict --glue "
            "predicts all test sets."
        )
    return read_glue(source, task, *splits.values())


def _splits(source: str, task: GlueTask, role: str) -> dict[str, str]:
    """The splits for a role, by part: all of them to test on, unless the source is one file."""
    names = task.splits(_SPLITS[role])
    return names if role == "test" and not is_file(source) else dict(list(names.items())[:1])


def is_file(source: str) -> bool:
    """Whether the source is one file, not a folder or a data set's name."""
    return Path(source).is_file()


def read_glue(source: str, task: GlueTask, split: str) -> Any:
    """One split as a `datasets.Dataset`: the task's columns of text, and `label` if it has labels.

    `source` is GLUE's folder, the task's folder in it, one file, or a name for `datasets`. Labels
    are names, or numbers for STS-B.
    """
    path = Path(source)
    if path.is_dir():
        path = _file(path, task, split)
    if path.is_file() and path.name.endswith(_TSV):
        columns = _parsed(path, task)
    elif path.is_file():
        columns = _columns(read_table(str(path)), task, source)
    else:
        hub_split = split.replace("dev", "validation")
        columns = _columns(read_table(f"{source}:{task.name}:{hub_split}"), task, source)
    return _table(columns, task, str(path))


def _file(folder: Path, task: GlueTask, split: str) -> Path:
    places = [place for place in (folder / task.folder, folder) if place.is_dir()]
    for place in places:
        for suffix in _TSV:
            if (place / f"{split}{suffix}").is_file():
                return place / f"{split}{suffix}"
    place = places[0]
    there = sorted(entry.name for entry in place.iterdir())
    raise FormatError(
        f"{place} has no file {split}.tsv or {split}.tsv.gz for {task.name}"
        f"{suggest(f'{split}.tsv', there)}; its files are {', '.join(there[:12]) or 'none'}."
    )


def _parsed(path: Path, task: GlueTask) -> dict[str, list[Any]]:
    """The columns of a TSV file, by our names."""
    records = parse_records(read_text(path))
    if not records:
        raise FormatError(f"{path} is empty.")
    headless = bool(task.headless) and not set(task.text) & set(records[0])
    header = list(task.headless) if headless else [name.strip() for name in records[0]]
    rows = records if headless else records[1:]
    wanted = dict(task.columns)
    if task.label_column in header:
        wanted[LABEL] = task.label_column
    if missing := [theirs for theirs in wanted.values() if theirs not in header]:
        raise FormatError(
            f"{path} is not a file of {task.name}: the columns {', '.join(missing)} are missing; "
            f"its columns are {', '.join(header)[:200]}."
        )
    places = {ours: header.index(theirs) for ours, theirs in wanted.items()}
    short = [i for i, row in enumerate(rows) if len(row) <= max(places.values())]
    if short and not (task.has_broken_lines and LABEL in wanted):
        raise FormatError(f"{path} is damaged: too few cells in {rows_text(short)}.")
    rows = [row for row in rows if len(row) > max(places.values())]
    return {ours: [row[place] for row in rows] for ours, place in places.items()}


def _columns(table: Any, task: GlueTask, source: str) -> dict[str, list[Any]]:
    """The columns of a table that has our names."""
    if missing := [name for name in task.text if name not in table.column_names]:
        raise FormatError(
            f"{source} is not a table of {task.name}: the columns {', '.join(missing)} are "
            f"missing; its columns are {', '.join(table.column_names)}."
        )
    kept = [*task.text, *([LABEL] if LABEL in table.column_names else [])]
    return {name: list(table[name]) for name in kept}


def _table(columns: dict[str, list[Any]], task: GlueTask, origin: str) -> Any:
    import datasets

    if LABEL in columns:
        labels = [_label(value, task) for value in columns.pop(LABEL)]
        if any(label is not None for label in labels):
            _require_in_range(labels, task, origin)
            columns[LABEL] = labels
    table = datasets.Dataset.from_dict(columns)
    if len(table) == 0:
        raise FormatError(f"{origin} has no rows.")
    return table


def _label(value: Any, task: GlueTask) -> Any:
    """The label's name or number; None where there is none, which `datasets` writes as -1."""
    name = label_name("" if value is None else value)
    if name in ("", "-1"):
        return None
    if not task.labels:
        found = number(value)
        return value if found is None else found
    placed = task.numbered and is_place(name, len(task.labels))
    return task.labels[int(name)] if placed else name


def _require_in_range(labels: Sequence[Any], task: GlueTask, origin: str) -> None:
    """Raise FormatError that lists the labels which the task does not have."""
    low, high = STSB_RANGE
    wrong = Counter(
        label
        for label in labels
        if (label not in task.labels if task.labels else not _between(label, low, high))
    )
    known = ", ".join(task.labels) or f"numbers from {low:g} to {high:g}"
    if wrong:
        raise FormatError(
            f"{origin} has labels that are not labels of {task.name} ({known}):",
            [
                f"{'no label' if label is None else repr(label)}: {plural(count, 'row')}"
                for label, count in wrong.most_common(10)
            ],
        )


def _between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, float) and low <= value <= high
