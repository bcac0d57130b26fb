"""What commands say to input that cannot be used; what was there stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoModel

import lorakit as lora
from tests.cli.files import write_csv

HEADER = ("text", "label")
ROWS = [("a joy", "good"), ("a bore", "bad")] * 10


def contents(directory: Path) -> dict[str, bytes]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


TABLES: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "empty": (b"", (), "data.csv is empty."),
    "header only": (b"text,label\n", (), "data.csv has no rows."),
    "not UTF-8": (
        "text,label\n\u00e9t\u00e9,good\n".encode("latin-1"),
        (),
        "is not UTF-8: invalid continuation byte at byte 11 (line 2); save it as UTF-8.",
    ),
    "missing column": (
        b"texts,label\na joy,good\na bore,bad\n",
        ("--set", "data.text=text"),
        "there is no column 'text' (did you mean 'texts'?); the columns are texts, label",
    ),
    "one class": (
        b"text,label\n" + b"a joy,good\n" * 20,
        ("--set", "data.task=classification"),
        "Column 'label' has only the label 'good'; classification needs two different labels",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_learned_is_named(name, run, small_bert, tmp_path):
    content, settings, message = TABLES[name]
    data, output = tmp_path / "data.csv", tmp_path / "run"
    data.write_bytes(content)
    code, _, err = run("train", "--base", small_bert, "--data", data, "--output", output, *settings)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert data.read_bytes() == content


def test_a_base_that_is_not_there_is_named(run, tmp_path):
    data = write_csv(tmp_path / "train.csv", [HEADER, *ROWS])
    output = tmp_path / "runs" / "new"
    code, _, err = run("train", "--base", "/nowhere/m", "--data", data, "--output", output)
    assert code == 1
    assert err == "No transformers model found at /nowhere/m: no such directory.\n"
    assert list(tmp_path.iterdir()) == [data]


def test_a_refused_merge_makes_no_directory(run, small_bert, tmp_path):
    model = AutoModel.from_pretrained(small_bert)
    lora.inject(model, lora.LoraConfig(target_modules=["query"]))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    output = tmp_path / "new" / "merged"
    code, *_ = run("merge", adapter, "--base", tmp_path / "nothing", "--output", output)
    assert code == 1
    assert list(tmp_path.iterdir()) == [adapter]


@pytest.mark.parametrize("command", ["predict", "generate"])
def test_a_refused_answer_makes_no_directory_for_it(command, run, tmp_path):
    data = write_csv(tmp_path / "data.csv", [HEADER, *ROWS])
    output = tmp_path / "new" / "out.csv"
    code, *_ = run(command, tmp_path / "nothing", "--data", data, "--output", output)
    assert code == 1
    assert list(tmp_path.iterdir()) == [data]


def test_a_base_that_is_no_directory_and_not_on_the_hub_is_told_as_both(run, tmp_path):
    data = write_csv(tmp_path / "train.csv", [HEADER, *ROWS])
    output = tmp_path / "run"
    code, _, err = run("train", "--base", "b/nothere", "--data", data, "--output", output)
    assert code == 1
    assert "there is no such directory, and it could not be read from the Hub: " in err


def test_a_value_that_transformers_does_not_read_is_told_in_words(run, small_bert, tmp_path):
    base = Path(shutil.copytree(small_bert, tmp_path / "base"))
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": 5}')
    data = write_csv(tmp_path / "train.csv", [HEADER, *ROWS])
    code, _, err = run("train", "--base", base, "--data", data, "--output", tmp_path / "run")
    assert code == 1
    assert f"The tokenizer of {base} cannot be loaded: its files hold a value of a kind that" in err


def test_a_refused_run_leaves_a_directory_that_was_there(run, tmp_path):
    data = write_csv(tmp_path / "train.csv", [HEADER, *ROWS])
    output = tmp_path / "run"
    output.mkdir()
    code, *_ = run("train", "--base", "/nowhere/m", "--data", data, "--output", output)
    assert code == 1
    assert list(output.iterdir()) == []


def test_a_label_seen_only_at_test_time_is_named(run, small_bert, tmp_path):
    data = write_csv(tmp_path / "train.csv", [HEADER, *ROWS])
    test = write_csv(tmp_path / "test.csv", [HEADER, ("so", "so-so"), ("a joy", "good")])
    code, _, err = run(
        "train", "--base", small_bert, "--data", data, "--output", tmp_path / "run",
        "--set", f"data.test={test}",
    )  # fmt: skip
    assert code == 1
    assert "column 'label' has the label 'so-so', which is not in the training data" in err
    assert "(its labels: bad, good): row " in err


def test_texts_that_are_too_long_are_told_and_cut(run, small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", [HEADER, ("so " * 600, "bad"), *ROWS])
    test = write_csv(tmp_path / "test.csv", [HEADER, *ROWS[:4]])
    code, out, err = run(
        "train", "--base", small_bert, "--data", data, "--output", tmp_path / "run",
        "--set", "training.max_steps=1", "--set", f"data.test={test}",
    )  # fmt: skip
    assert code == 0, err
    cut = "1 of the 21 rows of train was truncated to the maximum length of 512 tokens"
    assert f"{cut}: 90 are lost." in out


def test_an_unknown_setting_writes_nothing(run, small_bert, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {small_bert}\noutput: {tmp_path}/run\nepochs: 3\n"
        "data: {train: data.csv, txt: [text]}\nlora: {rank: 4}\n"
    )
    code, _, err = run("train", recipe)
    assert code == 1
    for problem in (
        "unknown setting epochs",
        "unknown setting data.txt",
        "unknown setting lora.rank",
    ):
        assert problem in err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_an_output_that_cannot_be_written_is_told(run, small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", [HEADER, *ROWS])
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "run"
    code, _, err = run("train", "--base", small_bert, "--data", data, "--output", output)
    assert code == 1
    assert f"The run directory {output} cannot be written" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_of_another_recipe_is_refused_and_kept(run, small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", [HEADER, *ROWS])
    command = ["train", "--base", small_bert, "--data", data, "--output", tmp_path / "run"]
    command += ["--set", "training.max_steps=1"]
    assert run(*command)[0] == 0
    before = contents(tmp_path)
    code, _, err = run(*command, "--set", "training.seed=1")
    assert code == 1
    assert "holds a run of another recipe" in err
    assert "training.seed is 0 in that run and 1 in this recipe" in err
    assert contents(tmp_path) == before
