"""GLUE on the command line: published checkpoints, both MNLI sets, the server's files, averages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    RobertaConfig,
)

import lorakit as lora
from lorakit.metrics.glue import AVERAGED
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.tasks.glue.files import read_glue
from tests import glue_samples
from tests.training import tiny

TRAINED = ("mnli", "mrpc", "rte", "stsb")
NAMES = {"roberta": ("query", "value"), "deberta-v2": ("query_proj", "value_proj")}


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    return glue_samples.write_folder(tmp_path_factory.mktemp("glue"), repeat=4)


def config_of(kind: str, layers: int = 2, **more: Any) -> Any:
    cls = {"roberta": RobertaConfig, "deberta-v2": DebertaV2Config, "bert": BertConfig}[kind]
    return cls(
        vocab_size=len(tiny.WORDS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        **more,
    )


def published(folder: Path, kind: str, layers: int = 2, labels: int = 3) -> tuple[Path, Path, Any]:
    """A base without a head, a file as microsoft/LoRA publishes them, and the model of both."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        config_of(kind, layers, num_labels=labels)
    ).eval()
    model.base_model.save_pretrained(folder / "base")
    tiny.tokenizer().save_pretrained(folder / "base")
    lora.inject(model, lora.LoraConfig(r=4, lora_alpha=16, target_modules=list(NAMES[kind])))
    prefix = f"{model.base_model_prefix}."
    tensors = {}
    for name, value in model.state_dict().items():
        if "lora_B" in name:
            value.normal_(std=0.3)
        if "lora_" in name or not name.startswith(prefix):
            tensors[name] = value.clone()
    torch.save(tensors, folder / "adapter.bin")
    return folder / "base", folder / "adapter.bin", model


@pytest.mark.parametrize(("kind", "layers"), [("roberta", 2), ("roberta", 3), ("deberta-v2", 2)])
def test_a_published_checkpoint_is_evaluated_with_its_head(kind, layers, run, glue, tmp_path):
    base, adapter, model = published(tmp_path, kind, layers)
    code, out, err = run(
        "evaluate", adapter, "--base", base, "--lora-alpha", 16, "--task", "mnli",
        "--data", glue, "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert report["rows"] == 12
    words = tiny.tokenizer()
    for prefix, split in (("", "dev_matched"), ("mismatched_", "dev_mismatched")):
        table = read_glue(str(glue), GLUE["mnli"], split)
        hits = [
            model(**words(row["premise"], row["hypothesis"], return_tensors="pt")).logits.argmax()
            == GLUE["mnli"].labels.index(row["label"])
            for row in table
        ]
        assert report["metrics"][f"{prefix}accuracy"] == pytest.approx(sum(hits).item() / len(hits))


@pytest.mark.slow
def test_the_real_checkpoint_fits_a_random_base_of_its_size(run, glue, shared, tmp_path):
    config = RobertaConfig(vocab_size=len(tiny.WORDS), max_position_embeddings=42, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config)
    model.base_model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    file = shared / "checkpoints" / "roberta_base_lora_mnli.bin"
    code, out, err = run(
        "evaluate", file, "--base", tmp_path, "--lora-alpha", 16, "--task", "mnli", "--data", glue
    )
    assert code == 0, err
    assert "mismatched_accuracy" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "rte"), "has 3 logits, and rte needs 2"),
        (("--task", "stsb"), "has 3 logits, and stsb needs 1"),
        (("--task", "mnil"), "task is 'mnil' (did you mean 'mnli'?)"),
        (
            ("--task", "mnli", "--labels", "contradiction,neutral,entailment"),
            "those of mnli are entailment, neutral, contradiction",
        ),
        (("--task", "mnli", "--data", "MNLI/test_matched.tsv"), "has no labels for mnli"),
        (("--task", "mnli", "--data", "MNLI/nothing.tsv"), "nothing.tsv"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(arguments, message, run, glue, tmp_path):
    base, adapter, _ = published(tmp_path, "roberta")
    arguments = [glue / a if "/" in a else a for a in arguments]
    code, _, err = run("evaluate", adapter, "--base", base, "--lora-alpha", 16, *arguments)
    assert code == 1
    assert message in err


def test_a_base_whose_labels_stand_in_another_order_is_refused(run, glue, tmp_path):
    base, adapter, _ = published(tmp_path, "roberta")
    order = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    config = config_of("roberta", num_labels=3, id2label=dict(enumerate(order)))
    config.save_pretrained(base)
    command = ["evaluate", adapter, "--base", base, "--lora-alpha", 16, "--task", "mnli",
               "--data", glue]  # fmt: skip
    code, _, err = run(*command)
    assert code == 1
    assert "its labels, in the order of the logits, are contradiction, neutral, entailment" in err
    code, _, err = run(*command, "--labels", "entailment,neutral,contradiction")
    assert code == 0, err


def test_a_base_with_new_weights_beside_the_head_is_refused(run, glue, tmp_path):
    BertForMaskedLM(config_of("bert")).save_pretrained(tmp_path / "base")  # it has no pooler
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_config(config_of("bert", num_labels=3))
    lora.inject(
        model,
        lora.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]),
    )
    lora.save_adapter(model, tmp_path / "adapter")
    code, _, err = run(
        "evaluate", tmp_path / "adapter", "--base", tmp_path / "base", "--task", "mnli",
        "--data", glue, "--no-check-base",
    )  # fmt: skip
    assert code == 1
    assert "bert.pooler.dense.weight is newly initialized: it is missing from the base" in err
    assert "classifier" not in err


