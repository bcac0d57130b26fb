"""An adapter opened beside its base, and the rows that a run is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.errors import StateError
from lorakit.inference.description import describe
from lorakit.inference.session import evaluation_tables
from lorakit.runs.origin import ORIGIN
from lorakit.training import train
from tests.inference.test_batch_generation import saved_adapter
from tests.training import tiny, tiny_gpt2


@pytest.mark.usefixtures("torch_for_gpus")
def test_a_torch_for_gpus_opens_an_adapter_on_a_machine_without_one(tmp_path):
    session = saved_adapter(tiny_gpt2.save_gpt2(tmp_path / "base"), tmp_path / "adapter")
    assert session.model.device.type == "cpu"


def test_a_run_is_not_measured_on_rows_that_it_learned_where_its_data_file_grew(
    tmp_path: Path,
) -> None:
    base, data = tiny.save_encoder(tmp_path / "base"), tiny.save_reviews(tmp_path / "reviews.csv")
    recipe = tiny.recipe(base, data, tmp_path / "run", training={"max_steps": 1})
    train(recipe, lambda text: None)
    run = describe(recipe.output)
    assert len(evaluation_tables(run, None)["test"]) == 12
    with data.open("a", encoding="utf-8") as file:
        file.write("the film was good,pos\n")
    with pytest.raises(StateError, match="pass --data FILE") as caught:
        evaluation_tables(run, None)
    assert "test: column text (data) has changed" in caught.value.problems
    assert not any("rows" in problem for problem in caught.value.problems)
    assert len(evaluation_tables(run, str(data))["test"]) == 61
    (tmp_path / "run" / ORIGIN).unlink()  # that of a run without one cannot be told
    assert len(evaluation_tables(run, None)["test"]) == 12
