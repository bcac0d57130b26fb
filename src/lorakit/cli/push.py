"""`lorakit push RUN USER/NAME [--output DIR]`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a finished run.")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Branch, made if need be.", show_default="main"),
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Message of the commit.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Hub id of the base model, for a run on a local directory.",
            show_default="as in the run",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="New or empty folder for the files, which are then not uploaded.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Share a finished run on the Hugging Face Hub: adapter, tokenizer, task and a model card.

    The card has metrics, data, labels, base and code. Checkpoints stay here, and so do local paths.
    Needs `hf auth login` or HF_TOKEN. With --output DIR the files are written there, to look at.

    Example: `lorakit push runs/reviews user/reviews --private`
    """
    from lorakit.runs.publishing import Published, hub_api, open_run, upload, write_folder

    quiet_libraries(json)
    shared = open_run(run, repo, base)
    if output is not None:
        files, place = write_folder(shared, output), str(output)
    else:
        api = hub_api()
        with TemporaryDirectory() as folder:
            files = write_folder(shared, Path(folder))
            place = upload(shared, Path(folder), api, private, revision, message)
    show(Published(repo, files, place, shared.base), json)
