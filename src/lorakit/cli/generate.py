"""`lorakit generate RUN|ADAPTER --prompt TEXT | --data FILE`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, Revision, quiet_libraries
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.training.generating import Generated


def generate(
    source: options.Source,
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt, or a user's message; more than once.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="CSV, TSV, JSONL or Parquet file.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the rows with their texts: .jsonl or .csv.")
    ] = None,
    overwrite: options.Overwrite = False,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of one answer at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: always the most likely token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the most likely ones up to here.")] = 1.0,
    seed: Annotated[int, typer.Option(help="For drawing, with a temperature.")] = 0,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    column: options.Column = None,
    check_base: options.CheckBase = True,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Let a run or an adapter of a language model answer prompts.

    Example: `lorakit generate ./adapter --base HuggingFaceTB/SmolLM2-135M --prompt "Once upon"`
    """
    from lorakit.training.generating import Sampling, generate_rows, generate_texts
    from lorakit.training.prediction_files import check_columns, check_output, write_predictions
    from lorakit.training.saved import open_saved

    if (data is None) == (not prompt) or (output is not None and data is None):
        raise ConfigError("Pass --prompt TEXT, or --data FILE (with --output FILE to keep it).")
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    asked = options.ask(base, lora_alpha, revision, check_base, task, column)
    table = _table(data) if data is not None else None
    if table is not None:
        check_columns(table.column_names)
    saved = open_saved(source, asked, needed="generation")
    progress = options.shows_progress(json)
    if table is None:
        found = generate_texts(saved, prompt or [], sampling, progress)
    else:
        found = generate_rows(saved, table, str(data), sampling, progress)
    if output is not None:
        write_predictions(output, table, found.texts)
    _tell(source, output, found, json)


def _table(data: str) -> Any:
    from lorakit.tasks.tables import read_table

    return read_table(data, "test")


def _tell(source: str, output: Path | None, found: Generated, as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = {
            "source": source,
            "rows": len(found.texts),
            "truncated_rows": found.truncated_rows,
        }
        content |= {"output": str(output)} if output else {"generated": found.texts}
        print(json_module.dumps(content, indent=2, ensure_ascii=False))
        return
    from lorakit.training.inference import truncation

    if output is not None:
        print(f"{output}: {len(found.texts):,} rows with their texts")
    else:
        print(*found.texts, sep="\n\n")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")
