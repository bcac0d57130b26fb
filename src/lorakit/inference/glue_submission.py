"""Predictions in the files that GLUE's test server takes: `index` and `prediction`, between tabs.

Source: https://gluebenchmark.com/faq (the sample submission).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, SaveError
from lorakit.files import atomic_write_text, directory_for_writing
from lorakit.inference.prediction import Predictions, predict
from lorakit.inference.session import Opened, Session
from lorakit.runs.prediction_files import check_output
from lorakit.tasks.glue.benchmark import GLUE


@dataclass(frozen=True)
class ServerFile:
    """One file for the test server, as it was written."""

    file: str
    rows: int
    truncated_rows: int

    def __str__(self) -> str:
        return f"{self.file}: {self.rows:,} predictions"


@dataclass(frozen=True)
class ServerSet:
    """One test set of GLUE, which has no labels."""

    split: str
    table: Any
    data: str
    """What messages call it."""
    file: Path
    """Where its predictions go."""
    text: Callable[[Any], str]
    """A prediction as the server expects it."""

    def write(self, found: Predictions) -> ServerFile:
        """Write the predictions of its rows; raises SaveError if that cannot be done."""
        _write(self.file, [self.text(value) for value in found.values])
        return ServerFile(str(self.file), len(found.values), found.truncated_rows)


def server_sets(
    opened: Opened, source: str, directory: Path, overwrite: bool = False
) -> list[ServerSet]:
    """The test sets in `source`, GLUE's folder or its name on the Hub; MNLI has two.

    Raises ConfigError if the model's task is none of GLUE's, FormatError for missing or damaged
    files, SaveError if a file exists already or could not be written in this directory.
    """
    submission, name = opened.spec.submission, opened.spec.name
    if submission is None:
        raise ConfigError(
            f"{opened.source} is not known as an adapter for a task of GLUE (its task is {name}); "
            f"pass --task with one of {', '.join(GLUE)}."
        )
    if Path(source).is_file() and len(submission.files) > 1:
        raise ConfigError(
            f"{source} is a single file, and {name} has two test sets; pass GLUE's folder."
        )
    files = {split: directory / file for split, file in submission.files.items()}
    for file in files.values():
        check_output(file, overwrite)
    return [
        ServerSet(
            split, submission.read(source, split), f"{source} ({split})", file, submission.text
        )
        for split, file in files.items()
    ]


def write_server_files(
    session: Session, source: str, directory: Path, overwrite: bool = False, progress: bool = False
) -> list[ServerFile]:
    """Predict the test sets of the session's task; raises as `server_sets` does."""
    sets = server_sets(session, source, directory, overwrite)
    return [one.write(predict(session, one.table, one.data, progress)) for one in sets]


def _write(file: Path, predictions: Sequence[str]) -> None:
    """The whole file or nothing."""
    lines = ["index\tprediction", *(f"{i}\t{text}" for i, text in enumerate(predictions)), ""]
    try:
        with directory_for_writing(file.parent):
            atomic_write_text(file, "\n".join(lines), newline="\n")
    except OSError as error:
        raise SaveError(f"{file} cannot be written: {error}") from error
