"""`train`, `evaluate`, `predict`, `compare` and `recipes`, on a small encoder and little data."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import lorakit as lora
import lorakit.training
from lorakit.checkpoint import read
from lorakit.cli import train as train_command
from lorakit.recipe.adapter_recipes import adapter_recipes
from lorakit.recipe.schema import ADAPTERS, from_mapping
from lorakit.recipe.yaml_file import with_settings
from lorakit.runs.next_steps import usage
from lorakit.tasks.task_file import TASK_FILE
from tests.cli.files import write_csv

GOOD = ("a joy", "warm and wise", "a delight", "loved every minute")
BAD = ("a bore", "cold and flat", "a mess", "hated every minute")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    """48 sentences with a label each."""
    starts = ("it is", "what", "truly", "so", "this", "oh")
    labelled = [*((words, "good") for words in GOOD), *((words, "bad") for words in BAD)]
    rows = [(f"{start} {words}", label) for start in starts for words, label in labelled]
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", [("text", "label"), *rows])


@pytest.fixture(scope="module")
def runs(reviews, small_bert, tmp_path_factory) -> Path:
    """A directory with two finished runs: lora and head."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("lora", "head"):
        data = {"train": str(reviews), "test": 8, "task": "classification", "text": ["text"],
                "label": "label"}  # fmt: skip
        training = {"max_steps": 5, "total_batch": 16, "learning_rate": 1e-2, "evaluations": 1}
        recipe = {"base": str(small_bert), "data": data, "output": str(folder / method),
                  "method": method, "training": training}  # fmt: skip
        lorakit.training.train(from_mapping(recipe), log=lambda text: None)
    return folder


def test_train_guesses_says_so_and_ends_with_the_lines_that_use_it(
    run, reviews, small_bert, tmp_path
):
    output = tmp_path / "run"
    code, out, err = run(
        "train", "--base", small_bert, "--data", reviews, "--output", output,
        "--set", "training.max_steps=4", "--set", "training.evaluations=1",
        "--set", "lora.target_modules=[query]",
    )  # fmt: skip
    assert code == 0, err
    assert "guessed from" in out
    assert "task classification (label has 2 different values), text text, label label" in out
    recipe = yaml.safe_load((output / "recipe.yaml").read_text())
    assert recipe["data"]["label"] == "label"
    assert "accuracy of the majority class" in out
    for line in (
        f'lorakit predict {output} --text "..."',
        f'lora.load_adapter(model, "{output}/adapter")',
        f'PeftModel.from_pretrained(model, "{output}/adapter")',
        f"--max-lora-rank 8 --lora-modules run={output}/adapter",
    ):
        assert line in out
    assert (output / "curve.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("method", ["lora", "head"])
def test_the_printed_python_lines_run(method, runs, small_bert):
    line = f'lora.load_adapter(model, "{runs}/{method}/adapter")'
    assert line in usage(f"{runs}/{method}")
    assert ("PeftModel" in usage(f"{runs}/{method}")) is (method == "lora")
    model = AutoModelForSequenceClassification.from_pretrained(str(small_bert), num_labels=2)
    assert lora.load_adapter(model, f"{runs}/{method}/adapter").base_verified


def test_a_trained_head_is_refused_on_another_base(run, runs, reviews, small_bert, tmp_path):
    other = tmp_path / "other"
    model = AutoModel.from_pretrained(str(small_bert))
    model.embeddings.word_embeddings.weight.data.add_(1)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(str(small_bert)).save_pretrained(other)
    code, _, err = run("evaluate", runs / "head", "--base", other)
    assert code == 1
    assert "the base weights differ from those that the adapter was trained on" in err
    code, _, err = run("evaluate", runs / "head", "--base", other, "--no-check-base")
    assert code == 0, err


def test_a_trained_head_alone_predicts_inspects_and_merges(run, runs, small_bert, tmp_path):
    adapter = runs / "head" / "adapter"
    code, out, err = run("inspect", adapter, "--base", small_bert)
    assert code == 0, err
    assert "head" in out
    assert "(the frozen weights are those that it was trained on)" in out
    code, alone, err = run("predict", adapter, "--text", "a joy", "--base", small_bert, "--json")
    assert code == 0, err
    whole = run("predict", runs / "head", "--text", "a joy", "--json")[1]
    assert json.loads(alone)["predictions"] == json.loads(whole)["predictions"]
    output = tmp_path / "merged"
    code, out, err = run("merge", adapter, "--base", small_bert, "--output", output)
    assert code == 0, err
    merged = AutoModelForSequenceClassification.from_pretrained(str(output))
    stored = read(adapter).trained
    assert torch.equal(merged.classifier.weight, stored["classifier.weight"])


def test_ctrl_c_says_how_to_go_on(run, runs, monkeypatch, tmp_path):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lorakit.training, "train", interrupted)
    output = tmp_path / "run"
    code, _, err = run("train", "--base", "b", "--data", "d.csv", "--output", output)
    assert code == train_command.INTERRUPTED
    assert f"the same command resumes the run in {output}" in err


