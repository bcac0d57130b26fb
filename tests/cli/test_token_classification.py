"""Tags of words on the command line: train, evaluate, predict, compare, merge."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from lorakit.training import train
from tests.training import tiny

KINDS = {"good": "B-GOOD", "bad": "B-BAD", "dull": "I-BAD"}


def save_sentences(path: Path, length: int = 6, rows: int = 60) -> Path:
    """Words, of which three are entities, in four columns."""
    draw = random.Random(0)
    lines = ["-DOCSTART- -X- -X- O", ""]
    for _ in range(rows):
        words = [draw.choice([*KINDS, *tiny.OTHER[2:5]]) for _ in range(draw.randint(2, length))]
        lines += [f"{word} X X {KINDS.get(word, 'O')}" for word in words] + [""]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of which everything is guessed, with early stopping and smoothed labels."""
    path, said = tmp_path_factory.mktemp("trained"), []
    base = tiny.save_encoder(path / "base", dropout=0.0)
    training = {
        "epochs": 4, "evaluations": 2, "early_stopping": 9, "label_smoothing": 0.1,
        "learning_rate": 0.05,
    }  # fmt: skip
    data = save_sentences(path / "rows.conll")
    train(tiny.recipe(base, data, path / "run", training=training), said.append)
    printed = "\n".join(said)
    assert "task token_classification (by the names of the columns), text tokens" in printed
    assert "label tags; not read: column_2, column_3" in printed
    assert "validation overall_f1" in printed
    return path / "run"


def test_a_run_is_evaluated_predicted_compared_and_merged(run, trained, tmp_path):
    result = json.loads((trained / "result.json").read_text())
    assert result["metrics"]["overall_f1"] > 0.8
    code, out, err = run("evaluate", trained, "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"] == pytest.approx(result["metrics"])
    assert "token_classification F1" in run("compare", trained)[1]
    output = tmp_path / "out.jsonl"
    assert run("predict", trained, "--data", trained / "../rows.conll", "--output", output)[0] == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(len(row["prediction"]) == len(row["tokens"]) for row in rows)
    assert sum(row["prediction"] == row["tags"] for row in rows) > 30
    merged = tmp_path / "merged"
    assert run("merge", trained / "adapter", "--output", merged)[0] == 0
    config = json.loads((merged / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert [*config["id2label"].values()] == ["B-BAD", "B-GOOD", "I-BAD", "O"]


def test_texts_are_answered_with_entities(run, trained, tmp_path):
    code, out, err = run("predict", trained, "--text", "very good plot", "--text", "plot")
    assert code == 0, err
    assert out.splitlines() == ["good (GOOD)  very good plot", "-            plot"]
    text, output = tmp_path / "plain.txt", tmp_path / "out.csv"
    text.write_text("very good plot\ngood\n")
    assert run("predict", trained, "--data", text, "--output", output)[0] == 0
    with output.open(encoding="utf-8", newline="") as file:
        first, _ = csv.DictReader(file)
    assert json.loads(first["prediction"]) == [
        {"type": "GOOD", "text": "good", "start": 5, "end": 9}
    ]


def test_a_row_longer_than_the_model_is_tagged_to_its_end(run, trained, tmp_path):
    long, output = tmp_path / "long.jsonl", tmp_path / "out.jsonl"
    words = ["good", "plot"] * 100
    long.write_text(json.dumps({"tokens": words, "tags": ["B-GOOD", "O"] * 100}))
    code, _, err = run("predict", trained, "--data", long, "--output", output)
    assert code == 0, err
    found = json.loads(output.read_text())["prediction"]
    assert len(found) == 200
    assert found[-40:].count("B-GOOD") > 10
    metrics = json.loads(run("evaluate", trained, "--data", long, "--json")[1])
    assert (metrics["rows"], metrics["truncated_rows"]) == (1, 0)


def test_a_row_without_words_is_refused(run, trained, tmp_path):
    file = tmp_path / "empty.jsonl"
    file.write_text('{"tokens": ["good"]}\n{"tokens": []}\n')
    code, _, err = run("predict", trained, "--data", file, "--output", tmp_path / "out.jsonl")
    assert code == 1
    assert "column 'tokens' is an empty list: row 2" in " ".join(err.split())
    assert not (tmp_path / "out.jsonl").exists()
