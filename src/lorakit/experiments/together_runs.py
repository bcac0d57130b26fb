"""Jobs that can share a run over one base, as a process that trains all of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from lorakit.experiments.job_process import run_jobs, thread_variables
from lorakit.experiments.jobs import Executor, Job, Outcome, Outcomes
from lorakit.experiments.local_runs import cores
from lorakit.files import atomic_write_text
from lorakit.recipe.schema import ADAPTERS, from_mapping
from lorakit.recipe.yaml_file import load_recipe, mapping_text
from lorakit.training.together import sharing_key

MOST = 8
"""Jobs in one process, which keeps the activations of a micro-batch of each."""


def together_runs(alone: Executor, at_once: int) -> Executor:
    """The executor that makes jobs in groups, one group after another.

    `alone` makes the others, `at_once` at a time.
    """

    def execute(jobs: Sequence[Job], started: Callable[[Job], None]) -> Outcomes:
        groups = groups_of(jobs)
        yield from _run([group for group in groups if len(group) > 1], started, at_once)
        yield from alone([job for group in groups if len(group) == 1 for job in group], started)

    return execute


def groups_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that can share a run, at most `MOST`; one that can share with none by itself."""
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        key = sharing_key(from_mapping(load_recipe(job.recipe)))
        groups.setdefault(job if key is None else key, []).append(job)
    return [group[at : at + MOST] for group in groups.values() for at in range(0, len(group), MOST)]


def _run(
    groups: Sequence[Sequence[Job]], started: Callable[[Job], None], at_once: int
) -> Iterator[Outcome]:
    stop, variables = Event(), thread_variables(cores())

    def run(group: Sequence[Job]) -> list[Outcome]:
        with TemporaryDirectory() as directory:
            recipe = Path(directory) / "recipe.yaml"
            atomic_write_text(recipe, recipe_of_all(group))
            outcomes = run_jobs(group, recipe, variables, stop)
        # Each has its share of the group's time, in which no other jobs ran.
        return [replace(outcome, seconds=at_once * outcome.seconds) for outcome in outcomes]

    with ThreadPoolExecutor(1) as pool:
        try:
            for group in groups:
                for job in group:
                    started(job)
                yield from pool.submit(run, group).result()
        finally:  # Ctrl-C, or nobody wants the rest
            stop.set()


def recipe_of_all(jobs: Sequence[Job]) -> str:
    """The recipe with `adapters:` of these jobs, whose names differ and name directories."""
    recipes = {_name(place, job): load_recipe(job.recipe) for place, job in enumerate(jobs, 1)}
    return mapping_text({ADAPTERS: recipes})


def _name(place: int, job: Job) -> str:
    return f"{place} " + re.sub(r"[/\\]", " ", job.name)
