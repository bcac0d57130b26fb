"""`lorakit train RECIPE` or `lorakit train --base M --data FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import completion
from lorakit.cli.output import INTERRUPTED, Json, line_log, print_error, quiet_libraries, show

if TYPE_CHECKING:
    from lorakit.recipe.schema import Recipe
    from lorakit.runs.directory import RunResult


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="YAML file, or name from `lorakit recipes list`.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Base model: directory or hub id; overrides the recipe's base.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Training data: CSV, TSV, JSONL or Parquet file, folder or pattern of them, data "
            "set on the Hub, or GLUE's folder; repeat it for several. Overrides data.train.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Run directory; overrides the recipe's output."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the recipe, such as training.epochs=3 or method=full; repeat it for "
            "several. All are listed below.",
            autocompletion=completion.settings,
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Use deterministic algorithms: the same bits again on the same machine. Sets "
            "training.deterministic.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show data, examples, lengths, steps, time and memory, measured on the first "
            "steps, and write nothing.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Fine-tune a base model on your data, by a recipe or by options.

    Needs a base model, data and an output directory, from the recipe or as options; task and
    columns are guessed if the recipe does not name them. Writes adapter, metrics, predictions and
    learning curve to the run directory. The same command resumes an interrupted run.

    A recipe with `adapters:`, names with settings of their own, trains all of them in one run over
    one base, each into a run directory of its own under `output`.

    Example: `lorakit train --base FacebookAI/roberta-base --data reviews.csv --output runs/reviews`

    Look first: the same with `--dry-run`.
    """
    from lorakit import training
    from lorakit.cli.train_adapters import train_adapters
    from lorakit.models.processes import is_first_process
    from lorakit.recipe.adapter_recipes import adapter_recipes
    from lorakit.recipe.catalogue import recipe_file
    from lorakit.recipe.schema import ADAPTERS, from_mapping
    from lorakit.recipe.yaml_file import load_recipe, with_settings, with_values

    quiet_libraries(json)
    mapping: dict[str, Any] = load_recipe(recipe_file(recipe)) if recipe is not None else {}
    given: dict[str, Any] = {"base": base, "data.train": _one_or_all(data), "output": output}
    if deterministic:
        given["training.deterministic"] = True
    mapping = with_settings(mapping, set_ or [])
    mapping = with_values(mapping, {k: v for k, v in given.items() if v is not None})
    if ADAPTERS in mapping:
        train_adapters(adapter_recipes(mapping, set_ or []), dry_run, json)
        return
    checked = from_mapping(mapping, set_ or [])
    if dry_run:
        show_preview(checked, json)
        return
    try:
        result = training.train(checked, log=line_log(json))
    except KeyboardInterrupt:
        print_error(f"Interrupted; the same command resumes the run in {checked.output}.", json)
        raise typer.Exit(INTERRUPTED) from None
    if is_first_process():
        show(result if json else _closing(result, checked.data.measured_on), json)


def _one_or_all(files: list[str] | None) -> str | list[str] | None:
    return files[0] if files is not None and len(files) == 1 else files or None


def show_preview(recipe: Recipe, as_json: bool) -> None:
    from lorakit.cli.preview import print_preview
    from lorakit.models.processes import is_first_process
    from lorakit.training.preview import preview

    found = preview(recipe)
    if not is_first_process():
        return
    if as_json:
        show(found, as_json)
    else:
        print_preview(found)


def _closing(result: RunResult, measured_on: str) -> str:
    """The end of the output for people: metrics, files, and how to use the run."""
    from lorakit.inference.prediction import metric_lines
    from lorakit.runs.directory import ADAPTER, CURVE
    from lorakit.runs.next_steps import usage
    from lorakit.text import size_text

    base = result.baseline
    trivial = {f"{base['metric']} of the {base['answer']}": base["value"]} if base else {}
    return "\n".join(
        [
            "",
            f"{result.examples['test']:,} {measured_on} rows after {result.steps:,} steps, "
            f"{result.seconds:,.0f} s, {result.trainable_parameters:,} trainable parameters:",
            *metric_lines({**result.metrics, **trivial}),
            "",
            f"adapter  {result.output}/{ADAPTER} ({size_text(result.adapter_bytes)})",
            f"curve    {result.output}/{CURVE}",
            "",
            usage(result.output),
        ]
    )
