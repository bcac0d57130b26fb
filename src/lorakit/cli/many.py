"""Several adapters on one base, named by `--adapter NAME=PATH`: what three commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from lorakit.errors import ConfigError
from lorakit.text import repeated

if TYPE_CHECKING:
    from lorakit.inference.description import LoadOptions
    from lorakit.inference.many.mixing import Described
    from lorakit.inference.many.names import Names
    from lorakit.inference.many.own_tables import Tables
    from lorakit.inference.many.sessions import Sessions

COLUMN = "adapter"
"""The default of --adapter-column."""


@dataclass(frozen=True)
class Many:
    """The adapters of a call, with their files read and no model loaded."""

    described: Described
    options: LoadOptions
    column: str

    @property
    def names(self) -> list[str]:
        """By which --adapter calls them."""
        return [*self.described]

    def rows(self, data: str, as_json: bool) -> tuple[Any, Any, Names]:
        """The table, the same without the column of adapters, and the adapter of each row."""
        from lorakit.cli.options import say_reading
        from lorakit.inference.many import names_by_row
        from lorakit.tables.reading import read_table

        table = read_table(data, "test")
        say_reading(table, data, as_json)
        names = names_by_row(table, self.column, self.names, data)
        return table, table.remove_columns([self.column]), names

    def own_tables(self) -> Tables:
        """The test sets of each."""
        from lorakit.inference.many import own_tables

        return own_tables(self.described)

    def own_rows(self) -> tuple[Tables, Any]:
        """The first test set of each, and all of them as one table with the column of adapters."""
        from lorakit.inference.many.own_tables import in_one

        tables = {name: {"test": own["test"]} for name, own in self.own_tables().items()}
        return tables, in_one(tables, self.column)

    def answer_names(self) -> list[str]:
        """The answers of all of them, each once."""
        tasks = (found.task for found in self.described.values())
        return [*dict.fromkeys(answer for task in tasks for answer in task.answer_names)]

    def load(self) -> Sessions:
        """The base, with all of them."""
        from lorakit.inference.many import load_many

        return load_many(self.described, self.options.check_base)

    def content(self) -> dict[str, Any]:
        """What --json says of them."""
        first = next(iter(self.described.values()))
        return {
            "base": first.base,
            "adapters": {name: found.source for name, found in self.described.items()},
        }


def require_source(source: str | None, adapters: Sequence[str] | None, column: str | None) -> None:
    """Raise BadParameter for a call without an adapter, ConfigError for a column of none."""
    if adapters:
        return
    if source is None:
        hint = "a run or an adapter is missing; name several with --adapter NAME=PATH"
        raise typer.BadParameter(hint, param_hint="RUN|ADAPTER")
    if column is not None:
        raise ConfigError(
            "--adapter-column says which of several adapters a row has; name them with --adapter "
            "NAME=PATH, in place of RUN|ADAPTER."
        )


def refuse_column(column: str | None) -> None:
    """Raise ConfigError for a column of adapters where each has rows of its own."""
    if column is not None:
        raise ConfigError(
            "--adapter-column names a column of --data FILE; each adapter's own rows have none."
        )


def read_adapters(
    adapters: Sequence[str],
    source: str | None,
    options: LoadOptions,
    column: str | None,
    of_one: Mapping[str, object],
    default_task: str | None = None,
) -> Many:
    """The adapters that `--adapter` names; `of_one` are options that only one adapter can have.

    Raises ConfigError that lists everything wrong with them and their files.
    """
    from lorakit.inference.many import read_many

    problems = [
        f"{option} is for a single adapter; leave it out"
        for option, value in of_one.items()
        if value
    ]
    if source is not None:
        problems.append(
            f"{source} stands beside --adapter; give it a name: --adapter NAME={source}"
        )
    pairs = []
    for text in adapters:
        name, equals, path = (part.strip() for part in text.partition("="))
        if name and equals and path:
            pairs.append((name, path))
        else:
            problems.append(f"--adapter {text!r} is no NAME=PATH, such as reviews=runs/reviews")
    twice = repeated(name for name, _ in pairs)
    problems += [f"--adapter names {name!r} more than once" for name in twice]
    described: Described = {}
    try:
        described = read_many(dict(pairs), options, default_task) if pairs else {}
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError("These adapters cannot be used together:", problems)
    return Many(described, options, COLUMN if column is None else column)
