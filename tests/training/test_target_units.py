"""A regression learns its target in units of its spread, and gives numbers in the target's own."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from lorakit.inference.prediction import evaluate, predict
from lorakit.inference.session import Session, evaluation_tables, open_session
from lorakit.merging import merge_files
from lorakit.recipe.schema import Recipe
from lorakit.runs.next_steps import usage
from lorakit.tasks.base import Units
from lorakit.tasks.glue.benchmark import GLUE, make_glue_task
from lorakit.tasks.regression import Regression
from lorakit.training import train
from lorakit.training.target_units import fold_units, unfold_units
from tests.training import tiny
from tests.training.printed import run_lines

PRICES = {"good": 1234.56, "bad": 1198.07}
TRAINING = {"max_steps": 40, "evaluations": 1, "learning_rate": 0.01}


def save_prices(path: Path) -> Path:
    """Texts whose price stands in one word."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "score"])
        for i in range(60):
            words = [draw.choice(tiny.OTHER) for _ in range(draw.randrange(6))]
            writer.writerow([" ".join([*words, [*PRICES][i % 2]]), [*PRICES.values()][i % 2]])
    return path


def run_of(base: Path, path: Path, **sections: Any) -> Recipe:
    data = save_prices(path / "prices.csv")
    training = TRAINING | sections.pop("training", {})
    return tiny.recipe(base, data, path / "run", training=training, **sections)


def rows_of(recipe: Recipe) -> Any:
    return evaluation_tables(open_session(recipe.output), None)["test"]


def logits_of(model: Any, session: Session, rows: Any) -> list[float]:
    batch = session.tokenizer(rows["text"][:], padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**batch).logits.squeeze(-1).tolist()


@pytest.mark.parametrize(("method", "dtype"), [("lora", "bf16"), ("full", "fp32")])
def test_numbers_are_learned_in_their_own_units(method, dtype, encoder, tmp_path):
    more = {"lora": {"learning_rate": 0.02}, "full": {"max_steps": 100}}[method]
    training = {"dtype": dtype, **more}
    recipe = run_of(encoder, tmp_path, method=method, training=training)
    result = train(recipe, lambda text: None)
    assert result.metrics["mse"] < 0.2 * result.baseline["value"]
    assert result.remarks == []
    session = open_session(recipe.output)
    assert session.task.units == Units(), "they are in the head"
    rows = rows_of(recipe)
    found = predict(session, rows, "test").values
    assert min(found) < 1210 < 1220 < max(found)
    assert any(value % 8 for value in found), "rounded to bfloat16"
    assert evaluate(session, rows, "test").metrics == pytest.approx(result.metrics, rel=1e-4)
    (tmp_path / "run/adapter/lorakit_task.json").unlink()
    assert predict(open_session(recipe.output), rows, "test").values == found


def test_a_plain_model_gives_the_numbers(encoder, tmp_path):
    recipe = run_of(encoder, tmp_path)
    train(recipe, lambda text: None)
    session, rows = open_session(recipe.output), rows_of(recipe)
    found = predict(session, rows, "test").values
    merged = merge_files(f"{recipe.output}/adapter", None, tmp_path / "merged")
    assert merged.added_mean == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert logits_of(model, session, rows) == pytest.approx(found, abs=0.01)


def test_a_head_without_a_bias_leaves_the_mean_with_the_task(decoder, tmp_path):
    recipe = run_of(decoder, tmp_path)
    train(recipe, lambda text: None)
    session, rows = open_session(f"{recipe.output}/adapter"), rows_of(recipe)
    mean = session.task.units.mean
    assert session.task.units == Units(pytest.approx(1216, abs=5), 1.0)
    found = predict(session, rows, "test").values
    assert all(1100 < value < 1300 for value in found)
    merged = merge_files(f"{recipe.output}/adapter", None, tmp_path / "merged")
    assert f"the number is the model's logit + {mean}" in str(merged)
    printed = usage(recipe.output)
    assert f"# the number is the logit + {mean}" in printed
    for tool in ("lorakit", "peft"):
        logits = logits_of(run_lines(printed, tool)["model"], session, rows)
        assert [logit + mean for logit in logits] == pytest.approx(found, abs=0.01)


def test_an_interrupted_run_ends_with_the_same_head(encoder, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for path in (whole, cut):
        path.mkdir()
    training = {"max_steps": 8, "evaluations": 4}
    train(run_of(encoder, whole, training=training), lambda text: None)
    tiny.interrupt(run_of(encoder, cut, training=training), 5)
    train(run_of(encoder, cut, training=training), lambda text: None)
    tiny.assert_same(tiny.adapter_of(whole / "run"), tiny.adapter_of(cut / "run"))


def test_a_run_goes_on_from_the_head_of_another(encoder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.mkdir()
    recipe = run_of(encoder, first)
    learned = train(recipe, lambda text: None)
    still = {"max_steps": 1, "learning_rate": 1e-12, "check": "off"}
    again = run_of(encoder, second, training=still, init_adapter=recipe.output)
    found = train(again, lambda text: None)
    assert found.metrics["mse"] == pytest.approx(learned.metrics["mse"], rel=0.01)


def test_units_fold_and_unfold():
    model = torch.nn.Module()
    model.classifier = torch.nn.Linear(4, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = Regression(("text",), "score", 8, 1216.0, 18.0)
    x = torch.randn(3, 4)
    meant = [18 * value + 1216 for value in model.classifier(x).squeeze(-1).tolist()]
    assert fold_units(model, task) == Regression(("text",), "score", 8)
    assert model.classifier(x).squeeze(-1).tolist() == pytest.approx(meant)
    unfold_units(model, task)
    tiny.assert_same(before, model.state_dict(), atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "mean", "scale"),
    [([1.0, 3.0], 2.0, 1.0), (["5", "5"], 5.0, 1.0), ([1e18, -1e18], 0.0, 1e18)],
)
def test_the_units_are_those_of_the_training_table(labels, mean, scale):
    task = Regression.from_table(Dataset.from_dict({"score": labels}), ("text",), "score", 8)
    assert task.units == Units(mean, pytest.approx(scale))


def test_glues_regression_learns_its_numbers_as_they_are():
    assert make_glue_task(GLUE["stsb"], 128).units == Units()
