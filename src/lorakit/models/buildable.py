"""Configs of models that could never be built to their end are refused before it is tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.errors import FormatError

_PARTS, _MOST = ("layer", "layers", "experts"), 10_000


def require_buildable(name: str, config: Any) -> None:
    """Raise FormatError that lists every number of layers or experts that no model has."""
    if problems := _too_many(config.to_dict(), ""):
        raise FormatError(f"The base {name} cannot be built from its config:", problems)


def _too_many(values: Mapping[str, Any], path: str) -> list[str]:
    problems = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            problems += _too_many(value, f"{path}{key}.")
        elif type(value) is int and value > _MOST and str(key).endswith(_PARTS):
            problems.append(f"{path}{key} is {value}; at most {_MOST:,} are supported")
    return problems
