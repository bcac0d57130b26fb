"""`lorakit plan BASE` or `lorakit plan RECIPE`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lorakit.cli import options
from lorakit.cli.html_page import Html, require_place
from lorakit.cli.output import Json, line_log, quiet_libraries
from lorakit.cli.plan_answers import (
    require_fit_alone,
    require_no_options_of_claims,
    show_claims,
    show_fit,
    show_plans,
)
from lorakit.cli.plan_recipe import is_recipe, read_recipes, require_no_settings


def plan(
    context: typer.Context,
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE|CARD|RECIPE",
            help="transformers model: directory, config.json or hub id, of which only the config "
            "is read; a card, such as llama-3-8b, which needs no file; or a recipe of `lorakit "
            "train`, YAML file or name, whose settings and data count.",
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="Methods, as a recipe's `method` has them.",
            show_default="lora,full; with --fit lora; a recipe's own",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Rows of a step.")] = 8,
    length: Annotated[
        int, typer.Option(metavar="N", help="Tokens of a row, padding included.")
    ] = 128,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"],
        typer.Option(help="What frozen weights are stored, and products computed in."),
    ] = "bf16",
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="adamw, adamw_unfused, adamw_8bit, adafactor, sgd, momentum or rmsprop.",
        ),
    ] = "adamw",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Gradient checkpointing.")
    ] = False,
    devices: Annotated[
        int, typer.Option(metavar="N", help="What each of several devices holds, by formula.")
    ] = 1,
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How they share the step: ddp (rows), fsdp (rows and shards) or tp (heads).",
            show_default="ddp",
        ),
    ] = None,
    reshard_after_forward: Annotated[
        bool,
        typer.Option(
            "--reshard-after-forward/--no-reshard-after-forward",
            help="With fsdp: free a block's gathered weights after its forward.",
        ),
    ] = True,
    reentrant: Annotated[
        bool, typer.Option("--reentrant", help="Gradient checkpointing of the re-entrant kind.")
    ] = False,
    token_budget: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Tokens of a micro-batch at most, as in a recipe; else a step is one."
        ),
    ] = None,
    quantised: Annotated[
        Literal["int8", "nf4", "nf4_double"] | None,
        typer.Option(help="How the base's linear layers are stored, by formula."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What to change so that a step fits into this memory: 16GiB, 80GB."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A method's setting, such as lora.r=4, or any of a recipe; may be repeated.",
        ),
    ] = None,
    revision: options.ModelRevision = None,
    claims: Annotated[
        bool,
        typer.Option(
            "--claims",
            help="For gpt3-175b: the LoRA paper's claims beside the plan's figures, for lora "
            "with r=4 on query and value and full, in fp16.",
        ),
    ] = False,
    html: Html = None,
    overwrite: options.Overwrite = False,
    json: Json = False,
) -> None:
    """Predict the memory and time of a training step, method by method, without allocating it.

    A real step runs on tensors that have shapes and no memory, and every storage is followed from
    its birth to its death. An encoder is planned as a classifier, a decoder as a language model; a
    recipe with its own data and loss.

    Example: `lorakit plan llama-3-8b --method lora,full --batch 4 --length 1024 --checkpointing`

    Of a recipe: `lorakit plan glue-roberta-base --set task=mrpc --method lora,full`

    With `--fit` it searches micro-batches, checkpointing, precision, quantisation, length and rank,
    and names the cheapest changes that fit, with what each costs in time.
    """
    from lorakit.config.sizes import size_of
    from lorakit.planner.bases import config_of, model_on_meta
    from lorakit.planner.settings import StepSettings
    from lorakit.planner.table import method_steps
    from lorakit.recipe.method_configs import method_configs
    from lorakit.training.recipe_step import recipe_steps

    log = line_log(json)
    require_place(html, overwrite)
    quiet_libraries(json)
    memory = None if fit is None else size_of("--fit", fit)
    methods = [name.strip() for name in (method or "").split(",") if name.strip()]
    if of_recipe := is_recipe(base):
        require_no_settings(context)
    elif claims and memory is None:
        require_no_options_of_claims(context)
        show_claims(base, batch, length, html, json)
        return
    settings = StepSettings(
        batch=batch,
        length=length,
        dtype=dtype,
        optimizer=optimizer,
        checkpointing="reentrant" if reentrant else checkpointing,
        token_budget=token_budget,
        quantised=quantised,
        devices=devices,
        parallel=parallel,
        reshard_after_forward=reshard_after_forward,
    )
    configs = (
        read_recipes(base, methods, set_ or (), log)
        if of_recipe
        else method_configs(methods or (["lora"] if fit else ["lora", "full"]), set_ or ())
    )
    if memory is not None:
        require_fit_alone(list(configs), claims)
    steps = (
        recipe_steps(configs, log, settings)
        if of_recipe
        else method_steps(model_on_meta(config_of(base, revision), base), settings, configs)
    )
    if memory is None:
        show_plans(steps, html, json)
    else:
        (step,) = steps.values()
        show_fit(step, memory, html, json)
