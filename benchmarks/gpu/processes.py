"""A process with a time limit, whose end says nothing about the next one's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

LAST_LINES = 15


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int | None
    """Its exit status, below 0 for a signal; None if it was killed at its limit."""
    seconds: float
    last_lines: str
    """Of what it printed, errors included."""


def run(command: Sequence[str], seconds: float, log: Path, folder: Path) -> Ended:
    """Run this in a folder; at the limit it is killed, with the processes that it started."""
    started = monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(process)
    return Ended(code, monotonic() - started, last_lines(log))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of it: the process itself, and workers that outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line.rstrip() for line in lines if line.strip()][-LAST_LINES:])
