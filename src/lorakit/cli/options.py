"""Arguments and options that several commands share, and the panels of the help texts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.session import LoadOptions

DATA, OUTPUT, MODEL, DECODING = "Data", "Output", "Adapter and base model", "Generation settings"
"""The panels that `--help` groups options in."""

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|ADAPTER",
        help="Run directory, or an adapter: directory, file, hub id, or name from "
        "`lorakit checkpoints list`.",
    ),
]
OneOf = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|ADAPTER",
        help="Run directory, or an adapter: directory, file, hub id, or name from "
        "`lorakit checkpoints list`. None with --adapter.",
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="NAME=PATH",
        help="A run or an adapter under a name, in place of RUN|ADAPTER; repeat it for several on "
        "one base.",
        rich_help_panel=MODEL,
    ),
]
AdapterColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the name of each row's --adapter; an empty cell is the base alone.",
        show_default="adapter",
        rich_help_panel=DATA,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Base model: directory or hub id.",
        show_default="as the run or adapter names it",
        rich_help_panel=MODEL,
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        metavar="ALPHA",
        help="lora_alpha, for adapter files that do not contain it (loralib's).",
        rich_help_panel=MODEL,
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="Task of an adapter that does not name it: classification, regression, "
        "multi_label_classification, token_classification, multiple_choice, generation, chat, "
        "language_modeling, a task of GLUE, e2e, webnlg, dart or data_to_text.",
        show_default="as the run or adapter names it",
        rich_help_panel=MODEL,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="Names of the classes in the order of the logits, such as negative,positive.",
        show_default="as the run or adapter names them, else 0,1,...",
        rich_help_panel=MODEL,
    ),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        metavar="P,P,...",
        help="Probability above which a label is predicted, for multi_label_classification: one "
        "for all labels, or one for each in the order of the logits.",
        show_default="as in training, else 0.5",
        rich_help_panel=MODEL,
    ),
]
CheckBase = Annotated[
    bool,
    typer.Option(
        help="Refuse a base model that the adapter was not trained on.", rich_help_panel=MODEL
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        metavar="REVISION",
        help="Branch, tag or commit of the adapter on the Hub.",
        show_default="main",
        rich_help_panel=MODEL,
    ),
]
ModelRevision = Annotated[
    str | None,
    typer.Option(
        metavar="REVISION",
        help="Branch, tag or commit of the model on the Hub.",
        show_default="main",
    ),
]
MethodSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A method's setting, such as lora.r=4; may be repeated.",
    ),
]
MaxShardSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Largest file with weights, such as 2GB.",
        show_default="cut as the model's are",
        rich_help_panel=OUTPUT,
    ),
]
ReplaceModel = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a model in the output directory, once the new one is whole.",
        rich_help_panel=OUTPUT,
    ),
]
Subfolder = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Where in a directory or a repository the adapter is.",
        rich_help_panel=MODEL,
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Input column of a file; repeat it for several, such as a pair of texts.",
        show_default="as in training",
        rich_help_panel=DATA,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of labels.",
        show_default="as in training",
        rich_help_panel=DATA,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an existing output file.", rich_help_panel=OUTPUT),
]


def load_options(
    base: str | None,
    lora_alpha: float | None,
    revision: str | None,
    subfolder: str | None,
    check_base: bool,
    task: str | None,
    column: list[str] | None,
    label: str | None = None,
    labels: str | None = None,
    thresholds: str | None = None,
) -> LoadOptions:
    """The options about an adapter as one value."""
    from lorakit.inference.session import LoadOptions

    names = tuple(name.strip() for name in labels.split(",")) if labels else None
    columns = tuple(column) if column else None
    return LoadOptions(
        base,
        lora_alpha,
        revision,
        subfolder,
        check_base,
        task,
        columns,
        label,
        names,
        _numbers(thresholds),
    )


def refuse_columns(column: list[str] | None, option: str) -> None:
    """Raise ConfigError for columns beside an option whose texts are in none."""
    if column:
        raise ConfigError(
            f"--column names columns of a file, which {option} does not read; leave it out, or "
            "pass --data FILE."
        )


def _numbers(text: str | None) -> tuple[float, ...] | None:
    """The numbers between commas; raises ConfigError for anything else."""
    if text is None:
        return None
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise ConfigError(
            f"--thresholds is {text!r}; pass a number, or numbers with commas, such as 0.5,0.3."
        ) from None


def shows_progress(as_json: bool) -> bool:
    """Whether to show a progress bar: not with --json, and only on a terminal."""
    return not as_json and sys.stderr.isatty()


def say_reading(table: Any, source: str | None, as_json: bool) -> None:
    """Say on standard error how a file was read, where its name does not."""
    from lorakit.tables.readings import reading_text

    said = reading_text(table, source) if source is not None else None
    if said is not None and not as_json:
        print(said, file=sys.stderr)
