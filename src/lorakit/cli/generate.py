"""`lorakit generate RUN|ADAPTER --prompt TEXT | --data FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import many, options
from lorakit.cli.decoding_options import Seed, Temperature, TopP, checked, new_tokens, setting
from lorakit.cli.output import Json, print_part, quiet_libraries, show
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.generation import Generated
    from lorakit.inference.many.names import Names
    from lorakit.inference.session import LoadOptions


def generate(
    source: options.OneOf = None,
    adapter: options.Adapters = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt, or user message of a chat model; repeat it for several.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Prompts or conversations: CSV, TSV, JSONL or Parquet file, or data set on the "
            "Hub.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    adapter_column: options.AdapterColumn = None,
    column: options.Column = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File for the rows with their completions: .jsonl, .csv or .tsv. Alone: the "
            "run's test set.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    max_new_tokens: Annotated[int | None, new_tokens("128")] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    num_beams: Annotated[
        int | None, setting("N", "1", "Number of beams for beam search; 1 is no beam search.")
    ] = None,
    length_penalty: Annotated[
        float | None,
        setting(
            "X",
            "1",
            "Beam search divides log-probabilities by the length to this power: above 0 favours "
            "longer completions, below 0 shorter ones.",
        ),
    ] = None,
    no_repeat_ngram_size: Annotated[
        int | None,
        setting("N", "0", "If above 0, n-grams of this size occur only once in a completion."),
    ] = None,
    batch_size: Annotated[
        int | None,
        setting("N", "32", "Maximum number of prompts in a batch; changes time and memory only."),
    ] = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Generate completions of prompts with a language model and its adapter.

    Pass prompts with --prompt or --data, or --output alone for a run's test set. Generation
    settings default to those of the run's recipe; for an adapter alone with the task e2e, webnlg,
    dart or data_to_text, to microsoft/LoRA's. On a terminal the completion of one prompt appears
    word by word. With --output and without sampling, the same command
    resumes an interrupted generation. With --adapter several of one base generate together: each
    row of a file with the adapter that its column names, each --prompt with all of them, or with
    --output alone each the test set of its run.

    Example: `lorakit generate ./adapter --base HuggingFaceTB/SmolLM2-135M --prompt "Once upon"`
    """
    from lorakit.runs.prediction_files import check_output

    many.require_source(source, adapter, adapter_column)
    if bool(prompt) == (data is not None or output is not None):
        raise ConfigError(
            "Pass --prompt TEXT, or --data FILE (with --output FILE to save the completions), or "
            "--output FILE alone for a run's test set."
        )
    if prompt:
        options.refuse_columns(column, "--prompt")
    settings = checked(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        num_beams=num_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        batch_size=batch_size,
    )
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    loading = options.load_options(base, lora_alpha, revision, subfolder, check_base, task, column)
    if adapter:
        of_one = {"--revision": revision}
        several = many.read_adapters(adapter, source, loading, adapter_column, of_one, "generation")
        _generate_many(several, prompt, data, output, settings, json)
    else:
        assert source is not None
        _generate(source, loading, prompt, data, output, settings, json)


def _generate(
    source: str,
    loading: LoadOptions,
    prompts: list[str] | None,
    data: str | None,
    output: Path | None,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    from lorakit.inference.generation import (
        decoding_of,
        generate_rows,
        generate_texts,
        stream_text,
    )
    from lorakit.inference.partial_outputs import remove_partial
    from lorakit.inference.session import evaluation_tables, open_session
    from lorakit.runs.prediction_files import check_columns, write_predictions

    session = open_session(source, loading, default_task="generation")
    decoding = replace(decoding_of(session), **settings)
    progress = options.shows_progress(as_json)
    streams = not as_json and sys.stdout.isatty() and len(prompts or ()) == 1
    if prompts and streams:
        found = stream_text(session, prompts[0], print_part, decoding)
    elif prompts:
        found = generate_texts(session, prompts, decoding, progress)
    else:
        table = evaluation_tables(session, data)["test"]
        options.say_reading(table, data, as_json)
        if output is not None:
            check_columns(table.column_names)
        name = data or session.measured_on
        found = generate_rows(session, table, name, decoding, progress, output)
    if output is not None:
        write_predictions(output, table, found.texts)
        remove_partial(output)
    _print_result({"source": session.source}, output, found, as_json, streams)


def _generate_many(
    several: many.Many,
    prompts: list[str] | None,
    data: str | None,
    output: Path | None,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    from lorakit.inference.many import (
        generate_own,
        generate_rows,
        generate_texts,
        require_texts,
    )
    from lorakit.inference.partial_outputs import remove_partial
    from lorakit.runs.prediction_files import check_columns, write_predictions

    require_texts(several.described)
    progress = options.shows_progress(as_json)
    names: Names | None = None
    if prompts:
        asked = [(name, prompt) for prompt in prompts for name in several.names]
        names, texts = [name for name, _ in asked], [prompt for _, prompt in asked]
        found = generate_texts(several.load(), names, texts, settings, progress)
    elif data is not None:
        table, rows, names = several.rows(data, as_json)
        if output is not None:
            check_columns(table.column_names)
        found = generate_rows(several.load(), names, rows, data, settings, progress, output)
    else:
        own, table = several.own_rows()
        check_columns(table.column_names)
        found = generate_own(several.load(), own, settings, progress, output)
    if output is not None:
        write_predictions(output, table, found.texts)
        remove_partial(output)
    _print_result(several.content(), output, found, as_json, names=names)


def _print_result(
    about: dict[str, Any],
    output: Path | None,
    found: Generated,
    as_json: bool,
    streamed: bool = False,
    names: Sequence[str | None] | None = None,
) -> None:
    """`names` are those of the texts' adapters, where there are several."""
    from lorakit.inference.prediction import truncation

    if as_json:
        texts: list[Any] = found.texts
        if names is not None:
            pairs = zip(names, texts, strict=True)
            texts = [{"adapter": name, "text": text} for name, text in pairs]
        content = {**about, "rows": len(texts), "truncated_rows": found.truncated_rows}
        show(content | ({"output": str(output)} if output else {"generated": texts}), as_json)
        return
    if output is not None:
        print(f"{output}: {len(found.texts):,} rows with their completions")
    elif names is not None:
        from lorakit.inference.many.sessions import title_of

        pairs = zip(map(title_of, names), found.texts, strict=True)
        print(*(f"{title}: {text}" for title, text in pairs), sep="\n\n")
    else:
        print(*([""] if streamed else found.texts), sep="\n\n")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")
