"""A run that was made elsewhere, put into its directory: all of it, once."""

from __future__ import annotations

import shutil
from pathlib import Path

from lorakit.experiments.jobs import Job
from lorakit.experiments.ray_runs.node import Trained
from lorakit.files import atomic_write, atomic_write_text
from lorakit.locks import LOCK_FILES
from lorakit.recipe.schema import from_mapping
from lorakit.runs.claim import claimed
from lorakit.runs.directory import RECIPE, RESULT
from lorakit.runs.writing import writing
from lorakit.text import to_json


def receive(job: Job, trained: Trained) -> None:
    """Write its files, result.json last, since it says that the run is finished.

    A result that is there already stays; what an unfinished run has left there is deleted.
    Raises StateError if the directory is another recipe's, SaveError if another process holds it or
    if it cannot be written.
    """
    output = {"output": str(job.directory)}
    recipe = from_mapping({**trained.recipe, **output})
    with writing(job.directory), claimed(job.directory, recipe):
        if job.is_finished:
            return
        _clear(job.directory)
        for name, content in trained.files.items():
            place = job.directory / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(place) as temporary:
                temporary.write_bytes(content)
        result = to_json({**trained.result, **output}, indent=2)
        atomic_write_text(job.directory / RESULT, result)


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name not in (RECIPE, *LOCK_FILES):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
