"""`lorakit chat RUN|ADAPTER`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import decoding_options, options
from lorakit.cli.output import Json, print_part, quiet_libraries, show
from lorakit.errors import ConfigError
from lorakit.text import plural

if TYPE_CHECKING:
    from lorakit.inference.dialogue import Dialogue

CLEAR, EXIT = "/clear", "/exit"
_HELP = f"{CLEAR} forgets what was said; {EXIT} or Ctrl-D ends; Ctrl-C stops an answer."
_ALONE = "The model reads no chat template, so each message is a prompt of its own."


def chat(
    source: options.Source,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="System message before the conversation.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, decoding_options.new_tokens("512")] = None,
    temperature: decoding_options.Temperature = None,
    top_p: decoding_options.TopP = None,
    seed: decoding_options.Seed = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Talk with a language model and its adapter, in the chat template of its tokenizer.

    The conversation is kept, and its oldest turns are dropped when they no longer fit. Standard
    input may be a pipe, with a message a line. A model without a chat template, or trained without
    it, sees each message as a prompt of its own.

    Example: `lorakit chat runs/assistant --system "You answer in one sentence."`
    """
    from lorakit.inference.dialogue import dialogue
    from lorakit.inference.generation import decoding_of
    from lorakit.inference.session import open_session

    settings = decoding_options.checked(
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
    )
    quiet_libraries(json)
    loading = options.load_options(base, lora_alpha, revision, subfolder, check_base, task, None)
    session = open_session(source, loading, default_task="generation")
    decoding = replace(decoding_of(session), **settings)
    with dialogue(session, decoding, system, in_template=task is None) as talk:
        notes = [] if talk.task.keeps_history else [_ALONE]
        if sys.stdin.isatty():
            notes.append(_HELP)
        for note in notes:
            print(note, file=sys.stderr)
        said = _converse(talk, shown=not json)
        if json:
            show({"source": session.source, "messages": said}, json)


def _converse(talk: Dialogue, shown: bool) -> list[dict[str, Any]]:
    """Answer each message until there is none; everything that was said."""
    said = [*talk.messages]
    for message in _messages():
        if message == EXIT:
            break
        if message == CLEAR:
            talk.clear()
            continue
        answer = _answered(talk, message, shown)
        if answer is not None:
            said += [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
    return said


def _answered(talk: Dialogue, message: str, shown: bool) -> str | None:
    """The answer, printed; on a terminal as it comes. None where there was no room for one."""
    streams = shown and sys.stdout.isatty()
    try:
        answer = talk.answer(message, print_part if streams else lambda part: None)
    except ConfigError as error:
        if not sys.stdin.isatty():
            raise
        print(error, file=sys.stderr)
        return None
    if shown:
        print("" if streams else answer.text, flush=True)
    if answer.dropped:
        print(f"({plural(answer.dropped, 'turn')} no longer fitted and went)", file=sys.stderr)
    return answer.text


def _messages() -> Iterator[str]:
    """What the user types, or the lines of standard input, without blank ones."""
    for line in _typed() if sys.stdin.isatty() else _piped():
        if message := line.strip():
            yield message


def _piped() -> Iterator[str]:
    """The lines of standard input; raises ConfigError if they are not UTF-8."""
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise ConfigError(f"Standard input is not UTF-8 text: {error}") from error


def _typed() -> Iterator[str]:
    """A line for each prompt; Ctrl-C gives a new one, and Ctrl-D ends."""
    with suppress(ImportError):  # not on every system
        importlib.import_module("readline")  # lets input() edit the line
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return
