"""Ten files of ten forms: each is read, its task guessed, and learned by defaults alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.first_runs import FORMS, Form, file_of, first_run
from benchmarks.tables import markdown
from demo import smollm2
from lorakit.recipe.data import with_guesses
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import with_settings

GIVEN = {"learning_rate": 1e-3}
"""So that nothing is asked of the base."""
each = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.file)


@each
def test_a_file_is_read_and_its_task_guessed(form: Form, tmp_path: Path) -> None:
    data = {"train": str(file_of(form, tmp_path, 40))}
    mapping = {"base": "b", "output": "o", "data": data, "training": GIVEN}
    said: list[str] = []
    recipe = with_guesses(from_mapping(with_settings(mapping, form.settings)), said.append)
    assert recipe.data.task == form.task
    assert any(line.startswith("derived from ") for line in said)


@pytest.mark.slow
@each
def test_a_first_run_is_clearly_better_than_the_trivial_answer(form: Form, tmp_path: Path) -> None:
    if form.model == "SmolLM2" and smollm2.prepared() is None:
        pytest.skip("python -m demo.smollm2 has not fetched SmolLM2")
    assert is_clearly_better(first_run(form, tmp_path))


def is_clearly_better(row: Mapping[str, Any]) -> bool:
    """Whether a score is nearer to the best one than half of the way from the trivial answer's."""
    score, trivial = row["score"], row["trivial answer"]
    if row["metric"] in ("loss", "mse"):
        return score < trivial / 2
    return 1 - score < (1 - trivial) / 2


def test_the_table_of_the_documentation_is_that_of_the_result() -> None:
    root = Path(__file__).parents[2]
    result = json.loads((root / "benchmarks/results/first_runs.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in result["rows"]] == [form.name for form in FORMS]
    page = (root / "docs/how-to/your-data.md").read_text(encoding="utf-8")
    assert markdown(result["rows"]) in page
    assert all(is_clearly_better(row) for row in result["rows"])
