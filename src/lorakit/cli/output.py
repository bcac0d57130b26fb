"""What commands print: tables for people, JSON for programs, errors for both.

With --json standard output holds exactly one JSON object, whatever happens: the result, the error,
or the text of a help page. What a library prints there goes to standard error. Of the processes of
`torchrun`, which share it, the first alone prints.
"""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any, TextIO

import typer

from lorakit.errors import LorakitWarning
from lorakit.text import to_json

Json = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as one JSON object.")
]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_reserved: TextIO | None = None
"""Standard output while it is kept for the one object, until that is printed."""


@contextmanager
def one_object(as_json: bool) -> Iterator[None]:
    """Keep standard output for the one JSON object, if `as_json`."""
    global _reserved
    if not as_json:
        yield
        return
    _reserved, printed = sys.stdout, io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    except Exception as error:  # unforeseen: the traceback follows, but the object comes first
        _print_if_first({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        if not _print_if_first({"output": printed.getvalue()}):
            sys.stderr.write(printed.getvalue())


def show(value: Any, as_json: bool) -> None:
    """Print a report as a table, or its fields as JSON."""
    if as_json:
        _print_object(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)  # type: ignore[arg-type]
    else:
        print(value)


def line_log(as_json: bool) -> Callable[[str], None]:
    """Prints each line of a long work at once; with JSON, which is one object, none."""
    return lambda text: None if as_json else print(text, flush=True)


def print_part(text: str) -> None:
    """Print the next part of a text at once, on the same line."""
    print(text, end="", flush=True)


def print_error(message: str, as_json: bool) -> None:
    """Print an error to standard error; as JSON also to standard output, if that has no object."""
    if as_json:
        _print_if_first({"error": message})
    print(message, file=sys.stderr)


def print_interrupted() -> None:
    """Print the object of a command that Ctrl-C ended before it printed one."""
    _print_if_first({"error": "Interrupted."})


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print lorakit's own warnings on standard error, without Python's file and line."""
    shown = warnings.showwarning

    def show_warning(
        message: Warning | str, category: type[Warning], *place: Any, **options: Any
    ) -> None:
        if issubclass(category, LorakitWarning):
            print(message, file=sys.stderr)
        else:
            shown(message, category, *place, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LorakitWarning)
        warnings.showwarning = show_warning
        yield


def quiet_libraries(as_json: bool) -> None:
    """Silence transformers' load report, whose problems lorakit reports itself."""
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if as_json or not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _print_if_first(value: Any) -> bool:
    """Print the one object, unless standard output has it already; whether it was printed."""
    is_first = _reserved is not None
    if is_first:
        _print_object(value)
    return is_first


def _print_object(value: Any) -> None:
    global _reserved
    stream, _reserved = _reserved or sys.stdout, None
    if os.environ.get("RANK", "0") == "0":  # as is_first_process, without loading torch
        print(to_json(value, indent=2), file=stream)
