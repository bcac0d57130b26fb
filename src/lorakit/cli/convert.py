"""`lorakit convert RUN|ADAPTER TARGET --to FORMAT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import ConfigError


def convert(
    source: options.Source,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="Directory or, for loralib, gguf and kohya, file to write."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="peft, loralib, portable (what every reader of PEFT's directory computes "
            "rightly), vllm (that, with what vLLM accepts), gguf (llama.cpp), "
            "diffusers, kohya, mlx, or lorakit.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model (directory or hub id), where a format leaves names or types of layers "
            "to it. Its config is read, and no weights.",
            show_default="as the adapter names it",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX=REPLACEMENT",
            help="Other names for modules: what the expression finds in one becomes the "
            "replacement, as in Python's re.sub. May be repeated; the first that finds something "
            "is taken.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    json: Json = False,
) -> None:
    """Write an adapter in another file format, as the same function.

    What the format cannot hold is an error that lists it, and nothing is written then.

    Example: `lorakit convert runs/reviews ./for-vllm --to vllm`

    Example: `lorakit convert adapter ./bare --to peft --rename "^model\\.="`

    Example: `lorakit convert lora.pt ./adapter --to peft --base FacebookAI/roberta-base
    --lora-alpha 16`
    """
    from lorakit.derivation.conversion import convert as write_converted

    quiet_libraries(json)
    report = write_converted(
        source,
        target,
        to,
        base=base,
        lora_alpha=lora_alpha,
        revision=revision,
        subfolder=subfolder,
        rename=_renaming(rename),
        overwrite=overwrite,
    )
    show(report, json)


def _renaming(given: list[str] | None) -> dict[str, str] | None:
    """The expressions and replacements; raises ConfigError for an option without both."""
    if not given:
        return None
    pairs = [option.rpartition("=") for option in given]
    if bad := [option for option, (pattern, _, _) in zip(given, pairs, strict=True) if not pattern]:
        raise ConfigError("--rename takes REGEX=REPLACEMENT, such as '^model\\.=':", bad)
    return {pattern: text for pattern, _, text in pairs}
