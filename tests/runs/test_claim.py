"""What failed inside a claimed run directory is told, whatever else fails in cleaning up."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorakit.errors import SaveError
from lorakit.locks import NOTE, exclusive
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.runs.claim import claimed


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return from_mapping({"base": "b", "output": str(tmp_path / "run"), "data": {"train": "d.csv"}})


@pytest.fixture
def no_more_files() -> Iterator[tuple[int, tuple[int, int]]]:
    """The limit at which nothing more can be opened (EMFILE); undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield resource.RLIMIT_NOFILE, (3, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_error_of_the_run_is_raised_when_nothing_can_be_opened(
    recipe: Recipe, tmp_path: Path, no_more_files: tuple[int, tuple[int, int]]
) -> None:
    def fail() -> None:
        resource.setrlimit(*no_more_files)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), claimed(tmp_path / "run", recipe):
        fail()


def test_the_error_of_the_run_is_raised_over_a_damaged_note(recipe: Recipe, tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "run" / NOTE).write_bytes(b"\xff")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), claimed(tmp_path / "run", recipe):
        fail()


def test_a_note_that_cannot_be_read_is_a_save_error(
    tmp_path: Path, no_more_files: tuple[int, tuple[int, int]]
) -> None:
    with exclusive(tmp_path) as require_held:
        require_held()
        resource.setrlimit(*no_more_files)
        with pytest.raises(SaveError, match=r"can no longer be read: .*Too many open files"):
            require_held()
