"""Packages of the extras, imported where a metric first needs them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from lorakit.errors import MissingDependencyError

_NEEDED_BY = {"nlg": "metrics of texts", "train": "metrics of entities"}


def imported(name: str, extra: str = "nlg") -> Any:
    """The module; raises MissingDependencyError that names the extra."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(name, extra) from error


def package_directory(name: str) -> Path:
    """Where a package lies, without importing it; raises MissingDependencyError."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise _missing(name, "nlg")
    return Path(next(iter(found.submodule_search_locations)))


def _missing(name: str, extra: str) -> MissingDependencyError:
    package = name.partition(".")[0]
    return MissingDependencyError(
        f"The {_NEEDED_BY[extra]} need the package {package}: pip install 'lorakit[{extra}]'"
    )
