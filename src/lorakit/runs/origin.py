"""What a run was begun with, by content; it goes on with nothing else.

`origin.json` holds a name for the run and, section by section, what training depends on beside the
recipe: the rows, the task with its labels, the tokenizer, the config and weights of the base. Short
values stand there as they are, others as a SHA-256. Checkpoints hold the name, so that one of
another run is not taken for this one's.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.digests import SHA256, values_digest
from lorakit.errors import FormatError, StateError
from lorakit.files import atomic_write_text
from lorakit.foreign_files import read_json
from lorakit.layer_groups import group_layers
from lorakit.text import to_json

ORIGIN = "origin.json"

Facts = Mapping[str, Mapping[str, Any]]
"""Values by section and name; long ones as `lorakit.digests` has them."""

_ROWS = 1000
_BEGIN_ANEW = "delete that directory to begin anew, or choose another output"
_PASS_DATA = "pass --data FILE with rows to measure it on"
_MAY_GROW = ("task", "config")
"""Sections that a newer version may have more names in."""


def begin(output: Path, facts: Facts) -> None:
    """Write down what the run begins with, under a new name."""
    content = {"run": uuid.uuid4().hex, "facts": facts}
    atomic_write_text(output / ORIGIN, to_json(content, indent=1))


def require_same_origin(output: Path, facts: Facts) -> None:
    """Raise StateError that names everything that is not as it was when the run began."""
    there = _read(output)["facts"]
    if changed := group_layers(_changes(there, json.loads(to_json(facts)))):
        raise StateError(
            f"The run in {output} was begun with something else, and would go on with a mixture; "
            "bring back what it was begun with, or choose another output:",
            changed,
        )


def row_facts(tables: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Of each table its number of rows, and the digest of each of these columns that it has."""
    facts: dict[str, Any] = {}
    for name, table in tables.items():
        facts[f"{name}: rows"] = len(table)
        for column in columns:
            if column in table.column_names:
                facts[f"{name}: column {column}"] = rows_digest(table.select_columns([column]))
    return facts


def rows_digest(table: Any) -> str:
    """The digest of a table's rows, in their order."""
    return values_digest(table.iter(_ROWS))


def require_same_rows(run: Path, tables: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raise StateError if these tables of a run are not those that it began with.

    It names what has changed. A run that did not write down what it began with passes, one whose
    `origin.json` cannot be read does not.
    """
    if not (run / ORIGIN).exists():
        return
    began = _read(run, _PASS_DATA)["facts"]
    there, here = began.get("data", {}), row_facts(tables, columns)
    known = [name for name in here if name in there]
    old, new = ({"data": {name: facts[name] for name in known}} for facts in (there, here))
    if changed := group_layers(_changes(old, new)):
        raise StateError(
            f"The rows of the run in {run} are no longer those that it was begun with, so its test "
            f"rows may be among those that it has learned; bring its data back, or {_PASS_DATA}:",
            changed,
        )


def run_name(output: Path) -> str | None:
    """The name of the run, or None if it has not begun."""
    return str(_read(output)["run"]) if (output / ORIGIN).exists() else None


def _read(output: Path, advice: str = _BEGIN_ANEW) -> dict[str, Any]:
    file = output / ORIGIN
    try:
        content = read_json(file)
        problem = "it must be a mapping with run, a string, and facts, a mapping of mappings"
        if _is_origin(content):
            return content  # type: ignore[no-any-return]
    except FormatError as error:
        problem = str(error)
    raise StateError(
        f"{file} cannot be read, so it is not known what the run in {output} was begun with "
        f"({problem}); {advice}."
    )


def _is_origin(content: Any) -> bool:
    facts = content.get("facts") if isinstance(content, dict) else None
    return (
        isinstance(facts, dict)
        and all(isinstance(section, dict) for section in facts.values())
        and isinstance(content.get("run"), str)
    )


def _changes(there: Facts, here: Facts) -> Iterator[tuple[str, str]]:
    for section in dict.fromkeys([*there, *here]):
        old, new = there.get(section, {}), here.get(section, {})
        for name in dict.fromkeys([*old, *new]):
            if name in old and name in new:
                if old[name] != new[name]:
                    yield name, _change(section, old[name], new[name])
            elif section not in _MAY_GROW:
                yield name, f"({section}) {'was not there' if name in new else 'is gone'}"


def _change(section: str, old: Any, new: Any) -> str:
    if str(old).startswith(SHA256):
        return f"({section}) has changed"
    return f"({section}) was {json.dumps(old)[:200]} and is {json.dumps(new)[:200]}"
