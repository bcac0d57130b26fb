"""`--adapter NAME=PATH`, several times: one base, one file, each row by its adapter."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.inference.many.files import ROWS, save_all, save_bert, write_rows


@pytest.fixture(scope="module")
def sources(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = save_bert(minilm, tmp_path_factory.mktemp("bert"))
    return save_all(base, tmp_path_factory.mktemp("adapters"))


def named(sources: dict[str, str]) -> list[str]:
    """The options for all of them."""
    return [part for name, path in sources.items() for part in ("--adapter", f"{name}={path}")]


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_predict_answers_each_row_by_its_adapter(run, sources, tmp_path):
    data, output = write_rows(tmp_path / "mixed.jsonl"), tmp_path / "out.jsonl"
    code, out, err = run("predict", *named(sources), "--data", data, "--output", output)
    assert code == 0, err
    assert out == f"{output}: 9 rows with their predictions\n"
    found = rows_in(output)
    assert [(row["adapter"], row["label"]) for row in found] == [
        (row["adapter"], row["label"]) for row in ROWS
    ]
    for name in ("pairs", "stars"):
        path, own = sources[name], [row for row in ROWS if row["adapter"] == name]
        single = tmp_path / f"{name}.jsonl"
        code, _, err = run(
            "predict", path, "--data", write_rows(tmp_path / "own.jsonl", own), "--output", single
        )
        assert code == 0, err
        together = [row["prediction"] for row in found if row["adapter"] == name]
        expected = [row["prediction"] for row in rows_in(single)]
        assert together == (pytest.approx(expected, rel=1e-5) if name == "stars" else expected)


def test_predict_writes_the_probabilities_of_each_rows_labels(run, sources, tmp_path):
    names = ["mood", "pairs"]
    data = write_rows(tmp_path / "m.jsonl", [row for row in ROWS if row["adapter"] in names])
    output, some = tmp_path / "out.csv", {name: sources[name] for name in names}
    code, _, err = run(
        "predict", *named(some), "--data", data, "--output", output, "--probabilities"
    )
    assert code == 0, err
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {"mood": {"bad", "good"}, "pairs": {"no", "yes", "maybe"}}
    for row in rows:
        shown = {k.partition(".")[2]: v for k, v in row.items() if k.startswith("probabilities.")}
        assert {*shown} == {"bad", "good", "no", "yes", "maybe"}
        assert {label for label, p in shown.items() if p} == labels[row["adapter"]]
        assert sum(float(p) for p in shown.values() if p) == pytest.approx(1)


def test_texts_are_answered_by_each_adapter(run, sources):
    some = {name: sources[name] for name in ("mood", "stars")}
    texts = ("--text", "a joy", "--text", "a bore")
    code, out, err = run("predict", *named(some), *texts)
    assert code == 0, err
    title, *lines = [line.split() for line in out.splitlines()]
    assert title == ["adapter", "prediction", "text"]
    assert [(line[0], " ".join(line[2:])) for line in lines] == [
        ("mood", "a joy"), ("stars", "a joy"), ("mood", "a bore"), ("stars", "a bore")
    ]  # fmt: skip
    code, out, _ = run("predict", *named(some), *texts, "--json")
    found = json.loads(out)
    assert found["adapters"] == some
    assert [row["adapter"] for row in found["predictions"]] == ["mood", "stars"] * 2
    assert [str(row["prediction"]) for row in found["predictions"]] == [line[1] for line in lines]


def test_evaluate_gives_the_metrics_of_each_adapter(run, sources, tmp_path):
    names = ["pairs", "topics"]
    data = write_rows(tmp_path / "m.jsonl", [row for row in ROWS if row["adapter"] in names])
    some = named({name: sources[name] for name in names})
    code, out, err = run("evaluate", *some, "--data", data, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["data"]) == (4, str(data))
    assert [one["adapter"] for one in found["adapters"]] == names
    for one in found["adapters"]:
        own = [row for row in ROWS if row["adapter"] == one["adapter"]]
        single = write_rows(tmp_path / "own.jsonl", own)
        _, out, _ = run("evaluate", sources[one["adapter"]], "--data", single, "--json")
        alone = json.loads(out)
        assert one["metrics"] == pytest.approx(alone["metrics"], rel=1e-5, nan_ok=True)
        assert one["rows"] == alone["rows"] == len(own)
    code, out, _ = run("evaluate", *some, "--data", data)
    assert "pairs (" in out
    assert "2 rows, classification" in out


def test_another_column_names_the_adapters(run, sources, tmp_path):
    rows = [{"who": "mood", "text": "a joy"}, {"who": "mood", "text": "a bore"}]
    data, output = write_rows(tmp_path / "m.jsonl", rows), tmp_path / "out.jsonl"
    mood = named({"mood": sources["mood"]})
    call = ["predict", *mood, "--data", data, "--output", output]
    code, _, err = run(*call)
    assert code == 1
    assert "does not say which adapter a row has; name the column with --adapter-column" in err
    code, _, err = run(*call, "--adapter-column", "who")
    assert code == 0, err
    assert [row["who"] for row in rows_in(output)] == ["mood", "mood"]


def test_all_that_is_wrong_with_the_adapters_is_one_message(run, sources, tmp_path):
    mood, output = sources["mood"], tmp_path / "out.jsonl"
    adapters = [f"mood={mood}", "nothing", "=x", f"mood={mood}", "gone=/nowhere/adapter"]
    code, _, err = run(
        "predict", "runs/one", *(part for text in adapters for part in ("--adapter", text)),
        "--data", write_rows(tmp_path / "m.jsonl"), "--output", output,
        "--labels", "a,b", "--revision", "main",
    )  # fmt: skip
    assert code == 1
    for problem in (
        "runs/one stands beside --adapter; give it a name: --adapter NAME=runs/one",
        "--adapter 'nothing' is no NAME=PATH",
        "--adapter '=x' is no NAME=PATH",
        "--adapter names 'mood' more than once",
        "gone: ",
        "/nowhere/adapter",
        "--labels is for a single adapter",
        "--revision is for a single adapter",
    ):
        assert problem in err
    assert not output.exists()


def test_unknown_names_are_listed_with_rows_before_a_model_is_loaded(
    run, sources, tmp_path, monkeypatch
):
    monkeypatch.setattr("lorakit.inference.many.sessions.load_for_task", None)
    rows = [*ROWS, {"adapter": "mod", "text": "x"}, {"adapter": "poems"}, {"adapter": "mod"}]
    data, output = write_rows(tmp_path / "m.jsonl", rows), tmp_path / "out.jsonl"
    code, _, err = run("predict", *named(sources), "--data", data, "--output", output)
    assert code == 1
    assert "'mod' (did you mean 'mood'?): rows 10, 12" in err
    assert "'poems': row 11" in err


def test_bad_rows_are_listed_by_adapter_and_by_their_number_in_the_file(run, sources, tmp_path):
    rows = [*ROWS, {"adapter": "mood", "text": " "}, {"adapter": "pairs", "first": "x"}, {}]
    data, output = write_rows(tmp_path / "m.jsonl", rows), tmp_path / "out.jsonl"
    code, _, err = run("predict", *named(sources), "--data", data, "--output", output)
    assert code == 1
    assert "mood: column 'text' is empty: row 10" in err
    assert "pairs: column 'second' is empty: row 11" in err
    assert "no adapter is named in row 12, and the base alone has no head" in err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("--text", "x", "--adapter-column", "who"), "name them with --adapter"),
        (("--glue", "here"), "is not known as an adapter for a task of GLUE"),
        (("--glue", "here", "--adapter-column", "who"), "names a column of --data FILE"),
        (("--data", "m.jsonl"), "Pass --data FILE with --output FILE"),
    ],
)
def test_predict_refuses_what_several_cannot_do(run, sources, call, message):
    adapters = [sources["mood"]] if "--text" in call else named(sources)
    code, _, err = run("predict", *adapters, *call)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("command", ["predict", "evaluate", "generate"])
def test_no_adapter_at_all_is_wrong_usage(run, command):
    code, out, _ = run(command, "--json")
    assert code == 2
    assert "name several with --adapter NAME=PATH" in json.loads(out)["error"]
