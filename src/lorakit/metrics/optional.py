"""Packages of the extra `nlg`, imported where a metric first needs them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from lorakit.errors import MissingDependencyError


def imported(name: str) -> Any:
    """The module; raises MissingDependencyError that names the extra."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(name) from error


def package_directory(name: str) -> Path:
    """Where a package lies, without importing it; raises MissingDependencyError."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise _missing(name)
    return Path(next(iter(found.submodule_search_locations)))


def _missing(name: str) -> MissingDependencyError:
    package = name.partition(".")[0]
    return MissingDependencyError(
        f"The metrics of texts need the package {package}: pip install 'lorakit[nlg]'"
    )