def test_train_lists_every_mistake_of_a_recipe(run):
    code, _, err = run("train", "reviews", "--set", "training.epoch=3", "--set", "data.test=-1")
    assert code == 1
    assert "unknown setting training.epoch (did you mean 'epochs'?)" in err
    assert "data.test" in err


def test_evaluate_a_run_on_its_test_rows_gives_the_metrics_of_training(run, runs):
    for method in ("lora", "head"):
        code, out, _ = run("evaluate", runs / method, "--json")
        assert code == 0
        told = json.loads((runs / method / "result.json").read_text())["metrics"]
        report = json.loads(out)
        assert report["rows"] == 8
        assert report["metrics"] == pytest.approx(told, abs=1e-4)


def test_evaluate_an_adapter_alone(run, runs, reviews, small_bert, tmp_path):
    bare = tmp_path / "adapter"
    shutil.copytree(runs / "lora" / "adapter", bare)
    whole = json.loads(run("evaluate", bare, "--data", reviews, "--json")[1])
    (bare / TASK_FILE).unlink()
    code, out, err = run(
        "evaluate", bare, "--data", reviews, "--base", small_bert, "--labels", "bad,good", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["metrics"] == whole["metrics"]


def test_evaluate_says_what_is_missing(run, runs, tmp_path):
    other = write_csv(tmp_path / "other.csv", [("txt", "label"), ("fine", "good")])
    code, _, err = run("evaluate", runs / "lora", "--data", other)
    assert code == 1
    assert "there is no column 'text' (did you mean 'txt'?)" in err
    code, _, err = run("evaluate", runs / "lora" / "adapter")
    assert code == 1
    assert "pass --data FILE" in err
    unknown = write_csv(tmp_path / "new.csv", [("text", "label"), ("fine", "so-so")])
    code, _, err = run("evaluate", runs / "lora", "--data", unknown)
    assert code == 1
    assert "'so-so'" in err


def test_evaluate_says_which_texts_were_cut(run, runs, tmp_path):
    long = write_csv(
        tmp_path / "long.csv", [("text", "label"), ("so " * 600, "bad"), ("a", "good")]
    )
    code, out, err = run("evaluate", runs / "head", "--data", long)
    assert code == 0, err
    assert "1 row truncated to the maximum length" in out


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_predict_keeps_the_rows_and_their_order(run, runs, tmp_path, suffix):
    texts = ["a joy " * n for n in (3, 90, 1, 40)]
    data = write_csv(
        tmp_path / "new.csv", [("id", "text"), *((str(i), t) for i, t in enumerate(texts))]
    )
    output = tmp_path / f"out{suffix}"
    code, out, err = run("predict", runs / "lora", "--data", data, "--output", output)
    assert code == 0, err
    assert "4 rows with their predictions" in out
    text = output.read_text(encoding="utf-8")
    rows = (
        list(csv.DictReader(text.splitlines()))
        if suffix == ".csv"
        else [json.loads(line) for line in text.splitlines()]
    )
    assert [str(row["id"]) for row in rows] == ["0", "1", "2", "3"]
    alone = json.loads(run("predict", runs / "lora", "--json", *with_text(texts))[1])
    assert [row["prediction"] for row in rows] == alone["predictions"]


def with_text(texts: list[str]) -> list[str]:
    return [part for text in texts for part in ("--text", text)]


def test_predict_never_overwrites_silently(run, runs, reviews, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    code, _, err = run("predict", runs / "lora", "--data", reviews, "--output", output)
    assert code == 1
    assert "exists already" in err
    assert output.read_text() == "mine"
    code, _, err = run(
        "predict", runs / "lora", "--data", reviews, "--output", output, "--overwrite"
    )
    assert code == 0, err
    assert output.read_text().startswith("text,label,prediction")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Pass --data FILE with --output FILE, or --text TEXT."),
        (("--data", "x.csv"), "Pass --data FILE with --output FILE"),
        (("--data", "x.csv", "--output", "out.xlsx"), "must end in one of .jsonl, .csv, .tsv"),
        (("--text", "a joy", "--column", "text"), "a file, which --text does not read; leave it"),
        (("--text", "a joy", "--task", "chat"), "was trained for classification, not for chat"),
    ],
)
def test_predict_refuses_what_it_cannot_do(run, runs, arguments, message):
    code, _, err = run("predict", runs / "lora", *arguments)
    assert code == 1
    assert message in err


