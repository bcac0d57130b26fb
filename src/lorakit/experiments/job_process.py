"""A job as a process of its own, so that what ends it harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from typing import IO

from lorakit.experiments.jobs import Job, Outcome
from lorakit.files import atomic_write_text
from lorakit.locks import holder

_POLL, _GRACE = 0.1, 60.0
_LONGEST_ERROR = 4000
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def thread_variables(count: int) -> dict[str, str]:
    """The environment variables by which a process computes with so many threads."""
    return dict.fromkeys(_THREADS, str(count))


def run_job(job: Job, variables: Mapping[str, str], stop: Event) -> Outcome:
    """Run it to its end, in a process with these environment variables beside this one's.

    A run that another process is still making is waited for, and one that has a result is left as
    it is. When `stop` is set, the process is interrupted, and the job has not failed.
    """
    return run_jobs([job], job.recipe, variables, stop)[0]


def run_jobs(
    jobs: Sequence[Job], recipe: Path, variables: Mapping[str, str], stop: Event
) -> list[Outcome]:
    """The same of several jobs that one process makes, by a recipe of all; the first has its log.

    Of the time that they took each has its share.
    """
    since, errors = time.monotonic(), dict[Job, str]()
    while not stop.is_set():
        if _are_held(jobs):  # an earlier call started them, and was killed
            stop.wait(_POLL)
            continue
        errors = _train(jobs, recipe, {**os.environ, **variables}, stop)
        if not errors or not _are_held(jobs):  # else that was just about to begin
            break
    for job, error in errors.items() if not stop.is_set() else ():
        atomic_write_text(job.error, error)
    seconds = (time.monotonic() - since) / len(jobs)
    return [Outcome(job, errors.get(job), seconds) for job in jobs]


def _are_held(jobs: Sequence[Job]) -> bool:
    return any(holder(job.directory) is not None for job in jobs)


def _train(
    jobs: Sequence[Job], recipe: Path, variables: Mapping[str, str], stop: Event
) -> dict[Job, str]:
    """What went wrong, by job."""
    if all(job.is_finished for job in jobs):
        return {}
    for job in jobs:
        job.error.unlink(missing_ok=True)
    command = [sys.executable, "-m", "lorakit", "train", str(recipe)]
    with jobs[0].log.open("ab") as log, TemporaryFile() as errors:  # which outlive this process
        process = subprocess.Popen(
            command, env=variables, stdout=log, stderr=errors, start_new_session=True
        )
        code = _wait(process, stop)
        text = _text(errors)
        log.write(text.encode())
    return {job: _reason(code, text) for job in jobs if not job.is_finished}


def _wait(process: subprocess.Popen[bytes], stop: Event) -> int:
    """The exit code; the process is interrupted as by Ctrl-C when `stop` is set."""
    while process.poll() is None and not stop.is_set():
        try:
            process.wait(_POLL)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _text(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode("utf-8", "replace").strip()


def _reason(code: int, text: str) -> str:
    """Why a process failed: its own words, without the traceback before them."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", as the system does where memory runs out" if name == "SIGKILL" else ""
        return f"The process was ended by {name}{memory}."
    said = text.rpartition("Traceback (most recent call last)")[2]
    if said != text:
        said = next((line for line in reversed(said.splitlines()) if line[:1].strip()), said)
    return said[-_LONGEST_ERROR:] or f"The process ended with the exit code {code} and no result."
