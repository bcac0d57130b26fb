"""With --json standard output is exactly one JSON object, whatever the call is and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lorakit.cli import output
from lorakit.errors import ConfigError
from tests.cli.files import write_csv

LONG = "x" * 5000


def strict(text: str) -> Any:
    """The value of JSON as its standard has it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a table, a pipe and an empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "data.csv", [("text", "label"), ("a joy", "good"), ("a bore", "bad")])
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep.yaml").write_text("[" * 90_000)
    return tmp_path


USAGE = [
    ["train", "--nope"], ["train", "a", "b"], ["nope"], ["inspect"],
    ["inspect", "a", "b"], ["merge", "a"], ["recipes", "nope"], ["recipes"], ["compare"],
    ["generate", "a", "--max-new-tokens", "x"], ["targets", "a", "--rank", "0"],
    ["predict", "a", "--lora-alpha", "x"], ["checkpoints", "download"], ["score", "--task", "e2e"],
]  # fmt: skip
REFUSED = [
    ["train"], ["train", "nowhere.yaml"], ["train", "deep.yaml"], ["train", "pipe.csv"],
    ["train", LONG], ["train", "--base", "b", "--data", "pipe.csv", "--output", "o"],
    ["train", "--base", "b", "--data", LONG, "--output", "o"],
    ["train", "--base", "b", "--data", "data.csv", "--output", LONG],
    ["train", "--base", LONG, "--data", "data.csv", "--output", "o"],
    ["train", "--base", "/dev/null", "--data", "data.csv", "--output", "o"],
    ["train", "--base", "b", "--data", "/dev/zero", "--output", "o"],
    ["train", "--base", "b", "--data", "data.csv", "--output", "data.csv"],
    ["train", "--base", "b", "--data", "d.csv", "--output", "o", "--set", "training.epochs=.inf"],
    ["recipes", "show", "nope"], ["recipes", "show", "deep.yaml"], ["recipes", "show", LONG],
    ["checkpoints", "download", "nope"], ["targets", "/nowhere/m"], ["targets", LONG],
    ["inspect", "/nowhere/a"], ["inspect", "empty"], ["inspect", "pipe.csv"], ["inspect", LONG],
    ["evaluate", "empty", "--data", "data.csv"], ["evaluate", LONG], ["compare", "empty"],
    ["compare", LONG], ["merge", "empty", "--base", "b", "--output", "o"],
    ["merge", LONG, "--base", "b", "--output", "o"], ["generate", "empty", "--prompt", "x"],
    ["generate", "empty"], ["generate", "empty", "--prompt", "x", "--temperature", "nan"],
    ["generate", "empty", "--prompt", "x", "--temperature", "inf"],
    ["generate", "empty", "--prompt", "x", "--max-new-tokens", "1" + "0" * 30],
    ["generate", "empty", "--prompt", "x", "--seed", "-1"],
    ["predict", "empty", "--text", "x"], ["predict", "empty", "--text", "half a pair \ud83d"],
    ["predict", "empty", "--data", "data.csv", "--output", f"{LONG}.csv"],
    ["predict", "empty"], ["predict", "empty", "--text", "x", "--data", "data.csv"],
    ["score", "--task", "nope", "--predictions", "data.csv"],
    ["score", "--task", "e2e", "--predictions", "pipe.csv", "--references", "data.csv"],
]  # fmt: skip


@pytest.mark.parametrize("call", USAGE, ids=" ".join)
def test_wrong_usage_is_one_object(call, run, place):
    code, out, err = run(*call, "--json")
    assert code == 2
    assert strict(out)["error"].rstrip("\n") == err.rstrip("\n")


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: " ".join(call)[:60])
def test_refusal_is_one_object(call, run, place):
    code, out, err = run(*call, "--json")
    assert code == 1
    assert strict(out) == {"error": err.rstrip("\n")}
    assert "Traceback" not in err
    assert len(err) < 3000
    assert not list(place.glob("o/*"))


@pytest.mark.parametrize("call", [["recipes", "list"], ["recipes", "show", "reviews"]])
def test_result_is_one_object(call, run):
    code, out, _ = run(*call, "--json")
    assert code == 0
    assert isinstance(strict(out), dict)


@pytest.mark.parametrize("call", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_is_one_object(call, run):
    code, out, _ = run("train", *call[1:], "--help", "--json")
    assert code == 0
    assert "Fine-tune a base model" in strict(out)["output"]


def test_what_a_library_prints_is_not_in_the_object(run, monkeypatch):
    def printing() -> dict[str, object]:
        print("a library prints this")
        return {"value": float("nan"), "values": [1.0, float("inf")]}

    monkeypatch.setattr("lorakit.recipe.catalogue.shipped_recipes", printing)
    code, out, err = run("recipes", "list", "--json")
    assert (code, strict(out)) == (0, {"value": None, "values": [1.0, None]})
    assert err == "a library prints this\n"


def test_error_after_the_result_is_no_second_object(run, monkeypatch, capsys):
    def broken(*arguments: object) -> None:
        output.show({"value": 1}, True)
        raise error

    monkeypatch.setattr("lorakit.cli.recipes.show", broken)
    error: Exception = ConfigError("too late")
    code, out, err = run("recipes", "list", "--json")
    assert (code, strict(out), err) == (1, {"value": 1}, "too late\n")
    error = KeyError("surprise")
    with pytest.raises(KeyError):
        run("recipes", "list", "--json")
    assert strict(capsys.readouterr().out) == {"value": 1}


def test_interruption_is_one_object(run, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorakit.recipe.catalogue.shipped_recipes", interrupted)
    code, out, _ = run("recipes", "list", "--json")
    assert (code, strict(out)) == (130, {"error": "Interrupted."})


def test_unforeseen_error_is_said_before_it_is_raised(capsys):
    def broken() -> None:
        print("a library prints this")
        raise KeyError("surprise")

    with pytest.raises(KeyError), output.one_object(True):
        broken()
    captured = capsys.readouterr()
    assert strict(captured.out) == {"error": "KeyError: 'surprise'"}
    assert captured.err == "a library prints this\n"


def test_of_several_processes_the_first_alone_prints(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    code, out, err = run("recipes", "list", "--json")
    assert (code, out, err) == (0, "", "")
