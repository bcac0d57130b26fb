"""`lorakit latency MODEL`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Literal

import typer

from lorakit.cli import options
from lorakit.cli.html_page import Html, require_place, write_html
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import ConfigError


def latency(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="transformers model: directory, config.json or hub id. Its config is all that is "
            "read; the weights are random.",
        ),
    ],
    methods: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="Methods, as a recipe's `method` has them.")
    ] = "lora,houlsby,pfeiffer,prefix_layer",
    batch: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of texts in a batch.")
    ] = "1,4,16",
    length: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of tokens in a text.")
    ] = "64,128,256",
    set_: options.MethodSettings = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="Any that torch knows.",
            show_default="the accelerator, if there is one",
        ),
    ] = None,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"],
        typer.Option(help="What frozen weights are stored, and products computed in."),
    ] = "fp32",
    seconds: Annotated[
        float,
        typer.Option(metavar="S", help="About how long each batch and length is measured."),
    ] = 10.0,
    rounds: Annotated[
        int,
        typer.Option(
            metavar="N", help="At least how often, even if that takes more than --seconds."
        ),
    ] = 5,
    html: Html = None,
    overwrite: options.Overwrite = False,
    revision: options.ModelRevision = None,
    json: Json = False,
) -> None:
    """Time a forward of each method over that of the base, by batch and length.

    All methods run in turns in one process, so that they meet the same machine. LoRA runs merged
    and unmerged; the base runs twice, and what it differs from itself is noise.

    Example: `lorakit latency openai-community/gpt2-medium --methods lora --batch 1,16`
    """
    from lorakit.experiments.latency import LatencyStudy, measure_latency
    from lorakit.experiments.latency.page import latency_page
    from lorakit.recipe.method_configs import method_configs

    require_place(html, overwrite)
    quiet_libraries(json)
    study = LatencyStudy(
        model,
        method_configs(_names(methods), set_ or ()),
        _numbers("--batch", batch),
        _numbers("--length", length),
        device,
        dtype,
        seconds,
        rounds,
        revision,
    )
    found = measure_latency(study, partial(print, file=sys.stderr))
    show(found, json)
    write_html(html, partial(latency_page, found))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}; it takes whole numbers, such as 1,16") from error
