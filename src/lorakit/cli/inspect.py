"""`lorakit inspect ADAPTER [--base M]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli.output import Json, Revision, quiet_libraries, show


def inspect(
    adapter: Annotated[str, typer.Argument(help="Directory, file or hub id of an adapter.")],
    base: Annotated[
        str | None, typer.Option(help="Check that it fits this model (directory or hub id).")
    ] = None,
    lora_alpha: Annotated[
        float | None, typer.Option(help="For files that do not say it (loralib's).")
    ] = None,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Show what an adapter file holds, and whether it fits a base model.

    Example: `lorakit inspect ./adapter --base FacebookAI/roberta-base`
    """
    from lorakit.checkpoint import read
    from lorakit.checkpoint.summary import summarise

    bundle = read(adapter, lora_alpha, revision)
    if base is None:
        show(summarise(bundle), json)
        return
    from lorakit.methods import load
    from lorakit.models.loading import load_base

    quiet_libraries(json)
    report = load(load_base(base, bundle=bundle), bundle, adapter)
    show(summarise(bundle, base, report.base_verified), json)
