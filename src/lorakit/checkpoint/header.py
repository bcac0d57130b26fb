"""lorakit's metadata in a safetensors header: one JSON object under `lorakit`, with a version.

It stores what the tensors and the other files of a format cannot, and other readers ignore it. Each
format defines the fields of its object and a check for the type of each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any

from lorakit.errors import FormatError
from lorakit.foreign_files import parse_json

HEADER = "lorakit"
VERSION = 1

Check = tuple[str, Callable[[Any], bool]]
"""The type of a field as text and as a predicate."""


def header_text(header: Mapping[str, Any]) -> dict[str, str]:
    """The safetensors metadata."""
    return {"format": "pt", HEADER: json.dumps(header, sort_keys=True)}


def parse_table(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """The object in the metadata, if there is one; raises FormatError if it is invalid."""
    text = (metadata or {}).get(HEADER)
    if text is None:
        return None
    try:
        table = parse_json(text, "it")
    except FormatError as error:
        raise FormatError(f"The file's lorakit header is invalid: {error}") from error
    if not isinstance(table, dict):
        raise FormatError(
            f"The file's lorakit header is invalid: expected a dict, got {type(table).__name__}."
        )
    return table


def require_version(table: Mapping[str, Any]) -> None:
    """Raise FormatError for another version of the header."""
    if table.get("version") != VERSION:
        raise FormatError(
            f"The file's lorakit header has version {table.get('version')!r}; this version of "
            f"lorakit reads version {VERSION}. Upgrade lorakit."
        )


def type_problems(table: Mapping[str, Any], types: Mapping[str, Check]) -> list[str]:
    """The fields that are present, not null, and of another type than in `types`."""
    return [
        f"{name} is {table[name]!r}; it must be {what}"
        for name, (what, fits) in types.items()
        if table.get(name) is not None and not fits(table[name])
    ]


def field_problems(
    table: Mapping[str, Any], types: Mapping[str, Check], allowed: Container[str] = ()
) -> list[str]:
    """The fields of `types` that are missing, null or of another type, and unknown ones."""
    return [
        *(f"{name} is missing" for name in types if name not in table),
        *(f"{name} is unknown" for name in table if name not in types and name not in allowed),
        *(f"{name} is null" for name in types if name in table and table[name] is None),
        *type_problems(table, types),
    ]


def table_of(kind: type) -> Callable[[Any], bool]:
    """A predicate for dicts with values of this type; keys are strings in JSON."""
    return lambda value: isinstance(value, dict) and all(type(v) is kind for v in value.values())


def is_names(value: Any) -> bool:
    """Whether this is a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_class(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [str, str]


BASE_TYPES: dict[str, Check] = {
    "fingerprint": ("a dict of strings", table_of(str)),
    "base_class": ("a list [module, class]", _is_class),
    "num_labels": ("an integer > 0", lambda value: type(value) is int and value > 0),
}
"""Fields about the base and the head, which every format has."""
