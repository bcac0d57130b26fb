"""A run in bfloat16 has one score: the same in training, evaluation and prediction."""

from __future__ import annotations

import csv
import json
import random

import pytest

from lorakit.inference.prediction import evaluate, predict
from lorakit.inference.session import evaluation_tables, open_session
from lorakit.training import train
from tests.training import tiny


def save_numbers(path):
    """Texts with numbers around 2.7, as STS-B's."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "score"])
        for _ in range(48):
            words = [draw.choice(tiny.OTHER) for _ in range(draw.randrange(1, 12))]
            writer.writerow([" ".join(words), round(draw.uniform(2, 3.4), 2)])
    return path


@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_a_regression_in_bf16_has_one_score(method, encoder, tmp_path):
    data = save_numbers(tmp_path / "numbers.csv")
    recipe = tiny.recipe(
        encoder, data, tmp_path / "run", method=method, training={"dtype": "bf16", "max_steps": 4}
    )
    result = train(recipe, lambda text: None)
    saved = open_session(recipe.output)
    table = evaluation_tables(saved, None)["test"]
    assert evaluate(saved, table, "test").metrics == result.metrics
    lines = (tmp_path / "run" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    predictions = [json.loads(line)["prediction"] for line in lines]
    assert predictions == predict(saved, table, "test").values
    assert any(value * 64 % 1 for value in predictions), "rounded to bfloat16"


def test_completions_in_bf16_have_one_score(decoder, dialogues, tmp_path):
    training = {"dtype": "bf16", "max_steps": 2, "token_budget": 40}
    recipe = tiny.recipe(decoder, dialogues, tmp_path / "run", data={"test": 9}, training=training)
    result = train(recipe, lambda text: None)
    saved = open_session(recipe.output)
    table = evaluation_tables(saved, None)["test"]
    assert evaluate(saved, table, "test").metrics == result.metrics


def test_a_run_in_a_dtype_that_this_machine_lacks_is_read_in_float32(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training={"max_steps": 1})
    train(recipe, lambda text: None)
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("dtype: fp32", "dtype: fp16"), encoding="utf-8")
    assert open_session(recipe.output).dtype in ("fp16", "fp32")
