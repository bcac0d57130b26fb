"""`lorakit inspect RUN|ADAPTER|FILE [--base MODEL]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.runs.adapter_place import AdapterPlace


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|ADAPTER|FILE",
            help="Run directory; adapter (directory, file, hub id, or name from `lorakit "
            "checkpoints list`); or data (CSV, TSV, JSON, JSONL or Parquet file, or a data set on "
            "the Hub as NAME:CONFIG).",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model (directory or hub id). An adapter is also loaded onto it, to check "
            "that it fits; data are tokenized as it reads them.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Show what an adapter contains and whether it fits a base model, or what is in a data file.

    Of an adapter or a run it prints format, rank, alpha, target modules, numbers of parameters and
    dtypes; of data the columns, the task that is guessed, the first examples, classes and lengths.

    Example: `lorakit inspect reviews.csv`

    Example: `lorakit inspect runs/reviews --base FacebookAI/roberta-base`
    """
    from lorakit.inference.source_kind import holds_rows
    from lorakit.runs.adapter_place import place_of

    if subfolder is not None or not holds_rows(source):
        _inspect_adapter(place_of(source, revision, subfolder), base, lora_alpha, json)
    elif lora_alpha is None and revision is None:
        _inspect_data(source, base, json)
    else:
        raise ConfigError(
            f"--lora-alpha and --revision are for adapters, and {source} is data; leave them out."
        )


def _inspect_data(source: str, base: str | None, json: bool) -> None:
    from lorakit.cli.preview import print_data
    from lorakit.recipe.data_preview import preview_source

    if base is not None:
        quiet_libraries(json)
    found = preview_source(source, base)
    if json:
        show(found, json)
    else:
        print_data(found)


def _inspect_adapter(
    place: AdapterPlace, base: str | None, lora_alpha: float | None, json: bool
) -> None:
    from lorakit.checkpoint.summary import summarise

    if base is None:
        show(summarise(place.read(lora_alpha)), json)
        return
    from lorakit.inference.on_base import load_onto_base
    from lorakit.models.loading import load_config

    bundle = place.read(lora_alpha, load_config(base).to_dict())
    quiet_libraries(json)
    _, report = load_onto_base(base, bundle, place)
    show(summarise(bundle, base, report.base_verified), json)
