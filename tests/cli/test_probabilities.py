"""`predict --probabilities`: the values of transformers' pipeline, in each form of output."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from transformers import pipeline

from lorakit.recipe.schema import from_mapping
from lorakit.training import train
from tests.training import tiny

TEXTS = ["film good", "bad bad film", "the film"]
ROWS = {
    "classification": [("good film", "good"), ("bad film", "bad"), ("film film", "dull")] * 8,
    "multi_label_classification": [("good film", ["good", "film"]), ("bad", ["bad"])] * 12,
    "regression": [("good film", 4.5), ("bad film", 1.0)] * 12,
    "token_classification": [(["good", "film"], ["A", "O"])] * 24,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[..., Path]:
    """Makes a run of a task, once."""
    base = tiny.save_encoder(tmp_path_factory.mktemp("base"), dropout=0.0)

    @cache
    def make(task: str, dtype: str = "fp32") -> Path:
        place = tmp_path_factory.mktemp("run")
        rows = [{"text": text, "label": label} for text, label in ROWS[task]]
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        columns = {"task": task, "text": ["text"], "label": "label"}
        recipe = {
            "base": str(base), "data": {"train": str(place / "rows.jsonl"), **columns},
            "training": {"max_steps": 4, "learning_rate": 0.02, "dtype": dtype},
            "output": str(place / "run"),
        }  # fmt: skip
        return Path(train(from_mapping(recipe), log=lambda text: None).output)

    return make


def predicted(run, source: Path, output: Path, *more: object) -> list[dict[str, object]]:
    """The rows of the file that `--probabilities` writes for TEXTS."""
    data = output.with_name("new.jsonl")
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    code, _, err = run(
        "predict", source, "--data", data, "--output", output, "--probabilities", *more
    )
    assert code == 0, err
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in output.read_text().splitlines()]
    with output.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("task", ["classification", "multi_label_classification"])
def test_probabilities_are_those_of_transformers_pipeline_on_the_merged_model(
    task, run, trained, tmp_path
):
    source, merged = trained(task), tmp_path / "merged"
    assert run("merge", source / "adapter", "--output", merged)[0] == 0
    expected = pipeline("text-classification", str(merged), device="cpu")(TEXTS, top_k=None)
    rows = predicted(run, source, tmp_path / "out.jsonl")
    for row, scores in zip(rows, expected, strict=True):
        found = {entry["label"]: entry["score"] for entry in scores}
        assert row["probabilities"] == pytest.approx(found, abs=1e-6)
        if task == "classification":
            assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-12)
            assert max(found, key=found.__getitem__) == row["prediction"]


def test_csv_has_a_column_for_each_label_and_json_an_object(run, trained, tmp_path):
    source = trained("classification")
    lines = predicted(run, source, tmp_path / "out.jsonl")
    cells = predicted(run, source, tmp_path / "out.csv")
    names = [f"probabilities.{label}" for label in ("bad", "dull", "good")]
    assert [*cells[0]] == ["text", "prediction", *names]
    for row, line in zip(cells, lines, strict=True):
        assert [float(row[name]) for name in names] == [*line["probabilities"].values()]
    texts = [part for text in TEXTS for part in ("--text", text)]
    shown = json.loads(run("predict", source, *texts, "--probabilities", "--json")[1])
    assert shown["probabilities"] == [
        pytest.approx(line["probabilities"], abs=1e-6) for line in lines
    ]
    out = run("predict", source, *texts, "--probabilities")[1].splitlines()
    assert out[0].split() == ["prediction", "bad", "dull", "good", "text"]
    assert out[1].endswith(TEXTS[0])


def test_probabilities_of_a_bf16_run_have_the_precision_of_float32(run, trained, tmp_path):
    source = trained("classification", dtype="bf16")
    for row in predicted(run, source, tmp_path / "out.jsonl"):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-12)
        assert all(value * 2**12 % 1 for value in row["probabilities"].values())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("regression", "The task regression predicts a number and has no probabilities"),
        ("token_classification", "predicts a tag for each word"),
    ],
)
def test_tasks_without_probabilities_say_what_they_predict(task, message, run, trained, tmp_path):
    source, output = trained(task), tmp_path / "out.csv"
    code, _, err = run("predict", source, "--text", "film", "--probabilities", "--output", output)
    assert code == 1
    assert message in " ".join(err.split())
    assert not output.exists()


def test_a_column_of_the_data_with_a_probabilitys_name_is_refused(run, trained, tmp_path):
    source, data = trained("classification"), tmp_path / "new.csv"
    data.write_text("text,probabilities.bad\nfilm,1\n")
    code, _, err = run(
        "predict", source, "--data", data, "--output", tmp_path / "out.csv", "--probabilities"
    )
    assert code == 1
    assert "'probabilities.bad'" in err
    assert run("predict", source, "--data", data, "--output", tmp_path / "out.csv")[0] == 0


def test_a_submission_to_glue_has_no_probabilities(run, trained, tmp_path):
    source = trained("classification")
    code, _, err = run("predict", source, "--glue", tmp_path / "glue", "--probabilities")
    assert code == 1
    assert "it has no probabilities" in " ".join(err.split())
