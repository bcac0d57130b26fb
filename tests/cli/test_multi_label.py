"""Multi-label classification on the command line: train, evaluate, predict, compare, merge."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from tests.training import tiny

KINDS = ("good", "bad", "film")


def save_rows(path: Path) -> Path:
    """Texts with any of three words in them, and which."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(60):
            present = [kind for kind in KINDS if draw.random() < 0.5]
            words = [draw.choice(tiny.OTHER[2:]) for _ in range(3)] + present
            draw.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "labels": present}) + "\n")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny.save_encoder(tmp_path_factory.mktemp("base"), dropout=0.0)


@pytest.fixture
def trained(run, base, tmp_path) -> Path:
    data, output = save_rows(tmp_path / "rows.jsonl"), tmp_path / "run"
    code, out, err = run(
        "train", "--base", base, "--data", data, "--output", output, "--set", "data.test=16",
        "--set", "training.max_steps=12", "--set", "training.learning_rate=0.02",
    )  # fmt: skip
    assert code == 0, err
    assert "guessed" in out
    assert "task multi_label_classification (labels has lists), text text, label labels" in out
    return output


def test_a_run_is_evaluated_predicted_compared_and_merged(run, trained, tmp_path):
    result = json.loads((trained / "result.json").read_text())
    assert set(result["metrics"]) == {"loss", "f1_micro", "f1_macro"}
    code, out, err = run("evaluate", trained, "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"] == pytest.approx(result["metrics"])
    recall = json.loads(run("evaluate", trained, "--thresholds", "0.01", "--json")[1])["metrics"]
    assert recall["loss"] == pytest.approx(result["metrics"]["loss"])
    assert recall["f1_micro"] != result["metrics"]["f1_micro"]
    output = tmp_path / "out.csv"
    assert run("predict", trained, "--data", tmp_path / "rows.jsonl", "--output", output)[0] == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert all(set(json.loads(row["prediction"])) <= set(KINDS) for row in rows)
    assert (
        json.loads(rows[0]["labels"])
        == json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["labels"]
    )
    assert "micro F1" in run("compare", trained)[1]
    assert run("evaluate", trained, "--data", output)[0] == 0, "CSV's lists are read again"
    merged = tmp_path / "merged"
    assert run("merge", trained / "adapter", "--output", merged)[0] == 0
    config = json.loads((merged / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert [*config["id2label"].values()] == sorted(KINDS)


def test_labels_are_shown_without_brackets(run, trained):
    code, out, err = run("predict", trained, "--text", "film", "--thresholds", "0.001")
    assert code == 0, err
    assert out.startswith("bad, film, good  film")
    assert run("predict", trained, "--text", "film", "--thresholds", "0.999")[1].startswith(
        "-  film"
    )


@pytest.mark.parametrize(
    ("thresholds", "message"), [("a", "pass a number"), ("0.1,0.2", "one for each (3 labels)")]
)
def test_thresholds_that_fit_nothing_are_refused(thresholds, message, run, trained):
    code, _, err = run("evaluate", trained, "--thresholds", thresholds)
    assert code == 1
    assert message in " ".join(err.split())
