"""A run before it is trained: the same rows, steps and model, and nothing is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lorakit.errors import ConfigError, StateError
from lorakit.recipe.schema import Recipe
from lorakit.training import train
from lorakit.training.preview import MEASURED_STEPS, Preview, preview
from lorakit.training.trainer import LoraTrainer
from tests.training import tiny


@pytest.fixture
def recipe(encoder: Path, reviews: Path, tmp_path: Path) -> Recipe:
    return tiny.recipe(encoder, reviews, tmp_path / "runs" / "one")


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_preview_writes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    preview(recipe)
    assert files_in(tmp_path) == before


def test_a_preview_says_what_the_run_then_is(recipe: Recipe) -> None:
    found = preview(recipe)
    said: list[str] = []
    result = train(recipe, said.append)
    assert found.steps == result.steps == 12
    assert (found.steps_per_epoch, found.epochs, found.total_batch) == (6, 2, 8)
    assert found.data.rows == result.examples
    assert found.trainable_parameters == result.trainable_parameters
    assert found.report in said
    assert set(found.data.notes) <= set(said)
    assert found.dtype == result.dtype


def test_the_first_steps_are_those_of_the_run(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    whole = LoraTrainer.training_step

    def noted(self, *arguments):
        loss = whole(self, *arguments)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(LoraTrainer, "training_step", noted)
    found = preview(recipe)
    previewed = [*losses]
    assert len(previewed) == MEASURED_STEPS + 1
    assert len(found.measured.step_seconds) == MEASURED_STEPS
    losses.clear()
    tiny.interrupt(recipe, step=len(previewed))
    assert losses == previewed


def test_time_and_memory_are_measured(recipe: Recipe) -> None:
    found = preview(recipe)
    one = sum(found.measured.step_seconds) / MEASURED_STEPS
    assert found.training_seconds == pytest.approx(12 * one)
    assert found.measured.peak_memory_bytes > 1e7


def test_a_run_of_one_step_is_measured_on_it(recipe: Recipe) -> None:
    training = dataclasses.replace(recipe.training, max_steps=1)
    found = preview(dataclasses.replace(recipe, training=training))
    assert (found.steps, len(found.measured.step_seconds)) == (1, 1)


def test_a_preview_reports_to_no_tracker_and_saves_no_checkpoint(
    recipe: Recipe, tmp_path: Path
) -> None:
    training = dataclasses.replace(
        recipe.training, report_to=("tensorboard",), evaluations=12, early_stopping=1
    )
    before = files_in(tmp_path)
    found = preview(dataclasses.replace(recipe, training=training))
    assert found.data.rows["validation"] > 0
    assert files_in(tmp_path) == before


def test_a_preview_refuses_what_the_run_would(recipe: Recipe) -> None:
    train(recipe, lambda text: None)
    training = dataclasses.replace(recipe.training, epochs=3)
    with pytest.raises(StateError, match=r"training\.epochs is 2 in that run and 3"):
        preview(dataclasses.replace(recipe, training=training))
    data = dataclasses.replace(recipe.data, text=("txt",))
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        preview(dataclasses.replace(recipe, data=data, output=f"{recipe.output}2"))


def test_completions_are_marked_as_they_are_learned(
    decoder: Path, dialogues: Path, tmp_path: Path
) -> None:
    found: Preview = preview(tiny.recipe(decoder, dialogues, tmp_path / "run"))
    prompt, completion = found.data.examples[0]
    assert (prompt.learned, completion.learned) == (False, True)
    assert completion.text.endswith("[SEP]")
