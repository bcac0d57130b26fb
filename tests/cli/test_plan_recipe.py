"""`lorakit plan RECIPE`: what `lorakit train RECIPE` would run."""

from __future__ import annotations

import json

import pytest
import yaml

from lorakit.cli.plan_recipe import is_recipe
from tests.training import tiny


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def write(encoder, tmp_path):
    """Writes a recipe; gives its file."""
    reviews = tiny.save_reviews(tmp_path / "reviews.csv")

    def make(**changes):
        recipe = {
            "base": str(encoder),
            "output": str(tmp_path / "run"),
            "data": {"train": str(reviews), "text": "text", "label": "label"},
            "training": {"dtype": "fp32", "total_batch": 8, "token_budget": 64},
            **changes,
        }
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return file

    return make


def rows(out):
    table = out.splitlines()
    head = next(n for n, line in enumerate(table) if line.startswith("method "))
    return [line.split()[0] for line in table[head + 1 : table.index("", head)]]


def test_recipe_is_planned_with_its_own_method(run, write):
    code, out, _ = run("plan", write(method="houlsby"))
    assert code == 0
    assert rows(out) == ["houlsby"]
    assert "a step of 8 x 16 tokens in fp32 with adamw, micro-batches of 4 rows" in out


def test_methods_are_compared_on_a_recipe(run, write):
    settings = ("--set", "houlsby.bottleneck=4", "--set", "lora.r=2")
    code, out, _ = run("plan", write(), "--method", "lora,full,houlsby", *settings)
    assert code == 0
    assert rows(out) == ["lora", "full", "houlsby"]


def test_page_is_written(run, write, tmp_path):
    code, _, _ = run("plan", write(), "--html", tmp_path / "plan.html")
    assert code == 0
    assert "s/step (estimate)" in (tmp_path / "plan.html").read_text(encoding="utf-8")


def test_json_is_the_plan_alone(run, write):
    code, out, _ = run("plan", write(), "--set", "training.total_batch=4", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["settings"]["batch"] == 4
    assert found["settings"]["method"] == "lora"


def test_settings_of_the_recipe_count(run, write):
    file = write(training={"dtype": "bf16", "gradient_checkpointing": True, "max_grad_norm": 0})
    settings = json.loads(run("plan", file, "--json")[1])["settings"]
    assert (settings["dtype"], settings["checkpointing"]) == ("bf16", True)
    assert settings["max_grad_norm"] == 0


def test_devices_divide_the_rows_of_a_recipe(run, write):
    options = ("--devices", "2", "--parallel", "fsdp", "--json")
    found = json.loads(run("plan", write(), *options)[1])
    assert found["settings"]["batch"] == 4
    assert (found["device"]["devices"], found["device"]["parallel"]) == (2, "fsdp")
    of_tp = json.loads(run("plan", write(), "--devices", "2", "--parallel", "tp", "--json")[1])
    assert of_tp["settings"]["batch"] == 8
    code, _, err = run("plan", write(), "--devices", "3", "--parallel", "tp")
    assert code == 1
    assert "not divisible" in err


def test_base_of_a_recipe_is_quantised_by_formula(run, write):
    plain, small = (
        json.loads(run("plan", write(), *options, "--json")[1])
        for options in ((), ("--quantised", "nf4"))
    )
    assert small["settings"]["quantised"] == "nf4"
    assert small["bytes_by"]["base weights"] < plain["bytes_by"]["base weights"]


TWO_PASSES = {
    "loss": {"kind": "rdrop"},
    "training": {"dtype": "fp32", "total_batch": 8, "token_budget": 256},
}
"""A loss that reads each row twice, in one micro-batch of 8 rows of 16 tokens."""


@pytest.mark.parametrize("changes", [{}, TWO_PASSES], ids=["plain", "two passes"])
def test_answers_of_fit_are_settings_of_the_recipe(changes, run, write):
    file = write(**changes)
    peak = json.loads(run("plan", file, "--json")[1])["peak_bytes"]
    code, out, _ = run("plan", file, "--fit", f"{peak * 8 // 10_000}kB", "--json")
    assert code == 0
    answers = json.loads(out)["answers"]
    trainable = [one for one in answers if one["plan"]["settings"]["quantised"] is None]
    assert trainable
    for answer in trainable:
        settings = [one.replace(": ", "=") for one in answer["recipe"]]
        assert settings
        options = (part for one in settings for part in ("--set", one))
        planned = json.loads(run("plan", file, *options, "--json")[1])
        assert planned["peak_bytes"] == answer["plan"]["peak_bytes"]
        budget = answer["plan"]["settings"]["token_budget"]
        assert budget in (None, planned["settings"]["token_budget"])
    code, _, err = run("plan", file, "--fit", "1GB", "--method", "lora,full")
    assert code == 1
    assert "--fit is for one method, and here are 2: lora, full" in err


def test_json_says_what_stands_in_for_missing_data(run, write):
    file = write(data={"train": "missing.csv", "text": "text", "label": "label"})
    found = json.loads(run("plan", file, "--json")[1])
    assert "rows as long as the recipe allows" in found["assumed"]
    assert "missing.csv does not exist" in found["assumed"]
    assert "assumed" not in json.loads(run("plan", write(), "--json")[1])


MISTAKES = {
    "unknown setting": ({"training": {"learning_rat": 1}}, ()),
    "unknown method": ({"method": "lorra"}, ()),
    "no output": ({"output": None}, ()),
    "setting of another method": ({}, ("--set", "houlsby.bottleneck=4")),
    "wrong column": ({"data": {"train": "reviews.csv", "text": "texts", "label": "label"}}, ()),
    "wrong adapter": ({"adapters": {"small": {"lora.rank": 2}}}, ()),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_the_message_of_train(mistake, run, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, options = MISTAKES[mistake]
    file = write(**changes)
    code, _, said = run("plan", file, *options)
    assert code == 1
    assert said == run("train", file, *options)[2]


def test_adapters_of_a_recipe_are_planned_one_by_one(run, write):
    file = write(adapters={"small": {"lora.r": 2}, "short": {"data.max_length": 8}})
    code, out, _ = run("plan", file)
    assert code == 0
    assert rows(out) == ["short", "small"]
    assert "8 x 16 tokens" in out
    assert "8 x 8 tokens" in out
    assert "--method is given" in run("plan", file, "--method", "full")[2]


def test_options_that_a_recipe_has_settings_for_are_refused(run, write):
    code, _, err = run("plan", write(), "--batch", "4", "--optimizer", "sgd", "--claims")
    assert code == 1
    assert "--batch; set --set training.total_batch=..." in err
    assert "--optimizer\n" in err
    assert "--claims" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [("glue-roberta-base", True), ("mine.yml", True), ("gpt2", False), ("config.json", False)],
)
def test_recipe_is_told_from_a_base(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_recipe(name) == expected


def test_directory_with_a_shipped_recipes_name_is_a_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glue-roberta-base").mkdir()
    assert not is_recipe("glue-roberta-base")


def test_missing_file_and_unknown_task_are_named(run, tmp_path):
    assert "neither a file nor a shipped recipe" in run("plan", tmp_path / "missing.yaml")[2]
    assert "--set task=" in run("plan", "glue-roberta-base")[2]
