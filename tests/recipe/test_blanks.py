"""Rows with an empty cell that the task needs are named, or left out and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe.data import split, with_guesses
from lorakit.recipe.schema import from_mapping

ASKED = {"role": "user", "content": "Q"}
TALK = [ASKED, {"role": "assistant", "content": "A"}]
FULL: dict[str, list[dict[str, Any]]] = {
    "classification": [{"text": f"text {i}", "label": "xy"[i % 2]} for i in range(10)],
    "regression": [{"text": f"text {i}", "score": i + 0.5} for i in range(10)],
    "multi_label_classification": [{"text": str(i), "labels": ["x", "y"]} for i in range(10)],
    "multiple_choice": [
        {"question": f"q {i}", "choice1": "a", "choice2": "b", "label": i % 2} for i in range(10)
    ],
    "token_classification": [{"tokens": ["a", "b"], "tags": ["B-X", "O"]} for _ in range(10)],
    "generation": [{"instruction": "do", "input": "", "output": f"done {i}"} for i in range(10)],
    "language_modeling": [{"text": f"text {i}"} for i in range(10)],
    "chat": [{"messages": TALK, "system": None} for _ in range(10)],
}
"""Rows of each task; those with an empty `input` or `system` are whole."""
GIVEN = {"training": {"learning_rate": 1e-3, "epochs": 1, "total_batch": 8, "early_stopping": 0}}
EMPTY = [None, "", " \t", float("nan")]


def split_of(
    tmp_path: Path, rows: Sequence[Any], lines: list[str], test: Any = 2, **data: Any
) -> dict[str, Any]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = {"train": str(path), "test": test, **data}
    recipe = from_mapping({"base": "b", "data": settings, "output": "o", **GIVEN})
    return split(with_guesses(recipe, lines.append).data, lines.append)


def damaged(task: str, empty: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the task, of which one more lacks each cell that it needs, and these columns."""
    full = FULL[task]
    needed = [name for name in full[0] if name not in ("input", "system")]
    return [*full, *({**full[0], name: empty} for name in needed)], needed


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("task", FULL)
def test_rows_with_empty_cells_are_refused_with_their_columns(
    tmp_path: Path, task: str, empty: Any
) -> None:
    rows, needed = damaged(task, empty)
    with pytest.raises(ConfigError, match=r"data\.blank: drop") as caught:
        split_of(tmp_path, rows, [], task=task)
    assert f"({len(needed)} of {len(rows)} rows)" in str(caught.value)
    assert set(caught.value.problems) == {
        f"column {name!r} is empty: row {11 + i}" for i, name in enumerate(needed)
    }


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("task", FULL)
def test_rows_with_empty_cells_are_left_out_and_counted(
    tmp_path: Path, task: str, empty: Any
) -> None:
    rows, needed = damaged(task, empty)
    lines: list[str] = []
    tables = split_of(tmp_path, rows, lines, task=task, blank="drop")
    assert {name: len(table) for name, table in tables.items()} == {"train": 8, "test": 2}
    counts = ", ".join(f"{name} in 1" for name in needed)
    (said,) = [line for line in lines if line.startswith("data.blank")]
    assert said.endswith(f"{len(needed)} of the {len(rows)} rows of {tmp_path / 'rows.jsonl'}, "
                         f"which have empty cells: {counts}")  # fmt: skip


@pytest.mark.parametrize("blank", ["refuse", "drop"])
def test_empty_cells_of_a_test_file_are_treated_alike(tmp_path: Path, blank: str) -> None:
    rows = FULL["classification"]
    test = tmp_path / "test.jsonl"
    test.write_text("\n".join(map(json.dumps, [*rows[:3], {"text": " ", "label": "x"}])))
    lines: list[str] = []
    if blank == "refuse":
        with pytest.raises(ConfigError, match=r"test has empty cells(.|\n)*'text' is empty: row 4"):
            split_of(tmp_path, rows, lines, test=str(test))
    else:
        tables = split_of(tmp_path, rows, lines, test=str(test), blank=blank)
        assert len(tables["test"]) == 3
        assert lines[-1] == (
            "data.blank leaves out 1 of the 4 rows of test, which have empty cells: text in 1"
        )


def test_a_table_of_empty_cells_alone_is_refused(tmp_path: Path) -> None:
    rows = [{"text": ""}] * 3
    with pytest.raises(ConfigError, match=r"empty cells(.|\n)*rows 1, 2, 3"):
        split_of(tmp_path, rows, [], blank="drop", task="language_modeling")
