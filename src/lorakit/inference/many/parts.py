"""The rows of each adapter, read as its own task reads them, and checked all together.

They are those of one table in which each row names its adapter, or each adapter's own test sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.inference.many.names import Names, require_names, rows_by_name
from lorakit.inference.many.own_tables import Tables
from lorakit.inference.many.sessions import Member, Sessions
from lorakit.inference.prediction import encode_rows, fitted
from lorakit.tasks.base import Example, Task
from lorakit.text import rows_text


@dataclass(frozen=True)
class Part:
    """Rows of one adapter."""

    member: Member
    task: Task
    """With the columns of this table, once they are checked."""
    rows: Sequence[int]
    """Their numbers in the whole table."""
    table: Any
    """They alone."""
    data: str
    """What messages call the whole table."""
    set: str = "test"
    """Which test set of the adapter they are, where it has several."""

    @property
    def title(self) -> str:
        """What messages call them."""
        return self.member.title if self.set == "test" else f"{self.member.title} ({self.set})"

    def examples(self) -> list[Example]:
        """What the model reads of them."""
        return encode_rows(self.member.session, self.task, self.table, self.data, self.rows)


def parts_of(sessions: Sessions, names: Names, table: Any, data: str, labelled: bool) -> list[Part]:
    """The table's rows by adapter, in the order of the adapters.

    Raises ConfigError that lists what each adapter's task cannot use, by the rows of the table.
    """
    require_names(names, len(table), sessions.members, data)
    order = {name: place for place, name in enumerate([*sessions.members, None])}
    given, problems = [], []
    for name, numbers in sorted(rows_by_name(names).items(), key=lambda item: order[item[0]]):
        if name not in sessions.members:
            problems.append(_without_adapter(sessions, numbers))
        else:
            given.append(_part(sessions, name, numbers, table.select(numbers), data))
    return _checked(given, labelled, f"{data} cannot be used with these adapters:", problems)


def own_parts(sessions: Sessions, tables: Tables, labelled: bool) -> list[Part]:
    """The rows of all `tables`, table by table; raises as `parts_of` does."""
    given = [
        _part(sessions, name, range(len(table)), table, f"the own rows of {name}", which)
        for name, own in tables.items()
        for which, table in own.items()
    ]
    return _checked(given, labelled, "The adapters cannot use their own rows:")


def _part(
    sessions: Sessions,
    name: str | None,
    rows: Sequence[int],
    table: Any,
    data: str,
    which: str = "test",
) -> Part:
    member = sessions.members[name]
    return Part(member, member.session.task, rows, table, data, which)


def _checked(
    given: Iterable[Part], labelled: bool, message: str, problems: Iterable[str] = ()
) -> list[Part]:
    parts, problems = [], [*problems]
    for part in given:
        try:
            task = fitted(part.task, part.table, part.data, labelled)
        except ConfigError as error:
            problems += [f"{part.title}: {text}" for text in error.problems or [error.headline]]
            continue
        task = task if labelled else replace(task, label=None)
        found = task.table_problems(part.table, labelled, part.rows)
        problems += [f"{part.title}: {problem}" for problem in found]
        parts.append(replace(part, task=task))
    if problems:
        raise ConfigError(message, problems)
    return parts


def _without_adapter(sessions: Sessions, rows: Sequence[int]) -> str:
    generates = next(iter(sessions.members.values())).session.task.generates
    why = (
        "the adapters read different columns, so it is not known which the base alone reads"
        if generates
        else "the base alone has no head and no labels of its own"
    )
    return f"no adapter is named in {rows_text(rows)}, and {why}"
