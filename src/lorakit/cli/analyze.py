"""`lorakit analyze RUN|ADAPTER [--against OTHER ...] [--base MODEL]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.html_page import Html, require_place, write_html
from lorakit.cli.output import Json, quiet_libraries, show

if TYPE_CHECKING:
    from torch import Tensor

    from lorakit.analysis.overview import Adapters, Track


def analyze(
    source: options.Source,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN|ADAPTER",
            help="Another adapter of the same modules, such as one of another rank or seed; repeat "
            "it for several.",
        ),
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Modules to look at, by the ends of their names, such as query,value.",
            show_default="all that are adapted",
        ),
    ] = None,
    html: Html = None,
    overwrite: options.Overwrite = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model (directory or hub id): how much of it lies in the directions of the "
            "update.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    lora_alpha: options.Alpha = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    json: Json = False,
) -> None:
    """Show what an adapter has learned: its updates' spectra, and which rank would have done.

    With --against, which directions two adapters share, beside random ones; with --base, how much
    of the base lies in the directions of its update, and by how much that amplifies them.

    Example: `lorakit analyze runs/r8`

    Example: `lorakit analyze runs/r8 --against runs/r64 --base FacebookAI/roberta-base`
    """
    from lorakit.analysis import analysis_page
    from lorakit.analysis import analyze as analyze_adapters

    names = None if modules is None else [name.strip() for name in modules.split(",")]
    require_place(html, overwrite)
    if base is not None:
        quiet_libraries(json)
    adapters, weights = _values(source, lora_alpha, revision, names, base, check_base)
    others = {
        other: _values(other, lora_alpha, None, names, base, check_base)[0]
        for other in against or ()
    }
    found = analyze_adapters(adapters, weights, others, track=_bar(json))
    show(found, json)
    write_html(html, lambda provenance: analysis_page(found, source, provenance))


def _values(
    source: str,
    lora_alpha: float | None,
    revision: str | None,
    modules: list[str] | None,
    base: str | None,
    check_base: bool,
) -> tuple[Adapters, dict[str, Tensor]]:
    """The adapters by module, and the base's weights by the same names where there is a base."""
    from dataclasses import replace

    from lorakit.analysis import adapted_values
    from lorakit.analysis.readiness import chosen
    from lorakit.checkpoint import read
    from lorakit.runs.finished import finished_run

    run = finished_run(source, revision)
    adapter = source if run is None else str(run.adapter)
    bundle = read(adapter, lora_alpha, revision)
    adapters = chosen(bundle, source, modules)
    if base is None:
        return adapters, {}
    from lorakit.inference.on_base import load_onto_base

    model, _ = load_onto_base(base, bundle, adapter, revision, check_base)
    adapters, weights = adapted_values(model)
    return chosen(replace(bundle, adapters=adapters), source, modules), weights


def _bar(as_json: bool) -> Track:
    def track(names: Any) -> Any:
        from tqdm import tqdm

        return tqdm(names, unit="module", leave=False, disable=not options.shows_progress(as_json))

    return track