@pytest.fixture(scope="module")
def runs(glue, tmp_path_factory) -> Path:
    """Runs of two steps: names and numbers as labels, one number, two sets to test on."""
    from lorakit.recipe.catalogue import recipe_file
    from lorakit.recipe.schema import from_mapping
    from lorakit.recipe.yaml_file import load_recipe, with_settings
    from lorakit.training import train

    folder = tmp_path_factory.mktemp("runs")
    base = folder.parent / "roberta"
    AutoModelForSequenceClassification.from_config(config_of("roberta")).save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    for task in TRAINED:
        settings = [
            f"task={task}",
            f"base={base}",
            f"data.train={glue}",
            f"output={folder / task}",
            "training.max_steps=2",
            "training.evaluations=1",
            "init_adapter=null",
        ]
        recipe = with_settings(load_recipe(recipe_file("glue-roberta-base")), settings)
        train(from_mapping(recipe), lambda text: None)
    return folder


@pytest.mark.parametrize("task", TRAINED)
def test_predictions_for_the_server(task, run, runs, glue, tmp_path):
    code, out, err = run("predict", runs / task, "--glue", tmp_path, "--data", glue)
    assert code == 0, err
    row = GLUE[task]
    names = ["MNLI-m.tsv", "MNLI-mm.tsv"] if task == "mnli" else [f"{row.folder}.tsv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    for name in names:
        assert f"{name}: 6 predictions" in out
        header, *lines = (tmp_path / name).read_bytes().decode().split("\n")[:-1]
        assert header == "index\tprediction"
        cells = [line.split("\t") for line in lines]
        assert [index for index, _ in cells] == [str(i) for i in range(6)]
        values = [value for _, value in cells]
        if task == "stsb":
            assert all(0 <= float(v) <= 5 and len(v.partition(".")[2]) == 3 for v in values)
        else:
            known = [str(i) for i in range(len(row.labels))] if row.numbered else row.labels
            assert set(values) <= set(known)


def test_a_run_names_only_commands_that_work_and_guesses_nothing(run, runs):
    code, out, err = run("train", runs / "mrpc" / "recipe.yaml", "--set", "data.text=null")
    assert code == 0, err
    assert "is finished already" in out
    assert "guessed" not in out
    assert f"lorakit predict {runs / 'mrpc'} --data FILE" in out
    assert "--text" not in out, "one text is no pair"


def test_predictions_for_the_server_are_those_of_the_model(run, runs, glue, tmp_path):
    data = tmp_path / "test.csv"
    table = read_glue(str(glue), GLUE["mrpc"], "test")
    table.to_csv(data, index=False)
    run("predict", runs / "mrpc", "--data", data, "--output", tmp_path / "all.jsonl")
    run("predict", runs / "mrpc", "--data", glue, "--glue", tmp_path)
    told = [
        json.loads(line)["prediction"] for line in (tmp_path / "all.jsonl").read_text().splitlines()
    ]
    lines = (tmp_path / "MRPC.tsv").read_text().splitlines()[1:]
    assert [GLUE["mrpc"].labels[int(line.split("\t")[1])] for line in lines] == told


def test_the_servers_files_are_not_overwritten_and_need_a_task_of_glue(run, runs, glue, tmp_path):
    (tmp_path / "RTE.tsv").write_text("mine")
    command = ["predict", runs / "rte", "--data", glue, "--glue", tmp_path]
    code, _, err = run(*command)
    assert (code, (tmp_path / "RTE.tsv").read_text()) == (1, "mine")
    assert "exists already" in err
    assert run(*command, "--overwrite")[0] == 0
    adapter = runs / "rte" / "adapter"
    code, _, err = run("predict", adapter, "--data", glue, "--glue", tmp_path / "other")
    assert code == 1
    assert "is not known as an adapter for a task of GLUE" in err
    arguments = ["--data", glue, "--glue", tmp_path / "other", "--task", "rte"]
    assert run("predict", adapter, *arguments)[0] == 0
    code, _, err = run("predict", adapter, "--glue", tmp_path, "--task", "qnli", "--data", glue)
    assert code == 0  # the same labels: a task may be tried on another one's sentences
    code, _, err = run("predict", adapter, "--glue", tmp_path, "--task", "mrpc", "--data", glue)
    assert code == 1
    assert "those of mrpc are not_equivalent, equivalent" in err


def test_runs_of_the_eight_tasks_are_averaged(run, runs, tmp_path):
    result = json.loads((runs / "rte" / "result.json").read_text())
    scores = {task: 0.5 + i / 100 for i, task in enumerate(AVERAGED)}
    for task, value in scores.items():
        metrics = {"loss": 1.0, "accuracy": value, "matthews_correlation": value, "pearson": value}
        if task == "mnli":
            metrics |= {"accuracy": value - 0.1, "mismatched_accuracy": value + 0.1}
        for seed, change in enumerate((-0.02, 0.02)):
            folder = tmp_path / f"{task}-{seed}"
            folder.mkdir()
            moved = {name: found + change for name, found in metrics.items()}
            text = json.dumps({**result, "task": task, "metrics": moved, "seed": seed})
            (folder / "result.json").write_text(text)
    code, out, err = run("compare", tmp_path, "--json")
    assert code == 0, err
    report = json.loads(out)
    columns = {column["task"]: column["metric"] for column in report["columns"]}
    assert list(columns) == [task for task in GLUE if task in scores] + ["average"]
    assert (columns["cola"], columns["stsb"]) == ("matthews_correlation", "pearson")
    row = next(row for row in report["rows"] if row["name"] == "LoRA")
    found = dict(zip(columns, row["cells"], strict=True))
    assert found.pop("average")["center"] == pytest.approx(sum(scores.values()) / 8)
    assert {task: cell["center"] for task, cell in found.items()} == pytest.approx(scores)
    assert [len(cell["values"]) for cell in found.values()] == [2] * 8
    out = run("compare", tmp_path)[1]
    assert "average GLUE" in out
    assert "53.5" in out
    code, out, _ = run("compare", tmp_path / "rte-0", tmp_path / "mrpc-0", "--json")
    assert [column["task"] for column in json.loads(out)["columns"]] == ["mrpc", "rte"]


def test_runs_of_other_losses_and_bases_are_rows_of_their_own(run, runs, tmp_path):
    result = json.loads((runs / "mnli" / "result.json").read_text())
    assert (Path(result["base"]).name, result["loss"]) == ("roberta", "plain")
    for name, accuracy, more in (
        ("mnli", 0.5, {}),
        ("mnli.rdrop", 0.7, {"loss": "loralib_rdrop"}),
        ("rte", 0.6, {"task": "rte"}),
    ):
        metrics = {"accuracy": accuracy, "mismatched_accuracy": accuracy}
        (tmp_path / "small" / name).mkdir(parents=True)
        text = json.dumps({**result, **more, "metrics": metrics})
        (tmp_path / "small" / name / "result.json").write_text(text)
    (tmp_path / "large" / "mnli").mkdir(parents=True)
    other = {**result, "base": "large", "metrics": {"accuracy": 0.9, "mismatched_accuracy": 0.9}}
    (tmp_path / "large" / "mnli" / "result.json").write_text(json.dumps(other))

    def means(*folders: str) -> dict[tuple[str, str, str], float]:
        code, out, err = run("compare", *(tmp_path / folder for folder in folders), "--json")
        assert code == 0, err
        table = json.loads(out)
        return {
            (column["task"], row["name"], row["base"]): cell["center"]
            for row in table["rows"]
            if row["base"]
            for column, cell in zip(table["columns"], row["cells"], strict=True)
            if cell["values"]
        }

    base, rdrop = result["base"], "LoRA, loss.kind=loralib_rdrop"
    small = {("mnli", "LoRA", base): 0.5, ("mnli", rdrop, base): 0.7, ("rte", "LoRA", base): 0.6}
    assert means("small") == small
    assert means("small", "large") == {**small, ("mnli", "LoRA", "large"): 0.9}
