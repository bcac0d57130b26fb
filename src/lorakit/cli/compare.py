"""`lorakit compare SWEEP` and `lorakit compare RUN ...`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorakit.cli import completion, options
from lorakit.cli.html_page import Html, require_place, write_html
from lorakit.cli.machines import Machines
from lorakit.cli.output import INTERRUPTED, Json, print_error, show
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.experiments.plan import Plan
    from lorakit.experiments.table import Table


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP|RUN...",
            help="A sweep: YAML file, name of one that is shipped, or its directory. Or run "
            "directories, or directories of them.",
            autocompletion=completion.sweeps,
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the sweep, such as base=MODEL, seeds=[0,1] or "
            "settings.training.epochs=1; repeat it for several.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Runs at a time; the cores are divided among them.",
            show_default="as many as cores and memory allow, 1 with an accelerator",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on the nodes of this Ray cluster: host:port of its head, or auto.",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Cores of each run on Ray.", show_default="1"),
    ] = None,
    runs_per_gpu: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Runs at a time on each GPU of the Ray cluster, if it has any.",
            show_default="1",
        ),
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="Train the LoRA runs that share a base in one process, up to 8 at once, with one "
            "forward and backward of the base for the rows of all.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the runs, and which are finished; run none."),
    ] = False,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A result.json from elsewhere, as a further row; repeat it for several.",
        ),
    ] = None,
    html: Html = None,
    overwrite: options.Overwrite = False,
    json: Json = False,
) -> None:
    """Run a sweep, or compare runs that are finished: a table of metrics, sizes, times.

    A sweep names bases, tasks, methods and seeds. What has a result is not run again, so the same
    command goes on after an interruption; a run that fails stands in the table, and the exit code
    is 1. The tables, and a page with pictures, are written to the sweep's directory, of which
    `lorakit compare DIR` prints the table again.

    Runs are made on this machine, or with --ray on the nodes of a Ray cluster.

    Example: `lorakit compare sweep.yaml`

    Example: `lorakit compare runs/head runs/lora`
    """
    from lorakit.experiments.run_comparison import require_existing
    from lorakit.experiments.sweep_file import sweep_file
    from lorakit.foreign_files import local_path

    require_place(html, overwrite)
    machines = Machines(jobs, ray, cores, runs_per_gpu, together)
    files = {source: sweep_file(source) for source in sources}
    found = [file for file in files.values() if file is not None]
    if not found:
        require_existing(sources)
        _require_unset(set_, machines, dry_run)
        _show_runs(sources, reference or [], html, json)
        return
    if len(sources) > 1 or reference:
        raise ConfigError(
            f"{found[0]} is a sweep, which stands alone; leave the other runs and --reference out."
        )
    if local_path(sources[0]).is_dir():
        _require_unset(set_, machines, dry_run)
        _show_sweep(found[0], sources[0], html, json)
    elif dry_run:
        _list_runs(found[0], set_ or [], html, json)
    else:
        _run_sweep(found[0], set_ or [], machines, html, json)


def _show_runs(sources: list[str], references: list[str], html: Path | None, as_json: bool) -> None:
    from lorakit.experiments.page import page_of
    from lorakit.experiments.run_comparison import compare as compare_runs

    table = compare_runs(sources, references)
    write_html(html, lambda made: page_of(table, provenance=made))
    _show_table(table, as_json)


def _show_sweep(file: Path, directory: str, html: Path | None, as_json: bool) -> None:
    """The table of a sweep's directory, as far as it has got."""
    from lorakit.experiments.sweep_file import load_sweep, planned
    from lorakit.experiments.sweep_page import sweep_page
    from lorakit.experiments.sweep_table import sweep_table

    plan = planned({**load_sweep(file), "output": directory})
    table = sweep_table(plan)
    write_html(html, partial(sweep_page, plan, table))
    _show_table(table, as_json)


def _list_runs(file: Path, settings: list[str], html: Path | None, as_json: bool) -> None:
    from lorakit.experiments.overview import overview
    from lorakit.experiments.sweep_file import load_sweep, runnable

    mapping = load_sweep(file, settings)
    if html is not None:
        raise ConfigError("--dry-run makes no run for the page of --html; leave one of them out.")
    show(overview(runnable(mapping)), as_json)


def _run_sweep(
    file: Path, settings: list[str], machines: Machines, html: Path | None, as_json: bool
) -> None:
    from lorakit.cli.sweep_progress import sweep_progress
    from lorakit.experiments.running import run_sweep
    from lorakit.experiments.sweep_file import load_sweep
    from lorakit.experiments.sweep_page import PAGE, sweep_page

    def publish(plan: Plan, table: Table) -> None:
        for place in (plan.output / PAGE, html):
            write_html(place, partial(sweep_page, plan, table))

    mapping = load_sweep(file, settings)
    try:
        with machines.executor() as (execute, at_once), sweep_progress(as_json) as show_progress:
            table = run_sweep(mapping, execute, at_once, show_progress, publish, machines.together)
    except KeyboardInterrupt:
        print_error("Interrupted; the same command goes on with what is left.", as_json)
        raise typer.Exit(INTERRUPTED) from None
    _show_table(table, as_json)


def _show_table(table: Table, as_json: bool) -> None:
    from lorakit.experiments.renderers import text

    show(table if as_json else text.render(table), as_json)
    if table.failures:
        raise typer.Exit(1)


def _require_unset(settings: list[str] | None, machines: Machines, dry_run: bool) -> None:
    given = {"--set": settings, **machines.given, "--dry-run": dry_run}
    if names := [name for name, value in given.items() if value]:
        raise ConfigError(
            f"{', '.join(names)} is for a sweep that is run, and these are finished runs; leave it "
            "out, or name the sweep's file."
        )
