"""Ten files of ten forms: each is read, its task guessed, and learned by defaults alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.first_runs import FORMS, Form, file_of, first_run
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
    found = first_run(form, tmp_path)
    score, trivial = float(str(found["score"])), float(str(found["trivial answer"]))
    if found["metric"] in ("loss", "mse"):
        assert score < trivial / 2
    else:
        assert 1 - score < (1 - trivial) / 2
