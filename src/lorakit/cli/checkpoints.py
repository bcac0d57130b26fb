"""`lorakit checkpoints list|download`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorakit.cli.output import Json, show

if TYPE_CHECKING:
    from lorakit.checkpoint.releases import Release

app = typer.Typer(
    help="List and download the adapters that microsoft/LoRA has published.\n\n"
    "Example: `lorakit checkpoints list`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@dataclass(frozen=True)
class Checkpoints:
    """The published adapters."""

    checkpoints: tuple[Release, ...]

    def __str__(self) -> str:
        from lorakit.text import table

        rows = [
            (r.name, r.base, r.task, str(r.r), f"{r.lora_alpha:g}", f"{r.megabytes:g} MB")
            for r in self.checkpoints
        ]
        return "\n".join(table([("name", "base", "task", "r", "alpha", "size"), *rows]))


@dataclass(frozen=True)
class Downloaded:
    """The paths of the downloaded files."""

    files: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.files)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the adapters with base model, task, rank, alpha and size; `--json` adds the sources.

    Example: `lorakit checkpoints list`
    """
    from lorakit.checkpoint.releases import RELEASES

    show(Checkpoints(tuple(RELEASES.values())), json)


@app.command("download")
def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names from `lorakit checkpoints list`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory for the files.",
            show_default="~/.cache/lorakit/checkpoints",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Download adapters by name; an interrupted download is resumed.

    Example: `lorakit checkpoints download roberta-base-mnli`
    """
    from lorakit.checkpoint.releases import fetch, find

    releases = find(names)
    on_terminal = not json and sys.stderr.isatty()
    files = [
        fetch(release, output, _print_progress if on_terminal else None) for release in releases
    ]
    if on_terminal:
        print(file=sys.stderr)
    show(Downloaded(tuple(map(str, files))), json)


def _print_progress(there: int, size: int | None) -> None:
    of = f" of {size / 2**20:.1f}" if size is not None else ""
    print(f"\r{there / 2**20:.1f}{of} MB", end="", file=sys.stderr, flush=True)
