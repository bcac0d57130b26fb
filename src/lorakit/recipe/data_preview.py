"""What a recipe's data are, before anything is trained: rows, labels, examples as text, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import median, quantiles
from typing import Any

from lorakit.errors import ConfigError
from lorakit.recipe.data import encode, in_words, prepare, training_tables
from lorakit.recipe.data_config import DataConfig
from lorakit.recipe.schema import Recipe
from lorakit.recipe.settled import through_template
from lorakit.tables import reading_of
from lorakit.tasks.base import Task
from lorakit.tasks.batching import length
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.encoding import Truncation
from lorakit.tasks.pieces import Piece
from lorakit.tasks.spec import Columns

SHOWN = 3
"""How many examples are shown."""
_MOST_BINS = 10
_ROWS = "the file"
"""What a table is called that no recipe has split."""


@dataclass(frozen=True)
class Lengths:
    """How long the examples of a table are."""

    unit: str
    """tokens, or characters where there is no tokenizer."""
    examples: int
    least: int
    median: int
    most_of_95_percent: int
    """95% of the examples have at most that length."""
    most: int
    total: int
    histogram: tuple[tuple[int, int, int], ...]
    """(least, most, examples) of each bin; the bins are of one width."""


@dataclass(frozen=True)
class DataPreview:
    """The data of a run."""

    source: str
    read_as: str
    """The format of the file."""
    rows: Mapping[str, int]
    """Of each table, by its name: train, test, ..."""
    columns: tuple[str, ...]
    task: str | None
    """None: it cannot be told from the columns; the notes say why."""
    text: tuple[str, ...]
    label: str | None
    unread: tuple[str, ...]
    """The columns that nothing reads."""
    classes: Mapping[str, int]
    """How many training rows have each class; empty where there are none."""
    numbers: Mapping[str, float]
    """The least, the mean and the greatest label of training, where labels are numbers."""
    examples: tuple[tuple[Piece, ...], ...]
    """The first training examples as text, each in pieces that are learned or are not."""
    lengths: Lengths
    max_length: int | None = None
    """Tokens of an example at most; None without a tokenizer."""
    truncated: Mapping[str, Truncation] = field(default_factory=dict)
    """What is cut off of each table; empty without a tokenizer."""
    notes: tuple[str, ...] = ()
    """What reading and preparing the data said."""


def preview_source(source: str, base: str | None = None) -> DataPreview:
    """The data of a file without a recipe: as its rows are, or with a base as that reads them.

    Raises FormatError for data that cannot be read, ConfigError for data that the base cannot.
    """
    notes: list[str] = []
    data = DataConfig(source)
    table = training_tables(data, notes.append)[source]
    try:
        columns = resolve(table, Columns(), source)
        notes.append(f"guessed: {in_words(columns, table.column_names)}")
        data = replace(data, task=columns.task, text=columns.text, label=columns.label)
    except ConfigError as error:
        notes.append(str(error))
    if data.task is None:
        found = _preview_cells(data, table)
    elif base is None:
        found = _preview_rows(data, table)
    else:
        recipe = through_template(Recipe(base, data, output=""), notes.append)
        tokenizer, task = prepare(recipe, table)
        encoded, cut = encode(task, tokenizer, table, _ROWS, notes.append)
        rows = {_ROWS: table}
        found = preview_examples(recipe.data, rows, task, tokenizer, {_ROWS: encoded}, {_ROWS: cut})
    return replace(found, notes=tuple(notes))


def preview_examples(
    data: DataConfig,
    tables: Mapping[str, Any],
    task: Task,
    tokenizer: Any,
    encoded: Mapping[str, Any],
    truncated: Mapping[str, Truncation],
) -> DataPreview:
    """The data as the model reads them: tokens as text, and lengths in tokens.

    The first table is that of training.
    """
    train = next(iter(encoded.values()))
    shown = [task.pieces(tokenizer, example) for example in _first(train)]
    found = lengths([length(example) for example in train], "tokens")
    preview = _preview(data, tables, task, shown, found)
    return replace(preview, max_length=task.max_length, truncated=truncated)


def _preview_rows(data: DataConfig, table: Any) -> DataPreview:
    """The rows of a task, without a tokenizer."""
    columns = Columns(data.task, tuple(data.text or ()), data.label)
    task = make_task(table, columns, max_length=1)
    rows = [task.row_pieces(row) for row in _first(table)]
    return _preview(data, {_ROWS: table}, task, rows, _characters(table, task.known_columns))


def _preview_cells(data: DataConfig, table: Any) -> DataPreview:
    """The rows of a table of which no task can be told."""
    rows = ["\n".join(f"{name}: {cell}" for name, cell in row.items()) for row in _first(table)]
    shown = [[Piece(row)] for row in rows]
    return _preview(data, {_ROWS: table}, None, shown, _characters(table, table.column_names))


def _preview(
    data: DataConfig,
    tables: Mapping[str, Any],
    task: Task | None,
    examples: Sequence[Sequence[Piece]],
    found: Lengths,
) -> DataPreview:
    train = next(iter(tables.values()))
    names = tuple(train.column_names)
    read = task.known_columns if task else ()
    return DataPreview(
        source=data.train_name,
        read_as=_read_as(data),
        rows={name: len(table) for name, table in tables.items()},
        columns=names,
        task=data.task,
        text=task.text if task else (),
        label=task.label if task else None,
        unread=tuple(name for name in names if name not in read),
        classes=task.class_counts(train) if task else {},
        numbers=task.number_range(train) if task else {},
        examples=tuple(map(tuple, examples)),
        lengths=found,
    )


def _read_as(data: DataConfig) -> str:
    """How the training data were read."""
    readings = map(reading_of, training_tables(data).values())
    return ", ".join(dict.fromkeys(str(found or "a data set of `datasets`") for found in readings))


def _first(table: Any) -> Any:
    """The rows that are shown."""
    return table.select(range(min(SHOWN, len(table))))


def _characters(table: Any, columns: Sequence[str]) -> Lengths:
    """How long the cells of each row are."""
    cells = zip(*(table[name][:] for name in columns), strict=True)
    return lengths([sum(len(str(cell)) for cell in row) for row in cells], "characters")


def lengths(values: Sequence[int], unit: str) -> Lengths:
    """The distribution of one or more lengths.

    >>> lengths([3, 3, 9, 24], "tokens").histogram
    ((0, 4, 2), (5, 9, 1), (10, 14, 0), (15, 19, 0), (20, 24, 1))
    """
    cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else [*values] * 19
    return Lengths(
        unit,
        len(values),
        min(values),
        round(median(values)),
        round(cuts[-1]),
        max(values),
        sum(values),
        _histogram(values),
    )


def _histogram(values: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Up to ten bins, as wide as 1, 2 or 5 times a power of ten."""
    least, most = min(values), max(values)
    widths = (digit * 10**power for power in count() for digit in (1, 2, 5))
    width = next(w for w in widths if most // w - least // w < _MOST_BINS)
    found = Counter(value // width for value in values)
    bins = range(least // width, most // width + 1)
    return tuple((n * width, (n + 1) * width - 1, found[n]) for n in bins)
