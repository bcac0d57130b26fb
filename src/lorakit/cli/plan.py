"""`lorakit plan BASE` or `lorakit plan RECIPE`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorakit.cli import options
from lorakit.cli.html_page import Html, require_place, write_html
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.cli.plan_recipe import is_recipe, options_beside, read_recipes, require_no_settings

if TYPE_CHECKING:
    from lorakit.planner.planning import Step


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
    from lorakit.cli.count_bar import count_bar
    from lorakit.cli.sizes import parse_size
    from lorakit.planner.bases import config_of, model_on_meta
    from lorakit.planner.page import plan_page
    from lorakit.planner.settings import StepSettings
    from lorakit.planner.table import method_steps, plan_steps
    from lorakit.recipe.method_configs import method_configs
    from lorakit.training.recipe_step import recipe_steps

    def log(text: str) -> None:
        if not json:
            print(text)

    require_place(html, overwrite)
    quiet_libraries(json)
    memory = None if fit is None else parse_size(fit)
    methods = [name.strip() for name in (method or "").split(",") if name.strip()]
    if of_recipe := is_recipe(base):
        require_no_settings(context)
    elif claims and memory is None:
        _require_no_options_of_claims(context)
        _show_claims(base, batch, length, html, json)
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
        _require_fit_alone(list(configs), claims)
    steps = (
        recipe_steps(configs, log, settings)
        if of_recipe
        else method_steps(model_on_meta(config_of(base, revision), base), settings, configs)
    )
    if memory is not None:
        (step,) = steps.values()
        _show_fit(step, memory, html, json)
        return
    with count_bar(" methods", "planned") as made:
        found = plan_steps(steps, made)
    show(found.to_dict() if json else found, json)
    write_html(html, partial(plan_page, found))


def _require_fit_alone(methods: Sequence[str], claims: bool) -> None:
    from lorakit.errors import require

    several = f"--fit is for one method, and here are {len(methods)}: {', '.join(methods)}"
    two = "--fit and --claims are two questions; ask one at a time"
    require({two: not claims, several: len(methods) == 1})


def _show_fit(step: Step, memory: int, html: Path | None, json: bool) -> None:
    from lorakit.cli.count_bar import count_bar
    from lorakit.planner.fit import fit_step
    from lorakit.planner.page import fit_section, plan_page
    from lorakit.planner.table import PlanTable

    with count_bar(" plans", "what fits") as made:
        found = fit_step(step, memory, made)
    show(found.to_dict() if json else found, json)
    asked = PlanTable({step.settings.method: found.asked})
    write_html(html, partial(plan_page, asked, more=[fit_section(found)]))


def _require_no_options_of_claims(context: typer.Context) -> None:
    from lorakit.errors import require

    taken = ("base", "claims", "batch", "length", "html", "overwrite", "json")
    given = options_beside(context, taken)
    refused = {f"--{name.strip('_').replace('_', '-')} is given": False for name in given}
    require(refused, "--claims has the paper's methods and precision; these have no effect:")


def _show_claims(base: str, batch: int, length: int, html: Path | None, json: bool) -> None:
    from dataclasses import asdict

    from lorakit.cli.count_bar import count_bar
    from lorakit.errors import ConfigError
    from lorakit.planner import claims
    from lorakit.planner.bases import config_of, model_on_meta
    from lorakit.planner.page import plan_page
    from lorakit.planner.settings import StepSettings
    from lorakit.planner.table import method_steps, plan_steps

    if base != claims.CARD:
        raise ConfigError(f"--claims is given for {base}; the claims are of {claims.CARD}.")
    settings = StepSettings(batch=batch, length=length, dtype="fp16")
    model = model_on_meta(config_of(base), base)
    with count_bar(" methods", "planned") as made:
        plans = plan_steps(method_steps(model, settings, claims.CONFIGS), made)
    found = claims.claims(plans)
    values = {**plans.to_dict(), "claims": [asdict(claim) for claim in found]}
    show(values if json else f"{plans}\n\n{claims.claims_text(found)}", json)
    write_html(html, partial(plan_page, plans, more=[claims.claims_section(found)]))
