"""What a sweep compares, as one checked value; `sweep_file` reads it from YAML.

    output: runs/minilm              everything of the sweep is below it
    base: ./all-MiniLM-L6-v2         or `bases`, a mapping of names to settings
    recipe: glue-minilm              what every run starts from, unless its task or base names one
    tasks: [mrpc, cola]              names, or a mapping of names to settings: the columns
    methods:                         names, or a mapping of names to settings: the rows
      head: {training.learning_rate: 1e-1}
      lora: {choose: {training.learning_rate: [1e-3, 2e-3]}, grid: {lora.r: [4, 8]}}
    seeds: [0, 1, 2]

Later settings override earlier ones: those of the recipe, of the sweep (`settings`), of the base,
of the task, of the method, of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.methods.registry import METHODS
from lorakit.text import repeated

Settings = Mapping[str, Any]
"""Values by their dotted names in a recipe."""

Statistic = Literal["mean", "median"]
Spread = Literal["std", "ci95"]


@dataclass(frozen=True)
class Sweep:
    """Bases, tasks, methods and seeds, whose every combination is a run."""

    output: str
    """The directory of the sweep, which is created."""
    tasks: Sequence[str] | Mapping[str, Any]
    """The columns of the table: names, or settings of recipes by name. `recipe` among them is what
    the runs of the task start from, `metrics` the list of metrics to show. A name that the recipe
    has among its tasks chooses it."""
    methods: Sequence[str] | Mapping[str, Any]
    """The rows: methods, or settings by any name, `method` among them where that is no method's.
    `choose` and `grid` among them override those below, of which none is for what a row sets.
    `like` names another row, all of whose settings and lists it has but for those of its own."""
    base: str | None = None
    """Directory or hub id of the model, if there is one."""
    bases: Mapping[str, Any] = field(default_factory=dict)
    """Several models: settings by any name, `base` among them."""
    recipe: str | None = None
    """A recipe that the runs start from: a file, or a name of `lorakit recipes list`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of recipes that all runs have, by dotted names as for `--set`."""
    seeds: Sequence[int] = (0,)
    """`training.seed` of the runs that a cell of the table summarises."""
    choose: Mapping[str, Any] = field(default_factory=dict)
    """Lists of values by dotted name, of which each base, task and method gets the best ones: those
    that score highest with the first seed on the validation set, never on the test set."""
    validation: float = 0.1
    """Share, or number of rows, of the training set that values are chosen on, where a recipe names
    no validation set."""
    grid: Mapping[str, Any] = field(default_factory=dict)
    """Lists of values by dotted name, of which every combination is a row of its own. A setting in
    another method's section varies nothing."""
    statistic: Statistic = "mean"
    """What a cell shows of its seeds."""
    spread: Spread = "std"
    """What stands behind it: the standard deviation, or half of the mean's 95% interval by the t
    distribution."""
    reference: str | None = None
    """The method, or the row, that differences are tested against. None: lora, if it is among the
    methods, else the best of a column."""
    published: Sequence[Any] = ()
    """Figures to show beside those of the runs: a list of mappings with `method`, `source`, `base`
    if there are several, and `values` by task: a number, or "87.5 ± 0.3", in the table's unit, or a
    mapping of metrics to such values."""


def mistakes(sweep: Sweep) -> dict[str, str]:
    """What is wrong with the values of its fields, apart from the entries of bases, tasks, methods.

    By field, so that what does not depend on a wrong one can be read even so.
    """
    found = {
        name: f"{name} has {again} twice"
        for name in ("tasks", "methods", "seeds")
        if not isinstance(values := getattr(sweep, name), Mapping) and (again := repeated(values))
    }
    found |= {
        name: f"{name} is empty; name one"
        for name in ("tasks", "methods", "seeds")
        if not getattr(sweep, name)
    }
    if not sweep.output:
        found["output"] = "output is empty; name a directory"
    if not (sweep.base or sweep.bases):
        found["base"] = "base is missing; name a model, or several in bases"
    if sweep.base and sweep.bases:
        found["base"] = "base and bases are both given; leave one of them out"
    if not sweep.validation > 0:
        found["validation"] = (
            f"validation is {sweep.validation}; it must be a share or a number of rows"
        )
    if sweep.spread == "ci95" and sweep.statistic != "mean":
        found["spread"] = (
            f"spread is ci95, which is an interval of the mean, and statistic is "
            f"{sweep.statistic}; set spread to std, or statistic to mean"
        )
    return found


def applies(name: str, method: str) -> bool:
    """Whether a setting means anything to a method: it is not in another method's section.

    >>> applies("lora.r", "lora"), applies("lora.r", "full"), applies("training.seed", "full")
    (True, False, True)
    """
    section = name.partition(".")[0]
    return section == method or section not in METHODS