def test_an_unfinished_run_says_how_to_finish_it(run, runs, tmp_path):
    shutil.copy(runs / "lora" / "recipe.yaml", tmp_path)
    code, _, err = run("evaluate", tmp_path)
    assert code == 1
    assert f"finish it first with: lorakit train {tmp_path}/recipe.yaml" in err


def test_compare_puts_runs_and_a_recorded_result_side_by_side(run, runs, tmp_path):
    recorded = json.loads((runs / "head" / "result.json").read_text())
    recorded |= {"method": "full", "trainable_parameters": 22_000_000}
    file = tmp_path / "full.json"
    file.write_text(json.dumps(recorded))
    code, out, err = run("compare", runs, "--reference", file)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "majority class", "head only", "LoRA", "full fine-tuning",
    ]  # fmt: skip
    assert lines[4].endswith(f"recorded in {file}")
    assert " + " in lines[3], "the parameters of the adapter, and of the head"
    assert "classification: 8 test rows, the standard error is" in lines[6]
    rows = json.loads(run("compare", runs / "lora", "--json")[1])["rows"]
    assert [row["name"] for row in rows] == ["majority class", "LoRA"]


def test_compare_refuses_what_is_no_run(run, tmp_path):
    code, _, err = run("compare", tmp_path)
    assert code == 1
    assert "holds no finished run" in err


def test_every_shipped_recipe_is_listed_shown_and_valid(run):
    listed = json.loads(run("recipes", "list", "--json")[1])["recipes"]
    assert "reviews" in [recipe["name"] for recipe in listed]
    for recipe in listed:
        assert recipe["about"]
        shown = json.loads(run("recipes", "show", recipe["name"], "--json")[1])
        for choice in [[f"task={task}"] for task in shown.get("tasks", ())] or [[]]:
            settled = with_settings(shown, choice)
            assert adapter_recipes(settled) if ADAPTERS in settled else from_mapping(settled)
        code, out, _ = run("recipes", "show", recipe["name"])
        assert code == 0
        assert out.rstrip() == Path(recipe["file"]).read_text(encoding="utf-8").rstrip()


def test_an_unknown_recipe_names_the_nearest(run):
    code, _, err = run("recipes", "show", "review")
    assert code == 1
    assert "did you mean 'reviews'?" in err


def test_the_tokenizer_travels_with_the_adapter(runs):
    assert AutoTokenizer.from_pretrained(runs / "lora" / "adapter")("a joy")["input_ids"]


@pytest.mark.slow
def test_the_shipped_recipe_trains_on_other_columns_and_three_classes(run, minilm, tmp_path):
    moods = {"a joy": "glad", "a bore": "sad", "a film": "neither"}
    rows = [
        (mood, f"{start} {words}") for start in ("what", "it is") for words, mood in moods.items()
    ]
    data = write_csv(tmp_path / "moods.csv", [("mood", "sentence"), *rows * 20])
    output = tmp_path / "run"
    code, _, err = run(
        "train", "reviews", "--base", minilm, "--data", data, "--output", output,
        "--set", "data.text=[sentence]", "--set", "data.label=mood", "--set", "data.test=30",
        "--set", "training.max_steps=12", "--set", "training.total_batch=12",
    )  # fmt: skip
    assert code == 0, err
    lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    assert {answer["prediction"] for answer in answers} == set(moods.values())
    assert sum(answer["prediction"] == answer["mood"] for answer in answers) >= 27
