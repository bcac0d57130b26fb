"""What an adapter says beside its function, as lorakit's header in formats of other tools.

    {"version": 1, "base_model": ..., "base_class": [...], "task_type": ..., "fingerprint": {...},
     "num_labels": ..., "modules": {name in the file: name in the model}, "heads": {name: number},
     "transposed": [name], "scale": number}

`modules` is there where the format has other names, `heads` where it has the rows of some in
another order, `transposed` where it does not say how a weight is stored, `scale` where another file
has it, which has to be of the same save. Others pass it by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.header import (
    BASE_TYPES,
    VERSION,
    Check,
    header_text,
    is_names,
    parse_table,
    require_version,
    table_of,
    type_problems,
)
from lorakit.checkpoint.settings import targets_of
from lorakit.config import is_number
from lorakit.errors import FormatError

T = TypeVar("T")

_TEXT: Check = ("a string", lambda value: isinstance(value, str))
_TYPES: dict[str, Check] = {
    "base_model": _TEXT,
    "task_type": _TEXT,
    "modules": ("a dict of strings", table_of(str)),
    "heads": ("a dict of integers", table_of(int)),
    "transposed": ("a list of names", is_names),
    "scale": ("a number", is_number),
    **BASE_TYPES,
}
_FACTS = ("base_model", "base_class", "task_type", "fingerprint", "num_labels")


def facts_text(bundle: AdapterBundle, **tables: Any) -> dict[str, str]:
    """The metadata of a file: what is known of the bundle, and these tables."""
    facts = {name: getattr(bundle, name) for name in _FACTS}
    known = {name: value for name, value in facts.items() if value is not None}
    return header_text({"version": VERSION, **known, **tables})


def read_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The header in a file's metadata, empty if there is none; FormatError if it is invalid."""
    table = parse_table(metadata)
    if table is None:
        return {}
    require_version(table)
    if problems := type_problems(table, _TYPES):
        raise FormatError("The file's lorakit header is invalid:", problems)
    return table


def with_facts(bundle: AdapterBundle, table: Mapping[str, Any]) -> AdapterBundle:
    """The bundle with what `read_facts` found; where that names the modules, they are stated."""
    facts = {name: table[name] for name in _FACTS if table.get(name) is not None}
    if "base_class" in facts:
        facts["base_class"] = tuple(facts["base_class"])
    if "modules" in table:
        facts["config"] = bundle.config.replace(**targets_of(bundle.adapters))
        facts["targets_stated"] = True
    return replace(bundle, **facts)


def in_own_names(found: Mapping[str, T], table: Mapping[str, Any], file: Path) -> dict[str, T]:
    """What was found, by the modules' own names where `read_facts` has them.

    Raises FormatError if the header names other modules than were found.
    """
    modules = table.get("modules")
    if modules is None:
        return dict(found)
    if modules.keys() != found.keys() or len(set(modules.values())) < len(modules):
        raise FormatError(f"{file} cannot be loaded: its header names other modules than it has.")
    return {modules[name]: value for name, value in found.items()}
