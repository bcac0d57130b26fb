"""Predictions in the files that GLUE's test server takes: `index` and `prediction`, between tabs.

Source: https://gluebenchmark.com/faq (the sample submission).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakit.errors import ConfigError, SaveError
from lorakit.files import atomic_write_text, directory_for_writing
from lorakit.inference.prediction import predict
from lorakit.inference.session import Session
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


def write_server_files(
    session: Session, source: str, directory: Path, overwrite: bool = False, progress: bool = False
) -> list[ServerFile]:
    """Predict the test sets in `source` (GLUE's folder, or its name on the Hub); MNLI has two.

    Raises ConfigError if the model's task is none of GLUE's, FormatError for missing or damaged
    files, SaveError if a file exists already or cannot be written.
    """
    submission = session.spec.submission
    if submission is None:
        raise ConfigError(
            f"{session.source} is not known as an adapter for a task of GLUE (its task is "
            f"{session.spec.name}); pass --task with one of {', '.join(GLUE)}."
        )
    if Path(source).is_file() and len(submission.files) > 1:
        name = session.spec.name
        raise ConfigError(
            f"{source} is a single file, and {name} has two test sets; pass GLUE's folder."
        )
    files = {split: directory / name for split, name in submission.files.items()}
    for file in files.values():
        check_output(file, overwrite)
    tables = {split: submission.read(source, split) for split in files}
    written = []
    for split, file in files.items():
        found = predict(session, tables[split], f"{source} ({split})", progress)
        _write(file, [submission.text(value) for value in found.values])
        written.append(ServerFile(str(file), len(found.values), found.truncated_rows))
    return written


def _write(file: Path, predictions: Sequence[str]) -> None:
    """The whole file or nothing."""
    lines = ["index\tprediction", *(f"{i}\t{text}" for i, text in enumerate(predictions)), ""]
    try:
        with directory_for_writing(file.parent):
            atomic_write_text(file, "\n".join(lines), newline="\n")
    except OSError as error:
        raise SaveError(f"{file} cannot be written: {error}") from error
