"""The rows of each adapter, read as its own task reads them, and checked all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.inference.many.names import Names, require_names, rows_by_name
from lorakit.inference.many.sessions import Member, Sessions
from lorakit.inference.prediction import encode_rows, fitted
from lorakit.tasks.base import Example, Task
from lorakit.text import rows_text


@dataclass(frozen=True)
class Part:
    """The rows of one adapter."""

    member: Member
    task: Task
    """With the columns of this table."""
    rows: Sequence[int]
    """Their numbers in the whole table."""
    table: Any
    """They alone."""

    def examples(self, data: str) -> list[Example]:
        """What the model reads of them."""
        return encode_rows(self.member.session, self.task, self.table, data, self.rows)


def parts_of(sessions: Sessions, names: Names, table: Any, data: str, labelled: bool) -> list[Part]:
    """The table's rows by adapter, in the order of the adapters.

    Raises ConfigError that lists what each adapter's task cannot use, by the rows of the table.
    """
    require_names(names, len(table), sessions.members, data)
    order = {name: place for place, name in enumerate([*sessions.members, None])}
    parts, problems = [], []
    for name, numbers in sorted(rows_by_name(names).items(), key=lambda item: order[item[0]]):
        if name not in sessions.members:
            problems.append(_without_adapter(sessions, numbers))
            continue
        member, own = sessions.members[name], table.select(numbers)
        try:
            task = fitted(member.session.task, own, data, labelled)
        except ConfigError as error:
            problems += [f"{member.title}: {text}" for text in error.problems or [error.headline]]
            continue
        task = task if labelled else replace(task, label=None)
        found = task.table_problems(own, labelled, numbers)
        problems += [f"{member.title}: {problem}" for problem in found]
        parts.append(Part(member, task, numbers, own))
    if problems:
        raise ConfigError(f"{data} cannot be used with these adapters:", problems)
    return parts


def _without_adapter(sessions: Sessions, rows: Sequence[int]) -> str:
    generates = next(iter(sessions.members.values())).session.task.generates
    why = (
        "the adapters read different columns, so it is not known which the base alone reads"
        if generates
        else "the base alone has no head and no labels of its own"
    )
    return f"no adapter is named in {rows_text(rows)}, and {why}"
