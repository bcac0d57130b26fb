"""`lorakit generate RUN|ADAPTER --prompt TEXT | --data FILE`."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, Revision, quiet_libraries
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.generation import Generated


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
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens of one answer at most; 128 if nothing says it.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0: nothing is drawn.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the most likely ones up to here.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For drawing, with a temperature.")] = None,
    beams: Annotated[int | None, typer.Option(help="Texts that are followed at once.")] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Exponent of the length that divides a beam's score.")
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(help="So many tokens in a row occur once in an answer.")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Prompts of one batch at most.")] = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    column: options.Column = None,
    check_base: options.CheckBase = True,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Let a run or an adapter of a language model answer prompts.

    What is not said about decoding is as in the run's recipe, or as the task's corpus has it. The
    same command continues what was interrupted, if it has an output and nothing is drawn.

    Example: `lorakit generate ./adapter --base HuggingFaceTB/SmolLM2-135M --prompt "Once upon"`
    """
    from lorakit.inference.generation import generate_rows, generate_texts, sampling_of
    from lorakit.inference.partial_outputs import remove_partial
    from lorakit.inference.session import held_out_tables, open_session
    from lorakit.runs.prediction_files import check_columns, check_output, write_predictions

    if bool(prompt) == (data is not None or output is not None):
        raise ConfigError(
            "Pass --prompt TEXT, or --data FILE (with --output FILE to keep it), or --output FILE "
            "alone for a run's own test rows."
        )
    said = _said(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        beams=beams,
        length_penalty=length_penalty,
        no_repeat_ngram=no_repeat_ngram,
        batch_rows=batch_rows,
    )
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    asked = options.ask(base, lora_alpha, revision, check_base, task, column)
    saved = open_session(source, asked, needed="generation")
    sampling = replace(sampling_of(saved), **said)
    progress = options.shows_progress(json)
    if prompt:
        found = generate_texts(saved, prompt, sampling, progress)
    else:
        table = held_out_tables(saved, data)["test"]
        check_columns(table.column_names)
        found = generate_rows(saved, table, data or "test", sampling, progress, output)
    if output is not None:
        write_predictions(output, table, found.texts)
        remove_partial(output)
    _tell(source, output, found, json)


def _said(**options: float | None) -> dict[str, Any]:
    """The settings of decoding that were given; wrong ones are told before a model is loaded."""
    from lorakit.recipe.decoding import Sampling

    said: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    Sampling(**said)
    return said


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
    from lorakit.inference.prediction import truncation

    if output is not None:
        print(f"{output}: {len(found.texts):,} rows with their texts")
    else:
        print(*found.texts, sep="\n\n")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")
