"""The commands together, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import lorakit
from lorakit.cli import (
    analyze,
    chat,
    checkpoints,
    combine,
    compare,
    convert,
    evaluate,
    extract,
    generate,
    inspect,
    latency,
    merge,
    plan,
    predict,
    push,
    recipes,
    resize,
    score,
    subtract,
    targets,
    train,
)
from lorakit.cli.output import (
    INTERRUPTED,
    one_object,
    plain_warnings,
    print_error,
    print_interrupted,
)
from lorakit.cli.settings_help import CommandWithSettings
from lorakit.errors import ConfigError, LorakitError

NAME = "lorakit"
"""Of the command, however it is called: the shell's completion asks for it."""

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("train", cls=CommandWithSettings)(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("generate")(generate.generate)
app.command("chat")(chat.chat)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.add_typer(recipes.app, name="recipes")
app.add_typer(checkpoints.app, name="checkpoints")
app.command("targets")(targets.targets)
app.command("latency")(latency.latency)
app.command("plan")(plan.plan)
app.command("inspect")(inspect.inspect)
app.command("analyze")(analyze.analyze)
app.command("convert")(convert.convert)
app.command("combine")(combine.combine)
app.command("resize")(resize.resize)
app.command("extract")(extract.extract)
app.command("merge")(merge.merge)
app.command("subtract")(subtract.subtract)
app.command("push")(push.push)


_debug = False


def _show_version(requested: bool) -> None:
    if requested:
        print(lorakit.__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """LoRA for any PyTorch model: train, evaluate, generate, inspect and merge adapters.

    Example: `lorakit train --base FacebookAI/roberta-base --data reviews.csv --output runs/reviews`

    then `lorakit predict runs/reviews --text "A joy."`
    """
    global _debug
    _debug = debug


def run() -> None:
    """Run the command line; an error prints one message and exits with 1, wrong usage with 2."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    with one_object(as_json):
        code = _exit_code(arguments, as_json)
    sys.exit(code)


def _exit_code(arguments: list[str], as_json: bool) -> int:
    try:
        _require_text(arguments)
        with plain_warnings():  # standalone prints usage errors
            code: int = app(arguments, prog_name=NAME, standalone_mode=not as_json) or 0
        if code == INTERRUPTED:
            print_interrupted()
        return code
    except LorakitError as error:
        if _debug:
            raise
        print_error(str(error), as_json)
        return 1
    except typer.TyperException as error:
        print_error(error.format_message(), as_json)
        return error.exit_code


def _require_text(arguments: list[str]) -> None:
    """Raise ConfigError for an argument that is no text: half a surrogate pair, invalid UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"The argument {argument!r} is not valid text: {error}") from error
