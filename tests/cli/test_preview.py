"""`train --dry-run` and `inspect FILE`: what is seen before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.files import write_csv

ROWS = [("it was a joy", "good"), ("it was a bore", "bad")] * 10


@pytest.fixture
def reviews(tmp_path) -> Path:
    return write_csv(tmp_path / "reviews.csv", [("text", "label"), *ROWS])


def test_a_dry_run_shows_data_steps_time_and_memory(run, small_bert, reviews, tmp_path):
    code, out, err = run(
        "train", "--base", small_bert, "--data", reviews, "--output", tmp_path / "run", "--dry-run",
        "--set", "training.total_batch=8", "--set", "training.epochs=1",
    )  # fmt: skip
    assert code == 0, err
    for line in (
        f"  source  {reviews} (CSV)\n",
        "  rows    18 train, 2 test\n",
        "  task    classification\n",
        "  guessed from",
        " -> [[good]]\n",
        "Lengths in tokens\n  18 examples, 6 to 6, median 6, 95% have at most 6\n",
        "  steps   3 of 8 examples, 3 an epoch: 1 epoch\n",
        " a step, measured on 2 steps (cpu, ",
        "for the process, measured over these steps",
        "trainable parameters",
        "Nothing was written",
    ):
        assert line in out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_gives_the_same_as_data(run, small_bert, reviews, tmp_path):
    code, out, err = run(
        "train", "--base", small_bert, "--data", reviews, "--output", tmp_path / "run", "--dry-run",
        "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["data"]["rows"] == {"train": 18, "test": 2}
    assert found["data"]["examples"][0][-1]["learned"] is True
    assert found["data"]["lengths"]["histogram"] == [[6, 6, 18]]
    assert found["data"]["truncated"]["train"] == {"rows": 0, "tokens": 0}
    assert found["measured"]["peak_memory_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_a_dry_run_fails_as_the_run_would(run, small_bert, reviews, tmp_path):
    code, _, err = run(
        "train", "--base", small_bert, "--data", reviews, "--output", tmp_path / "run", "--dry-run",
        "--set", "lora.target_modules=[quary]",
    )  # fmt: skip
    assert code == 1
    assert "did you mean 'query'?" in err
    assert not (tmp_path / "run").exists()


def test_inspect_shows_a_file_of_data(run, reviews):
    code, out, err = run("inspect", reviews)
    assert (code, err) == (0, "")
    for line in (
        "  rows    20\n",
        "task classification (label has 2 different values)",
        "  1  it was a joy -> [[good]]\n",
        "Classes\n  bad   10   50.0%  ####",
        "Lengths in characters",
    ):
        assert line in out


def test_inspect_counts_the_tokens_of_a_base(run, small_bert, reviews):
    code, out, err = run("inspect", reviews, "--base", small_bert, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["lengths"]["unit"], found["lengths"]["most"]) == ("tokens", 6)
    assert found["examples"][0][0]["text"] == "[CLS] it was a joy [SEP] -> "


def test_inspect_shows_rows_of_which_no_task_can_be_told(run, tmp_path):
    data = write_csv(tmp_path / "data.csv", [("one", "two", "three"), ("a", "b", "c")])
    code, out, _ = run("inspect", data)
    assert code == 0
    assert "  columns  one, two, three\n" in out
    assert "  - the columns are 'one', 'two', 'three'; set data.task and data.label\n" in out


def test_what_is_learned_is_coloured_where_there_are_colours(run, reviews, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code, out, _ = run("inspect", reviews)
    assert code == 0
    assert "\x1b[1;32mgood\x1b[0m" in out
    assert "[[" not in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[[good]]" in run("inspect", reviews)[1]


def test_many_classes_and_long_texts_are_shortened(run, tmp_path):
    rows = [(f"text {i} " + "x" * (900 if i == 0 else 9), f"class{i % 20}") for i in range(60)]
    data = write_csv(tmp_path / "data.csv", [("text", "label"), *rows])
    code, out, _ = run("inspect", data)
    assert code == 0
    assert "and 8 more, each 3 to 3 times" in out
    assert " letters) ... xxx" in out
    assert "x" * 300 not in out


def test_a_line_break_in_an_example_is_indented(run, tmp_path):
    data = write_csv(tmp_path / "data.csv", [("text", "label"), ("one\ntwo", "a"), ("three", "b")])
    _, out, _ = run("inspect", data)
    assert "  1  one\n     two -> [[a]]\n" in out
