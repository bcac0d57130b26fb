"""One run of a sweep as a process of its own, so that what ends it harms no other.

An executor takes jobs and gives their outcomes as they come: `local_runs` is one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from typing import IO, Any

from lorakit.errors import FormatError
from lorakit.files import atomic_write_text
from lorakit.locks import holder
from lorakit.runs.directory import RESULT, result_content

_POLL, _GRACE = 0.1, 60.0
_LONGEST_ERROR = 4000
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def result_in(directory: Path) -> dict[str, Any] | None:
    """The result of a run; None if it is not finished, or a result that has to be made again."""
    try:
        return result_content(directory / RESULT)
    except (FormatError, OSError):
        return None


@dataclass(frozen=True)
class Job:
    """A run to be made: `lorakit train` of the recipe that stands beside its directory."""

    name: str
    """What messages call it."""
    kind: str
    """Jobs of one kind take about the same time."""
    directory: Path
    """Where the run is made."""

    @property
    def recipe(self) -> Path:
        """The recipe as the sweep has it, before anything is derived from data or base."""
        return _beside(self.directory, ".yaml")

    @property
    def log(self) -> Path:
        """What its processes have printed, one after the other."""
        return _beside(self.directory, ".log")

    @property
    def error(self) -> Path:
        """Why it failed, if it did."""
        return _beside(self.directory, ".error")

    @property
    def is_finished(self) -> bool:
        """Whether it has a result."""
        return result_in(self.directory) is not None


@dataclass(frozen=True)
class Outcome:
    """A job that has ended."""

    job: Job
    """Which one."""
    error: str | None
    """Why it failed; None: it has a result."""
    seconds: float
    """How long it took, with its start."""


Outcomes = Generator[Outcome, None, None]
"""In the order in which the jobs end; when it is closed, it ends what was started."""
Executor = Callable[[Sequence[Job], Callable[[Job], None]], Outcomes]
"""(jobs, what to call when one starts) -> their outcomes"""


def thread_variables(count: int) -> dict[str, str]:
    """The environment variables by which a process computes with so many threads."""
    return dict.fromkeys(_THREADS, str(count))


def run_job(job: Job, variables: Mapping[str, str], stop: Event) -> Outcome:
    """Run it to its end, in a process with these environment variables beside this one's.

    A run that another process is still making is waited for, and one that has a result is left as
    it is. When `stop` is set, the process is interrupted, and the job has not failed.
    """
    since, error = time.monotonic(), None
    while not stop.is_set():
        if holder(job.directory) is not None:  # an earlier call started it, and was killed
            stop.wait(_POLL)
            continue
        error = None if job.is_finished else _train(job, {**os.environ, **variables}, stop)
        if error is None or holder(job.directory) is None:  # else that was just about to begin
            break
    if error is not None and not stop.is_set():
        atomic_write_text(job.error, error)
    return Outcome(job, error, time.monotonic() - since)


def _train(job: Job, variables: Mapping[str, str], stop: Event) -> str | None:
    """What went wrong, or None."""
    job.error.unlink(missing_ok=True)
    command = [sys.executable, "-m", "lorakit", "train", str(job.recipe)]
    with job.log.open("ab") as log, TemporaryFile() as errors:  # which outlive this process
        process = subprocess.Popen(
            command, env=variables, stdout=log, stderr=errors, start_new_session=True
        )
        code = _wait(process, stop)
        text = _text(errors)
        log.write(text.encode())
    return None if job.is_finished else _reason(code, text)


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


def _beside(directory: Path, ending: str) -> Path:
    return directory.with_name(directory.name + ending)
