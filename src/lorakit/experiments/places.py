"""Where in a sweep the settings of a run stand, so that a mistake is named by its place."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lorakit.experiments.entry import Entry
from lorakit.experiments.plan import Plan, PlannedRun

_DOTTED = re.compile(r"(?<![\w./-])[a-z_]\w*(?:\.\w+)+")
_FIRST = re.compile(r"^(unknown setting |)(\w+)(?![\w.])")
"""What a message is about may be a name without a dot, which is a word elsewhere."""


def entries_of_run(plan: Plan, run: PlannedRun) -> tuple[Entry, ...]:
    """What a run has its settings from; later ones override earlier ones."""
    return plan.entries.shared, run.variant.base, run.task, run.variant.method


def setting_places(plan: Plan, run: PlannedRun) -> dict[str, str]:
    """The places of all settings that the sweep gives a run, by their names in its recipe.

    They are paths of names in the sweep, as in `methods.small.lora.r` or `grid.lora.r`.
    """
    given = {"training.seed": "seeds", "output": "output"}
    if run.is_candidate:
        given["data.validation"] = "validation"
    found = (entry.places for entry in entries_of_run(plan, run))
    return given | {name: place for places in found for name, place in places.items()}


def placed(problem: str, places: Mapping[str, str]) -> str:
    """The problem, in which settings are called by their places in the sweep.

    >>> placed("lora.r is 0; it must be at least 1", {"lora.r": "settings.lora.r"})
    'settings.lora.r is 0; it must be at least 1'
    """
    problem = _DOTTED.sub(lambda found: _place(found[0], places), problem)
    return _FIRST.sub(lambda found: found[1] + places.get(found[2], found[2]), problem)


def _place(name: str, places: Mapping[str, str]) -> str:
    """That of a setting, or of a part of its value."""
    whole, parts = name, ""
    while "." in whole:
        if whole in places:
            return places[whole] + parts
        whole, _, last = whole.rpartition(".")
        parts = f".{last}{parts}"
    return name
