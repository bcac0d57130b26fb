"""Runs of tasks that generate: they learn, and leave a text for each test row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo import smollm2
from lorakit.inference.generation import (
    DecodingConfig,
    generate_rows,
    generate_test_rows,
    generate_texts,
)
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import Session, evaluation_tables, open_session
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.training import train
from tests.training import tiny

PAIRS = [("the film was", "good fine"), ("the plot was", "bad"), ("very", "dull dull dull")] * 12
LEARNING = {"epochs": 8, "learning_rate": 0.01}
CAPITALS = {"Utopia": "Amaurot", "Lilliput": "Mildendo", "Oz": "the Emerald City"}


def completions(path: Path) -> Path:
    lines = [json.dumps({"asked": prompt, "said": said}) for prompt, said in PAIRS]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def conversations(path: Path, pairs: list[tuple[str, str]]) -> Path:
    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in pairs
    ]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows), encoding="utf-8")
    return path


def trained(recipe: Recipe) -> tuple[Any, list[dict[str, Any]], Session]:
    """The run's result, its predictions and what was saved."""
    result = train(recipe, lambda text: None)
    lines = (Path(recipe.output) / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return result, [json.loads(line) for line in lines], open_session(recipe.output)


def assert_evaluates_as_in_training(result: Any, saved: Session) -> None:
    report = evaluate(saved, evaluation_tables(saved, None)["test"], "its test rows")
    assert report.metrics == pytest.approx(result.metrics, rel=1e-4)


def test_completions_are_learned_and_written(llama, tmp_path):
    data = completions(tmp_path / "data.jsonl")
    columns = {"task": "generation", "text": ["asked"], "label": "said", "test": 9}
    recipe = tiny.recipe(
        llama, data, tmp_path / "run", data=columns, method="full", training=LEARNING
    )
    result, rows, saved = trained(recipe)
    assert [set(row) for row in rows] == [{"asked", "said", "reference", "prediction"}] * 9
    assert all(row["prediction"] == row["said"] == row["reference"] for row in rows)
    assert result.metrics["perplexity"] < 1.5
    assert_evaluates_as_in_training(result, saved)
    prompts = [row["asked"] for row in rows]
    assert generate_texts(saved, prompts, DecodingConfig(6)).texts == [
        r["prediction"] for r in rows
    ]


def test_answers_of_a_chat_are_learned_and_written(llama, tmp_path):
    data = conversations(tmp_path / "data.jsonl", PAIRS)
    recipe = tiny.recipe(
        llama, data, tmp_path / "run", data={"test": 9}, method="full", training=LEARNING
    )
    result, rows, saved = trained(recipe)
    assert saved.task.name == "chat"
    assert [set(row) for row in rows] == [{"messages", "reference", "prediction"}] * 9
    assert all(row["messages"][1]["content"] == row["reference"] for row in rows)
    assert all(row["prediction"] == row["reference"] for row in rows)
    assert_evaluates_as_in_training(result, saved)


def test_whole_texts_are_learned_and_continued(llama, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": f"{a} {b}"}) for a, b in PAIRS))
    recipe = tiny.recipe(
        llama, data, tmp_path / "run", data={"test": 9}, method="full", training=LEARNING
    )
    result, rows, saved = trained(recipe)
    assert (saved.task.name, rows) == ("language_modeling", [])
    assert_evaluates_as_in_training(result, saved)
    assert generate_texts(saved, ["very"], DecodingConfig(6)).texts == ["dull dull dull"]


def test_an_answer_is_as_long_as_the_longest_reference_at_most(llama, tmp_path):
    """Nothing was learned, so nothing ends before it."""
    data = completions(tmp_path / "data.jsonl")
    columns = {"task": "generation", "text": ["asked"], "label": "said", "test": 9}
    training = {"max_steps": 1, "learning_rate": 1e-9}
    _, rows, saved = trained(
        tiny.recipe(llama, data, tmp_path / "run", data=columns, training=training)
    )
    longest = max(len(row["said"].split()) for row in rows) + 3  # [CLS], [SEP] and the end
    assert 0 < max(len(row["prediction"].split()) for row in rows) <= longest
    table = evaluation_tables(saved, None)["test"]
    alone = generate_rows(saved, table, "test", DecodingConfig(longest - 2)).texts
    again = generate_test_rows(saved, table, tmp_path / "again.jsonl")
    assert again == alone == [row["prediction"] for row in rows]


@pytest.fixture(scope="module")
def speaker() -> Path:
    """A real model of 135 million parameters that was taught to answer."""
    directory = smollm2.prepared()
    if directory is None:
        pytest.skip("SmolLM2 is not in the cache: python -m demo.smollm2")
    return directory


def taught(base: Path, data: Path, output: Path, columns: dict[str, Any]) -> Recipe:
    training = {"epochs": 8, "learning_rate": 2e-3, "total_batch": 6, "evaluations": 1}
    training |= {"dtype": "fp32"}  # a saved model is evaluated in float32
    return from_mapping(
        {
            "base": str(base),
            "output": str(output),
            "data": {"train": str(data), "test": 3, **columns},
            "lora": {"target_modules": ["q_proj", "v_proj"]},
            "training": training,
        }
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["generation", "chat"])
def test_a_real_model_learns_capitals(kind, speaker, tmp_path):
    pairs = [(f"What is the capital of {land}?", town) for land, town in CAPITALS.items()] * 9
    if kind == "chat":
        data, columns = conversations(tmp_path / "data.jsonl", pairs), {"task": "chat"}
    else:
        data = tmp_path / "data.jsonl"
        lines = [json.dumps({"prompt": asked, "completion": said}) for asked, said in pairs]
        data.write_text("\n".join(lines), encoding="utf-8")
        columns = {"task": "generation"}
    result, rows, saved = trained(taught(speaker, data, tmp_path / "run", columns))
    assert all(row["prediction"] == row["reference"] for row in rows), rows
    assert result.metrics["perplexity"] < 1.2
    assert_evaluates_as_in_training(result, saved)
    asked = "What is the capital of Lilliput?"
    assert generate_texts(saved, [asked], DecodingConfig(12)).texts == ["Mildendo"]
