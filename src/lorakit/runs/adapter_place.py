"""Where an adapter is: in a run, a directory, a file or a repository; and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.source import locate
from lorakit.foreign_files import local_path
from lorakit.runs.directory import BESIDE
from lorakit.runs.finished import FinishedRun, finished_run


@dataclass(frozen=True)
class AdapterPlace:
    """What `lorakit.checkpoint.read` is told, and the run where it is that of one."""

    source: str
    """The run, or the adapter alone."""
    path: str
    """Directory, file, hub id or name of a release."""
    revision: str | None = None
    subfolder: str | None = None
    """Where in a repository it is; in a directory `path` leads there."""
    run: FinishedRun | None = None

    def __str__(self) -> str:
        return self.path if self.subfolder is None else f"{self.path}/{self.subfolder}"

    def read(
        self, lora_alpha: float | None = None, base: Mapping[str, Any] | None = None
    ) -> AdapterBundle:
        """The adapter; raises as `lorakit.checkpoint.read` does."""
        return read(self.path, lora_alpha, self.revision, subfolder=self.subfolder, base=base)

    def directory(self) -> Path | None:
        """The directory of tokenizer, task and stop tokens, downloaded; None for a file alone.

        Raises as `read` does for an adapter that is not there.
        """
        path = locate(self.path, self.revision, BESIDE, self.subfolder).path
        return path if path.is_dir() else None


def place_of(
    source: str | Path, revision: str | None = None, subfolder: str | None = None
) -> AdapterPlace:
    """The place of the adapter that a run has, or of one alone; `subfolder` is where in `source`.

    Raises FormatError for a directory without that subfolder and for a run without its adapter,
    ConfigError for a subfolder that leads out of `source`, and for a revision of something local.
    """
    if subfolder is not None and local_path(source).exists():
        source, subfolder = locate(source, revision, (), subfolder).path, None
    source = str(source)
    run = finished_run(source, revision)
    path = source if run is None else str(run.adapter)
    name = source if subfolder is None else f"{source}/{subfolder}"
    return AdapterPlace(name, path, revision, subfolder, run)
