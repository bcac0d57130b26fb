"""A sweep while it runs: a bar on a terminal, else a line for each run that starts or ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lorakit.cli.options import shows_progress

if TYPE_CHECKING:
    from lorakit.experiments.progress import Progress
    from lorakit.experiments.running import Show


@contextmanager
def sweep_progress(as_json: bool) -> Iterator[Show]:
    """What to call with the state and with what has happened; on standard error, if not as JSON."""
    if as_json:
        yield lambda progress, text: None
    elif shows_progress(as_json):
        with _bar() as shown:
            yield shown
    else:
        yield lambda progress, text: print(f"[{progress}] {text}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Progress, text: str) -> None:
            if not text.endswith(": started"):  # which the bar says
                console.print(text)
            running = ", ".join(job.name for job in progress.running)
            bar.update(
                task,
                total=progress.total,
                completed=progress.finished + progress.failed,
                description=f"{progress}; now {running}",
            )

        yield show
