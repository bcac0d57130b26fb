"""Jobs as tasks of a Ray cluster; this process writes what comes back, and nobody else does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from lorakit.errors import LorakitError
from lorakit.experiments.job_process import thread_variables
from lorakit.experiments.jobs import Executor, Job, Outcome, Outcomes
from lorakit.experiments.ray_runs.cluster import Cluster, Lost, Share
from lorakit.experiments.ray_runs.connection import connected
from lorakit.experiments.ray_runs.node import Work, train_here
from lorakit.experiments.ray_runs.readiness import require_ready, require_room
from lorakit.experiments.ray_runs.receiving import receive
from lorakit.experiments.ray_runs.sources import local_sources, shared_variables
from lorakit.files import atomic_write_text
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe


@contextmanager
def on_ray(address: str, share: Share) -> Iterator[tuple[Executor, int]]:
    """The executor that has jobs run on the cluster at `address`, and how many at a time.

    Raises MissingDependencyError without Ray, ConfigError if no cluster answers at the address or
    none of its nodes has room for a run.
    """
    variables = {**shared_variables(), **thread_variables(share.cores)}
    with connected(address, share, variables) as cluster:
        require_room(cluster)
        yield ray_runs(cluster), cluster.at_once


def ray_runs(cluster: Cluster) -> Executor:
    """The executor that has its jobs run on this cluster.

    A job whose process or node is lost is begun anew elsewhere; one whose recipe fails is not.
    """

    def execute(jobs: Sequence[Job], started: Callable[[Job], None]) -> Outcomes:
        work = {job: _work(job) for job in jobs}
        require_ready(cluster, dict.fromkeys(s for w in work.values() for s in w.sources))
        with closing(cluster.run(train_here, work)) as answers:
            for job, answer in answers:
                if answer is None:
                    started(job)
                else:
                    yield _outcome(job, answer)

    return execute


def _work(job: Job) -> Work:
    recipe = load_recipe(job.recipe)
    return Work(recipe, os.getcwd(), tuple(local_sources(from_mapping(recipe))))


def _outcome(job: Job, answer: Any) -> Outcome:
    if isinstance(answer, Lost):
        return _failed(job, f"It did not come back from the Ray cluster: {answer.reason}", 0.0)
    with job.log.open("a", encoding="utf-8") as log:
        log.write(answer.log)
    if answer.error is not None:
        return _failed(job, answer.error, answer.seconds)
    try:
        receive(job, answer)
    except LorakitError as error:
        return _failed(job, str(error), answer.seconds)
    job.error.unlink(missing_ok=True)
    return Outcome(job, None, answer.seconds)


def _failed(job: Job, error: str, seconds: float) -> Outcome:
    atomic_write_text(job.error, error)
    return Outcome(job, error, seconds)
