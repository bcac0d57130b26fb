"""Options that several commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lorakit.inference.session import LoadOptions

Source = Annotated[
    str, typer.Argument(help="A run's directory, or an adapter: directory, file or hub id.")
]
Base = Annotated[
    str | None, typer.Option(help="Directory or hub id of the base; as the files say by default.")
]
Alpha = Annotated[float | None, typer.Option(help="For files that do not say it (loralib's).")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="For an adapter that does not say it, such as e2e.")
]
Column = Annotated[
    list[str] | None, typer.Option(help="A column to read; more than once for a pair of texts.")
]
Label = Annotated[str | None, typer.Option(help="The column that was learned.")]
Labels = Annotated[
    str | None, typer.Option(help="Names of the classes by number: negative,positive.")
]
CheckBase = Annotated[bool, typer.Option(help="Refuse a base that the adapter was not trained on.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]


def ask(
    base: str | None,
    lora_alpha: float | None,
    revision: str | None,
    check_base: bool,
    task: str | None,
    column: list[str] | None,
    label: str | None = None,
    labels: str | None = None,
) -> LoadOptions:
    """What the options say about an adapter."""
    from lorakit.inference.session import LoadOptions

    names = tuple(name.strip() for name in labels.split(",")) if labels else None
    columns = tuple(column) if column else None
    return LoadOptions(base, lora_alpha, revision, check_base, task, columns, label, names)


def shows_progress(as_json: bool) -> bool:
    """Whether somebody looks at a terminal."""
    return not as_json and sys.stderr.isatty()
