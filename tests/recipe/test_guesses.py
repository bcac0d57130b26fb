"""What a recipe leaves open is guessed, and said with the columns that nothing reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorakit.recipe.data import with_guesses
from lorakit.recipe.schema import from_mapping

TALK = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
SAID: dict[str, tuple[dict[str, Any], str]] = {
    "classification": (
        {"id": "1", "text": "a", "title": "t", "label": "x"},
        "task classification (label has 2 different values), text text, label label; not read: id, "
        "title",
    ),
    "regression": (
        {"text": "a", "score": 1.5, "by": "me"},
        "task regression (score has numbers with fractions), text text, label score; not read: by",
    ),
    "multiple choice": (
        {"id": 1, "question": "q", "choice1": "a", "choice2": "b", "label": 0},
        "task multiple_choice (by the names of the columns), text question, choice1, choice2, "
        "label label; not read: id",
    ),
    "generation": (
        {"prompt": "a", "completion": "b", "source": "c"},
        "task generation (by the names of the columns), text prompt, label completion; not read: "
        "source",
    ),
    "chat": (
        {"messages": TALK, "id": "1"},
        "task chat (by the names of the columns), text messages; not read: id",
    ),
    "all are read": (
        {"context": "c", "question": "q", "answer": "a"},
        "task generation (by the names of the columns), text question, context, label answer",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_columns_that_are_not_read_are_said(name: str, tmp_path: Path) -> None:
    row, said = SAID[name]
    other = {**row, "label": "y"} if row.get("label") == "x" else row
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n", encoding="utf-8")
    lines: list[str] = []
    training = {"learning_rate": 1e-3, "epochs": 1, "total_batch": 8}
    data = {"train": str(path)}
    recipe = from_mapping({"base": "b", "data": data, "output": "o", "training": training})
    with_guesses(recipe, lines.append)
    assert lines == [f"guessed from {path}: {said}"]
