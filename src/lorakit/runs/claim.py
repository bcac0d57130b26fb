"""Who may write into a run directory: one recipe, and one process at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lorakit.errors import ConfigError, SaveError, StateError
from lorakit.files import atomic_write_text, discard
from lorakit.locks import LOCK_FILES, exclusive
from lorakit.recipe.schema import Recipe, differences, from_mapping
from lorakit.recipe.yaml_file import load_recipe, to_yaml
from lorakit.runs.directory import CHECKPOINTS, RECIPE, TRACKED
from lorakit.runs.origin import ORIGIN


def require_own(output: Path, recipe: Recipe) -> None:
    """Raise StateError if the directory holds another recipe's run or other files."""
    try:
        if (output / RECIPE).exists():
            _require_same(output, recipe)
        elif output.exists() and any(map(_is_foreign, output.iterdir())):
            raise StateError(
                f"{output} is not empty and is not a run directory; choose another output."
            )
    except OSError as error:
        raise ConfigError(f"The run directory {output} cannot be read: {error}") from error


@contextmanager
def claimed(output: Path, recipe: Recipe) -> Iterator[Callable[[], None]]:
    """Hold the run directory, with the recipe in it, against every other run.

    Yields a check that raises SaveError if the directory was deleted or moved since. A run that
    fails before its first checkpoint leaves nothing that would refuse a corrected recipe, and no
    directory that it made.

    Raises SaveError that names the process that holds it, ConfigError if it cannot be written.
    """
    with ExitStack() as stack:
        try:
            require_held = stack.enter_context(exclusive(output))
            require_own(output, recipe)  # another run may have begun and ended since
            if not (output / RECIPE).exists():
                atomic_write_text(output / RECIPE, to_yaml(recipe))
        except SaveError:
            raise
        except OSError as error:
            raise ConfigError(f"The run directory {output} cannot be written: {error}") from error
        try:
            yield require_held
        except SaveError:  # what is there may not be seen, and the same command goes on
            raise
        except Exception:
            with suppress(OSError):  # what failed is more than what stays behind
                require_held()
                _release(output)
            raise


def abandon(output: Path) -> None:
    """Delete a run that has nothing to go on from, but for what trackers have kept of it."""
    for path in output.iterdir():
        if path.name not in TRACKED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _require_same(output: Path, recipe: Recipe) -> None:
    try:
        there = from_mapping(load_recipe(output / RECIPE))
    except ConfigError as error:
        raise StateError(f"{output} holds a run whose recipe cannot be read: {error}") from error
    if found := differences(there, recipe):
        raise StateError(
            f"{output} holds a run of another recipe; choose another output, or delete it:", found
        )


def _is_foreign(path: Path) -> bool:
    return path.suffix != ".tmp" and path.name not in (*LOCK_FILES, *TRACKED)


def _release(output: Path) -> None:
    """Delete the recipe of a run that has made nothing yet."""
    kept = [output / name for name in TRACKED]
    files = {
        path
        for path in output.rglob("*")
        if not path.is_dir() and not any(map(path.is_relative_to, kept))
    }
    own = {output / name for name in (RECIPE, ORIGIN, *LOCK_FILES)}
    if files <= own:
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)  # empty; the Trainer's
        discard([output / ORIGIN, output / RECIPE])
