"""Jobs on this machine: several at a time, each with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

from lorakit.experiments.job_process import run_job, thread_variables
from lorakit.experiments.jobs import Executor, Job, Outcome, Outcomes

_MEMORY_OF_A_RUN = 4_000_000_000
"""Bytes to allow for, where nobody says how many runs there may be at a time."""


def local_runs(at_once: int) -> Executor:
    """The executor that runs `at_once` jobs at a time."""

    def execute(jobs: Sequence[Job], started: Callable[[Job], None]) -> Outcomes:
        return _run(jobs, started, at_once)

    return execute


def default_at_once() -> int:
    """One with an accelerator, which a run fills; else as many as cores and free memory allow.

    A run of a small model gains little from a second core, so that many small runs are faster than
    few large ones.
    """
    import torch

    from lorakit.training.memory import available_memory

    if torch.accelerator.is_available():
        return 1
    return max(1, min(cores(), available_memory() // _MEMORY_OF_A_RUN))


def _run(jobs: Sequence[Job], started: Callable[[Job], None], at_once: int) -> Outcomes:
    stop = Event()
    variables = thread_variables(max(1, cores() // at_once))

    def run(job: Job) -> Outcome:
        if not stop.is_set():
            started(job)
        return run_job(job, variables, stop)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for future in as_completed([pool.submit(run, job) for job in jobs]):
                yield future.result()
        finally:  # Ctrl-C, or nobody wants the rest
            stop.set()
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
