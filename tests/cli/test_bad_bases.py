"""What every command says to a base that cannot be used, and that `train` leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.files import write_csv

ROWS = [("text", "label"), *[("a joy", "good"), ("a bore", "bad")] * 10]


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def config(**changes: object) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        file = base / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def content(name: str, text: str) -> Callable[[Path], None]:
    return lambda base: (base / name).write_text(text) and None


def pickled(base: Path) -> None:
    (base / "model.safetensors").unlink()
    torch.save({"x": Code()}, base / "pytorch_model.bin")


def cut(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])


CONFIGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "no such directory"),
    "no config": (lambda base: (base / "config.json").unlink(), "it has no config.json"),
    "broken config": (content("config.json", "{"), "No transformers model found"),
    "deep config": (content("config.json", '{"a":' + "[" * 100_000), "No transformers model found"),
    "unknown type": (config(model_type="nope"), "No transformers model found"),
    "text for a size": (config(hidden_size="big"), "No transformers model found"),
    "a million layers": (
        config(num_hidden_layers=10**6),
        "num_hidden_layers is 1000000; at most 10,000 are supported",
    ),
}
WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "cannot be loaded"),
    "empty weights": (content("model.safetensors", ""), "cannot be loaded"),
    "cut weights": (cut, "cannot be loaded"),
    "pickled code": (
        pickled,
        "its weights are a pickle that is damaged or could run",
    ),
    "a trillion tokens": (config(vocab_size=10**12), "cannot be loaded"),
}
TOKENIZERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "broken tokenizer": (content("tokenizer.json", "{"), "The tokenizer of"),
}
BASES = CONFIGS | WEIGHTS | TOKENIZERS


@pytest.fixture
def broken(
    small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """The small BERT, broken in the way of this name."""

    def break_base(name: str) -> Path:
        monkeypatch.chdir(tmp_path)
        base = tmp_path / "base"
        shutil.copytree(small_bert, base)
        BASES[name][0](base)
        return base

    return break_base


@pytest.mark.parametrize("name", BASES)
def test_train_says_what_is_wrong_and_leaves_no_recipe(name, broken, run, small_bert, tmp_path):
    base, data = broken(name), write_csv(tmp_path / "data.csv", ROWS)
    command = ["train", "--data", data, "--output", tmp_path / "run"]
    code, out, err = run(*command, "--base", base)
    assert code == 1
    assert BASES[name][1] in err
    assert len(err) < 500
    assert "Traceback" not in out + err
    assert not list((tmp_path / "run").rglob("recipe.yaml"))
    assert not (tmp_path / "executed").exists()


def test_corrected_command_runs_after_a_refused_one(broken, run, small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", ROWS)
    command = ["train", "--data", data, "--output", tmp_path / "run"]
    command += ["--set", "training.max_steps=1"]
    assert run(*command, "--base", broken("pickled code"))[0] == 1
    code, _, err = run(*command, "--base", small_bert)
    assert code == 0, err


@pytest.mark.parametrize("name", CONFIGS)
def test_targets_says_what_is_wrong(name, broken, run):
    code, out, err = run("targets", broken(name), "--json")
    assert code == 1
    assert BASES[name][1] in err
    assert json.loads(out)["error"] + "\n" == err


def test_base_that_is_a_file_is_refused(run, small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", ROWS)
    for command in (["targets"], ["train", "--data", data, "--output", "o", "--base"]):
        code, _, err = run(*command, small_bert / "config.json")
        assert code == 1
        assert "config.json is a file; a model is a directory or a hub id" in err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--labels", "a,b,c"), "labels is a, b, c, and {run} was trained with bad, good; leave"),
        (("--revision", "x"), "revision='x' is for an adapter on the Hub, and {run} is a run"),
    ],
    ids=["labels", "revision"],
)
def test_option_that_a_run_cannot_take_is_refused(option, message, run, small_bert, tmp_path):
    data, output = write_csv(tmp_path / "data.csv", ROWS), tmp_path / "run"
    command = ["--base", small_bert, "--data", data, "--output", output]
    assert run("train", *command, "--set", "training.max_steps=1")[0] == 0
    code, _, err = run("predict", output, "--text", "a joy", *option)
    assert code == 1
    assert message.format(run=output) in err
