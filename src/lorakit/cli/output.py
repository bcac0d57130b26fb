"""What commands print: tables for people, JSON for programs, errors for both."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lorakit.errors import LorakitWarning

Json = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as one JSON object.")
]


def show(value: Any, as_json: bool) -> None:
    """Print a report as a table, or its fields as JSON."""
    if as_json:
        data = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        print(json.dumps(data, indent=2))
    else:
        print(value)


def print_error(message: str, as_json: bool) -> None:
    """Print an error to standard error, and as JSON also to standard output."""
    if as_json:
        print(json.dumps({"error": message}))
    print(message, file=sys.stderr)


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
