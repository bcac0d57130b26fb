"""What a run takes from the machine that it is asked for on: files by their names, variables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import iglob

from lorakit.recipe.schema import Recipe

_PATHS = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "PYTHONPATH")
_VALUES = ("HF_HUB_OFFLINE", "HF_ENDPOINT", "TOKENIZERS_PARALLELISM")
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
"""As nobody watches, and what matters is in the logs."""


def local_sources(recipe: Recipe) -> list[str]:
    """The base and data that are files here, as absolute paths and patterns; others are names on
    the Hub.
    """
    data = recipe.data
    named = [recipe.base, recipe.init_adapter, *data.sources, data.test, data.validation]
    paths = [os.path.abspath(name) for name in named if isinstance(name, str)]
    return [path for path in dict.fromkeys(paths) if _is_there(path)]


def missing(sources: Iterable[str]) -> list[str]:
    """Those that are not on this machine."""
    return [source for source in sources if not _is_there(source)]


def shared_variables() -> dict[str, str]:
    """Environment variables that runs elsewhere have from here, with absolute paths.

    Tokens are not among them, as Ray shows variables to whoever sees the cluster.
    """
    values = {name: os.environ[name] for name in _VALUES if name in os.environ}
    paths = {name: _absolute(os.environ[name]) for name in _PATHS if os.environ.get(name)}
    return _QUIET | values | paths


def _is_there(source: str) -> bool:
    """Whether it is a path or a pattern of some, or a directory of `save_to_disk` and its split."""
    places = (source, source.partition(":")[0])
    return any(map(os.path.exists, places)) or any(True for _ in iglob(source, recursive=True))


def _absolute(paths: str) -> str:
    return os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
