"""`lorakit inspect ADAPTER [--base MODEL]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show


def inspect(
    adapter: options.Adapter,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also load the adapter onto this base model (directory or hub id), and check that "
            "it fits.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    json: Json = False,
) -> None:
    """Show what an adapter contains, and whether it fits a base model.

    Prints format, rank, alpha, target modules, numbers of parameters and dtypes.

    Example: `lorakit inspect ./adapter --base FacebookAI/roberta-base`
    """
    from lorakit.checkpoint import read
    from lorakit.checkpoint.summary import summarise

    bundle = read(adapter, lora_alpha, revision)
    if base is None:
        show(summarise(bundle), json)
        return
    from lorakit.inference.beside import adapter_directory, load_own_tokenizer
    from lorakit.methods import load
    from lorakit.models.loading import load_base
    from lorakit.models.vocabulary import fit_vocabulary

    quiet_libraries(json)
    model = load_base(base, bundle=bundle)
    fit_vocabulary(model, bundle, load_own_tokenizer(adapter_directory(adapter, revision)))
    report = load(model, bundle, adapter)
    show(summarise(bundle, base, report.base_verified), json)
