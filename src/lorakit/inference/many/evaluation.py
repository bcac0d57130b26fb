"""Evaluate many adapters on one table: the metrics of each on its own rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.inference.many.forward import Read, outputs
from lorakit.inference.many.names import Names
from lorakit.inference.many.own_tables import Tables
from lorakit.inference.many.parts import Part, own_parts, parts_of
from lorakit.inference.many.sessions import Sessions, title_of
from lorakit.inference.prediction import metric_lines, truncation
from lorakit.inference.scoring import Scores, joined
from lorakit.tasks.base import TRUNCATED
from lorakit.text import plural


@dataclass(frozen=True)
class AdapterEvaluation:
    """Metrics of one adapter on its rows."""

    adapter: str | None
    """None: the base alone."""
    source: str
    task: str
    rows: int
    truncated_rows: int
    """The number of rows that were longer than the maximum length."""
    metrics: dict[str, float]

    def __str__(self) -> str:
        title = f"{title_of(self.adapter)} ({self.source}): {plural(self.rows, 'row')}, {self.task}"
        return "\n".join([title, *truncation(self.truncated_rows), *metric_lines(self.metrics)])


@dataclass(frozen=True)
class Evaluations:
    """The metrics of each adapter that has rows in a table."""

    base: str
    data: str
    rows: int
    adapters: list[AdapterEvaluation]
    seconds: float

    def __str__(self) -> str:
        title = f"{self.base} on {self.data}: {self.rows:,} rows, {self.seconds:.1f} s"
        return "\n\n".join([title, *map(str, self.adapters)])


def evaluate(
    sessions: Sessions, names: Names, table: Any, data: str, progress: bool = False
) -> Evaluations:
    """Metrics of each adapter on the rows of its name, which need its labels.

    `data` is what messages and the result call the table; `progress` shows a bar. Raises
    ConfigError that lists missing columns, unknown labels and bad cells of all adapters.
    """
    started = time.perf_counter()
    parts = parts_of(sessions, names, table, data, labelled=True)
    return _evaluations(sessions, parts, data, started, progress)


def evaluate_own(sessions: Sessions, tables: Tables, progress: bool = False) -> Evaluations:
    """Metrics of each adapter on test sets of its own, `own_tables`.

    Those of a further set, such as MNLI's `mismatched`, have its name in front. Raises as
    `evaluate` does.
    """
    started = time.perf_counter()
    parts = own_parts(sessions, tables, labelled=True)
    return _evaluations(sessions, parts, "their own sets", started, progress)


def _evaluations(
    sessions: Sessions, parts: Sequence[Part], data: str, started: float, progress: bool
) -> Evaluations:
    reads = [Read(part, part.examples()) for part in parts]
    scores = [Scores(read.part.task, read.examples) for read in reads]
    for p, batch in outputs(sessions, reads, progress):
        scores[p].add(batch)
    found: dict[str | None, dict[str, tuple[Read, dict[str, float]]]] = {}
    for read, score in zip(reads, scores, strict=True):
        metrics, _ = score.found(sessions.model.device)
        found.setdefault(read.part.member.name, {})[read.part.set] = read, metrics
    rows = sum(len(part.rows) for part in parts)
    seconds = round(time.perf_counter() - started, 2)
    return Evaluations(sessions.base, data, rows, [*map(_evaluation, found.values())], seconds)


def _evaluation(sets: Mapping[str, tuple[Read, dict[str, float]]]) -> AdapterEvaluation:
    reads = [read for read, _ in sets.values()]
    member, task = reads[0].part.member, reads[0].part.task.name
    truncated = sum(bool(example.get(TRUNCATED)) for read in reads for example in read.examples)
    rows = sum(len(read.part.rows) for read in reads)
    metrics = joined({name: own for name, (_, own) in sets.items()})
    return AdapterEvaluation(member.name, member.session.source, task, rows, truncated, metrics)
