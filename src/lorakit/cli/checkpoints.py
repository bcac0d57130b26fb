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
    help="The adapters that microsoft/LoRA has published.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@dataclass(frozen=True)
class Checkpoints:
    """The catalogue."""

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
    """Where the files are."""

    files: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.files)


@app.command("list")
def list_(json: Json = False) -> None:
    """Name them, with base, task, rank and alpha; `--json` says where these are known from.

    Example: `lorakit checkpoints list`
    """
    from lorakit.checkpoint.releases import RELEASES

    show(Checkpoints(tuple(RELEASES.values())), json)


@app.command("download")
def download(
    names: Annotated[list[str], typer.Argument(help="Of `lorakit checkpoints list`.")],
    output: Annotated[
        Path | None, typer.Option(help="Directory for the files; lorakit's cache by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Download some of them; what was broken off is continued.

    Example: `lorakit checkpoints download roberta-base-mnli`
    """
    from lorakit.checkpoint.releases import fetch, find

    releases = find(names)
    watched = not json and sys.stderr.isatty()
    files = [fetch(release, output, _say if watched else None) for release in releases]
    if watched:
        print(file=sys.stderr)
    show(Downloaded(tuple(map(str, files))), json)


def _say(there: int, size: int | None) -> None:
    of = f" of {size / 2**20:.1f}" if size is not None else ""
    print(f"\r{there / 2**20:.1f}{of} MB", end="", file=sys.stderr, flush=True)
