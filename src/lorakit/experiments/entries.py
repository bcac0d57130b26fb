"""The bases, tasks and methods of a sweep, and what all runs share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from lorakit.experiments.entry import Entry, below, named, read_entry, read_settings
from lorakit.experiments.method_entries import method_entries
from lorakit.experiments.sweep import Sweep


@dataclass(frozen=True)
class Entries:
    """All of a sweep."""

    shared: Entry
    """The sweep's `settings`."""
    bases: tuple[Entry, ...]
    tasks: tuple[Entry, ...]
    methods: tuple[Entry, ...]
    """Each has `choose` and `grid`, with those of the sweep that mean anything to it."""


def entries_of(sweep: Sweep, problems: list[str]) -> Entries:
    """The entries of a sweep that can be read; what is wrong is appended to `problems`."""
    shared = read_settings("settings", sweep.settings, problems)
    bases = named("bases", {} if sweep.base else sweep.bases, problems)
    tasks = named("tasks", sweep.tasks, problems)
    return Entries(
        Entry("", shared, places=below("settings", shared)),
        (*_only_base(sweep, problems), *_bases(bases, problems)),
        tuple(read_entry("tasks", name, value, problems) for name, value in tasks.items()),
        tuple(method_entries(sweep, problems)),
    )


def _only_base(sweep: Sweep, problems: list[str]) -> Iterator[Entry]:
    """That of a sweep with one, called as its directory or its name on the Hub is."""
    if sweep.base and (name := PurePath(sweep.base).name):
        yield Entry(name, {}, {"base": sweep.base}, {"base": "base"})
    elif sweep.base:
        problems.append(f"base is {sweep.base!r}, which has no name; give it one in bases")


def _bases(bases: Mapping[str, Mapping[str, Any]], problems: list[str]) -> Iterator[Entry]:
    for name, value in bases.items():
        entry = read_entry("bases", name, value, problems)
        if entry.own.get("base"):
            yield replace(entry, places={**entry.places, "base": f"bases.{name}.base"})
        elif value.get("base") in (None, ""):
            problems.append(f"bases.{name}.base is missing; name a model")
