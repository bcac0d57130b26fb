"""The runs of a sweep, each with its place on the disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from lorakit.experiments.entries import Entries, entries_of
from lorakit.experiments.entry import Entry
from lorakit.experiments.sweep import Settings, Sweep
from lorakit.foreign_files import local_path

_LONGEST = 60
"""Characters of a name; a file system allows 255 bytes, of which one may take four."""


@dataclass(frozen=True)
class Variant:
    """A row of the table: a method, with one combination of the grid, on a base."""

    base: Entry
    method: Entry
    varied: Settings

    @property
    def name(self) -> str:
        """The method's name in the sweep, with the values of its grid.

        These are the names of the row's directories as well.
        """
        return ", ".join(filter(None, [self.method.name, settings_text(self.varied)]))

    @property
    def names(self) -> tuple[str, str]:
        """What the sweep's `reference` may call it, or all of its method's."""
        return self.name, self.method.name


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, whether it was made or not."""

    variant: Variant
    task: Entry
    seed: int
    chosen: Settings
    """Values that were chosen for this variant and task, or that are a candidate."""
    is_candidate: bool
    """Whether it is measured on the validation set, to choose by."""
    directory: Path

    @property
    def place(self) -> str:
        """The cell of the table that it belongs to."""
        return cell_name(self.variant, self.task)

    @property
    def name(self) -> str:
        """What messages call it."""
        role = "candidate" if self.is_candidate else f"seed {self.seed}"
        return " ".join(filter(None, [self.place, settings_text(self.chosen), role]))


@dataclass(frozen=True)
class Plan:
    """A sweep, with its variants and tasks in the order of rows and columns."""

    sweep: Sweep
    entries: Entries
    output: Path
    loaded: dict[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    """The recipes that runs start from, once they were read."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The rows: base by base, method by method."""
        return tuple(
            Variant(base, method, varied)
            for base in self.entries.bases
            for method in self.entries.methods
            for varied in _combinations(method.own["grid"])
        )

    @property
    def cells(self) -> Iterator[tuple[Variant, Entry]]:
        """Each variant with each task."""
        return product(self.variants, self.entries.tasks)

    @property
    def every_run(self) -> Iterator[PlannedRun]:
        """The candidates, and all runs that could be chosen by them."""
        for variant, task in self.cells:
            candidates = self.candidates(variant, task)
            yield from candidates
            for chosen in [run.chosen for run in candidates] or [self.only_choice(variant)]:
                yield from self.runs(variant, task, chosen)

    def candidates(self, variant: Variant, task: Entry) -> list[PlannedRun]:
        """The runs to choose by; none where there is but one combination."""
        values = list(_combinations(variant.method.own["choose"]))
        return [self._run(variant, task, v, None) for v in values] if len(values) > 1 else []

    def runs(self, variant: Variant, task: Entry, chosen: Settings) -> list[PlannedRun]:
        """The runs that a cell summarises, a seed each."""
        return [self._run(variant, task, chosen, seed) for seed in self.sweep.seeds]

    def only_choice(self, variant: Variant) -> Settings:
        """The values where there is one combination of them."""
        return next(_combinations(variant.method.own["choose"]))

    def _run(self, variant: Variant, task: Entry, chosen: Settings, seed: int | None) -> PlannedRun:
        names = (variant.base.name, task.name, variant.name, settings_text(chosen))
        is_candidate, seed = seed is None, self.sweep.seeds[0] if seed is None else seed
        last = f"{'candidate' if is_candidate else 'seed'}-{seed}"
        directory = self.output.joinpath(*(slug(name) for name in names if name), last)
        return PlannedRun(variant, task, seed, chosen, is_candidate, directory)


def plan_of(sweep: Sweep, problems: list[str]) -> Plan:
    """The plan of what can be read of a sweep; what is wrong is appended to `problems`."""
    return Plan(sweep, entries_of(sweep, problems), local_path(sweep.output))


def cell_name(variant: Variant, task: Entry) -> str:
    """What messages call a cell of the table."""
    return "/".join((variant.base.name, task.name, variant.name))


def slug(name: str) -> str:
    """A name for a directory; what is too long for one ends in a checksum.

    >>> slug("Fine-Tune, training.learning_rate=0.001"), slug("a/b"), slug("..")
    ('Fine-Tune,training.learning_rate=0.001', 'a_b', '_.')
    """
    found = re.sub(r"^\.", "_", re.sub(r"[^\w.,=+-]", "_", name.replace(", ", ",")))
    if len(found) <= _LONGEST:
        return found
    return f"{found[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _combinations(lists: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of one value of each list."""
    return (dict(zip(lists, values, strict=True)) for values in product(*lists.values()))


def settings_text(settings: Settings) -> str:
    """The settings in one line.

    >>> settings_text({"lora.r": 4, "lora.target_modules": ["query", "value"]})
    'lora.r=4, lora.target_modules=query+value'
    """
    return ", ".join(f"{name}={_text(value)}" for name, value in settings.items())


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
