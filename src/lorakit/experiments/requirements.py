"""What a run asks for beside a sound recipe: data that are there, metrics that its task has, and a
base that takes its method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lorakit.errors import LorakitError
from lorakit.experiments.fits import Fits
from lorakit.experiments.headlines import metric_problem
from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.published import published_figures
from lorakit.recipe.data import columns_of
from lorakit.recipe.data_config import DataConfig
from lorakit.recipe.schema import Recipe
from lorakit.tables.reading import absence


class Requirements:
    """Those of the runs of a sweep; what several share is looked at once."""

    def __init__(self, plan: Plan) -> None:
        self._fits = Fits()
        self._tasks: dict[str, str | LorakitError] = {}
        self._published = [(task, metric) for _, task, metric in published_figures(plan, [])]

    def problems(self, run: PlannedRun, recipe: Recipe) -> list[str]:
        """What the run lacks."""
        found = list(_absent(recipe.data))
        try:
            if not found:
                recipe = self._with_task(recipe)
            self._fits.require(recipe)
        except LorakitError as error:
            found.append(" ".join([error.headline, *error.problems]))
        if recipe.data.task is not None:
            found += self._metrics(run, recipe.data.task)
        return found

    def _with_task(self, recipe: Recipe) -> Recipe:
        """The recipe with the task that its run will guess from the data, if it names none."""
        key = repr(recipe.data)
        if recipe.data.task is not None:
            return recipe
        if key not in self._tasks:
            try:
                self._tasks[key] = str(columns_of(recipe.data).task)
            except LorakitError as error:
                self._tasks[key] = error
        if isinstance(task := self._tasks[key], LorakitError):
            raise task
        return replace(recipe, data=replace(recipe.data, task=task))

    def _metrics(self, run: PlannedRun, task: str) -> Iterator[str]:
        """Those that the sweep names and the task does not have."""
        name = run.task.name
        for metric in run.task.own.get("metrics", ()):
            if (problem := metric_problem(task, metric)) is not None:
                yield f"tasks.{name}.metrics has {problem}"
        for metric in dict.fromkeys(m for of, m in self._published if of == name):
            if (problem := metric_problem(task, metric)) is not None:
                yield f"published has for {name} {problem}"


def _absent(data: DataConfig) -> Iterator[str]:
    """The files of data that are not there."""
    named = [("train", source) for source in data.sources]
    for name, part in (("test", data.test), ("validation", data.validation)):
        named += [(name, part)] if isinstance(part, str) else []
    for name, source in named:
        if (problem := absence(source)) is not None:
            yield f"data.{name}: {problem}"
