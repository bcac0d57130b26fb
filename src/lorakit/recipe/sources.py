"""Training rows from several files: read as one table, set apart file by file, and mixed by weight.

A weight is how often an epoch sees each row of a file: 2 twice, 0.5 a half of the rows, which the
seed draws once. Rows for test and validation are taken from each file in proportion, whatever its
weight, and one that also stands in the training rows of another file is left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.joining import joined
from lorakit.text import plural

Log = Callable[[str], None]
_ROWS = 1000


@dataclass(frozen=True)
class Source:
    """A file's rows, and how often an epoch sees each."""

    name: str
    table: Any
    weight: float = 1.0

    def rows(self) -> int:
        """How many rows an epoch sees."""
        return round(self.weight * len(self.table))

    def weighted(self, seed: int) -> Any:
        """The rows as often as an epoch sees them."""
        if self.weight == 1:
            return self.table
        size = len(self.table)
        whole, rest = divmod(self.rows(), size)
        drawn = sorted(random.Random(seed).sample(range(size), rest))
        return self.table.select([*range(size)] * whole + drawn)


def whole_table(sources: Sequence[Source]) -> Any:
    """All rows, once each."""
    return joined({source.name: source.table for source in sources})


def seen_rows(sources: Sequence[Source]) -> int:
    """How many rows an epoch sees of all files; raises ConfigError for none."""
    if rows := sum(source.rows() for source in sources):
        return rows
    raise ConfigError("The weights of data.train leave no row for training; raise them.")


def mixed_table(sources: Sequence[Source], seed: int) -> Any:
    """All rows as often as an epoch sees them; raises ConfigError for none."""
    seen_rows(sources)
    return joined({source.name: source.weighted(seed) for source in sources})


def shares_text(sources: Sequence[Source]) -> str:
    """What an epoch sees of each file.

    >>> shares_text([Source("a.csv", range(100)), Source("b.csv", range(50), 2)])
    'a.csv 100 of 100 rows (50%), b.csv 100 of 50 rows (50%)'
    """
    whole = seen_rows(sources)
    return ", ".join(
        f"{source.name} {source.rows():,} of {plural(len(source.table), 'row')} "
        f"({source.rows() / whole:.0%})"
        for source in sources
    )


def set_apart(sources: Sequence[Source], size: int, seed: int) -> tuple[list[Source], Any]:
    """The files without `size` of their rows, and the table of those, in proportion."""
    counts = _in_proportion(size, [len(source.table) for source in sources])
    kept, parts = [], {}
    for source, count in zip(sources, counts, strict=True):
        if count:
            split = source.table.train_test_split(test_size=count, seed=seed)
            kept.append(replace(source, table=split["train"]))
            parts[source.name] = split["test"]
        else:
            kept.append(source)
    if not parts:
        raise ConfigError("No file has a row to spare for a test or validation set; name a file.")
    return kept, joined(parts)


def _in_proportion(size: int, lengths: Sequence[int]) -> list[int]:
    """The size shared out by these lengths, of each of which one row stays.

    >>> _in_proportion(10, [70, 25, 5]), _in_proportion(10, [1, 99])
    ([7, 3, 0], [0, 10])
    """
    whole = sum(lengths)
    exact = [size * length / whole for length in lengths]
    counts = [int(share) for share in exact]
    by_rest = sorted(range(len(lengths)), key=lambda i: counts[i] - exact[i])
    for i in by_rest[: size - sum(counts)]:
        counts[i] += 1
    return [min(count, length - 1) for count, length in zip(counts, lengths, strict=True)]


def without_trained(part: Any, train: Any, text: Sequence[str], name: str, log: Log) -> Any:
    """The rows of a test set whose texts stand in no training row; raises ConfigError for none."""
    trained = {key for keys in map(_keys, _batches(train, text)) for key in keys}
    keys = [key for keys in map(_keys, _batches(part, text)) for key in keys]
    kept = [row for row, key in enumerate(keys) if key not in trained]
    if not kept:
        raise ConfigError(
            f"Every row of data.{name} has texts that also stand in training, as the files of "
            f"data.train have the same rows; leave one of them out, or name a file for data.{name}."
        )
    if len(kept) < len(part):
        log(
            f"data.{name} leaves out {plural(len(part) - len(kept), 'row')} whose texts also stand "
            "in training"
        )
    return part.select(kept) if len(kept) < len(part) else part


def _batches(table: Any, text: Sequence[str]) -> Any:
    return table.select_columns([*text]).iter(_ROWS)


def _keys(rows: Mapping[str, Sequence[Any]]) -> list[int]:
    return [hash(str(cells)) for cells in zip(*rows.values(), strict=True)]
