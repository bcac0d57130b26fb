"""What the shell completes beside commands and options: settings, recipes and sweeps."""

from __future__ import annotations

from collections.abc import Iterator

from lorakit.cli.settings import SECTIONS, settings_of
from lorakit.recipe_files import recipe_files, sweep_files


def settings(incomplete: str) -> Iterator[tuple[str, str]]:
    """`NAME=` of each setting that begins so, and what it is."""
    for section in SECTIONS:
        for setting in settings_of(section):
            if setting.name.startswith(incomplete):
                yield f"{setting.name}=", setting.about


def recipes(incomplete: str) -> list[str]:
    """The shipped recipes that begin so."""
    return [name for name in recipe_files() if name.startswith(incomplete)]


def sweeps(incomplete: str) -> list[str]:
    """The shipped sweeps that begin so."""
    return [name for name in sweep_files() if name.startswith(incomplete)]
