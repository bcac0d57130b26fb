"""`lorakit analyze RUN|ADAPTER [--against OTHER ...] [--base MODEL]`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.html_page import Html, require_place, write_html
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import MissingAlphaError

if TYPE_CHECKING:
    from torch import Tensor

    from lorakit.analysis.overview import Adapters, Track
    from lorakit.checkpoint import AdapterBundle
    from lorakit.runs.adapter_place import AdapterPlace


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
    subfolder: options.Subfolder = None,
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
    from lorakit.runs.adapter_place import place_of

    names = None if modules is None else [name.strip() for name in modules.split(",")]
    require_place(html, overwrite)
    if base is not None:
        quiet_libraries(json)
    loading = _Loading(base, lora_alpha, check_base, names, several=bool(against))
    adapters, weights = _values(place_of(source, revision, subfolder), loading)
    others = {other: _values(place_of(other), loading)[0] for other in against or ()}
    found = analyze_adapters(adapters, weights, others, track=_bar(json))
    show(found, json)
    write_html(html, lambda provenance: analysis_page(found, source, provenance))


@dataclass(frozen=True)
class _Loading:
    """How each adapter is read, and what of it."""

    base: str | None
    lora_alpha: float | None
    check_base: bool
    modules: list[str] | None
    several: bool


def _values(place: AdapterPlace, loading: _Loading) -> tuple[Adapters, dict[str, Tensor]]:
    """The adapters by module, and the base's weights by the same names where there is a base."""
    from lorakit.analysis import adapted_values
    from lorakit.analysis.readiness import chosen

    bundle = _read(place, loading)
    adapters = chosen(bundle, place.source, loading.modules)
    if loading.base is None:
        return adapters, {}
    from lorakit.inference.on_base import load_onto_base

    model, _ = load_onto_base(loading.base, bundle, place, loading.check_base)
    adapters, weights = adapted_values(model)
    return chosen(replace(bundle, adapters=adapters), place.source, loading.modules), weights


def _read(place: AdapterPlace, loading: _Loading) -> AdapterBundle:
    """With `lora_alpha`; of several adapters for those alone whose files do not have it."""
    try:
        return place.read(None if loading.several else loading.lora_alpha)
    except MissingAlphaError:
        return place.read(loading.lora_alpha)


def _bar(as_json: bool) -> Track:
    def track(names: Any) -> Any:
        from tqdm import tqdm

        return tqdm(names, unit="module", leave=False, disable=not options.shows_progress(as_json))

    return track
