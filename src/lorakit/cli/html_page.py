"""`--html FILE`: the page of what a command has found."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorakit.cli import options

if TYPE_CHECKING:
    from lorakit.pages import Page

Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write a page with pictures, which needs no other file.",
        rich_help_panel=options.OUTPUT,
    ),
]
Provenance = tuple[tuple[str, str], ...]


def require_place(html: Path | None, overwrite: bool) -> None:
    """Raise SaveError if a page is asked for where none can be written."""
    from lorakit.runs.prediction_files import require_writable

    if html is not None:
        require_writable(html, overwrite)


def write_html(html: Path | None, page: Callable[[Provenance], Page]) -> None:
    """Write what `page` makes of this command's provenance, if a page is asked for."""
    from lorakit.files import directory_for_writing
    from lorakit.pages import provenance, write_page
    from lorakit.runs.writing import writing

    if html is not None:
        command = shlex.join(["lorakit", *sys.argv[1:]])
        with writing(html), directory_for_writing(html.parent):
            write_page(page(provenance(command)), html)
