"""The shipped GLUE recipes: the scripts' numbers, exact counts, and runs on two random layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DebertaV2Model,
    PreTrainedConfig,
    RobertaConfig,
    RobertaModel,
)

import lorakit as lora
from lorakit.errors import ConfigError, FormatError
from lorakit.inference.prediction import evaluate_tables
from lorakit.inference.session import evaluation_tables, open_session
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.data import text_limit
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings
from lorakit.tasks.classification import Classification
from lorakit.training import train
from lorakit.training.model import load_model
from tests import glue_samples
from tests.training import tiny

# Of each script: learning rate, epochs, GPUs, batch of one GPU, length.
BASE = {
    "mnli": (5e-4, 30, 8, 16, 512), "sst2": (5e-4, 60, 8, 16, 512), "mrpc": (4e-4, 30, 8, 16, 512),
    "cola": (4e-4, 80, 2, 32, 512), "qnli": (4e-4, 25, 8, 32, 512), "qqp": (5e-4, 25, 8, 16, 512),
    "rte": (5e-4, 80, 8, 32, 512), "stsb": (4e-4, 40, 8, 16, 512),
}  # fmt: skip
LARGE = {
    "mnli": (3e-4, 10, 8, 4, 128), "sst2": (4e-4, 10, 8, 8, 512), "mrpc": (3e-4, 20, 8, 4, 512),
    "cola": (3e-4, 20, 8, 4, 128), "qnli": (2e-4, 10, 8, 4, 512), "qqp": (3e-4, 20, 8, 4, 512),
    "rte": (4e-4, 20, 8, 8, 512), "stsb": (3e-4, 10, 8, 4, 128),
}  # fmt: skip
XXL = {
    "mnli": (1e-4, 5, 8, 8, 256), "sst2": (6e-5, 16, 8, 8, 128), "mrpc": (2e-4, 30, 8, 32, 128),
    "cola": (1.3e-4, 10, 8, 4, 64), "qnli": (1e-4, 8, 8, 6, 512), "qqp": (1e-4, 11, 8, 8, 320),
    "rte": (2.6e-4, 11, 8, 4, 320), "stsb": (2e-4, 10, 8, 4, 128),
    "mnli.cutoff": (1e-4, 5, 8, 8, 256), "mnli.rdrop": (1e-4, 5, 8, 8, 256),
}  # fmt: skip
# Warmup in steps (a share where it is below 1), weight decay, dropout before the head.
XXL_MORE = {
    "mnli": (1000, 0, 0.15), "sst2": (1000, 0.01, 0), "mrpc": (0.1, 0.01, 0),
    "cola": (100, 0, 0.1), "qnli": (500, 0.01, 0.1), "qqp": (10000, 0.01, 0.2),
    "rte": (50, 0.01, 0.2), "stsb": (100, 0.1, 0.2),
    "mnli.cutoff": (1000, 0, 0.15), "mnli.rdrop": (1000, 0, 0.15),
}  # fmt: skip
SCRIPTS = {
    "glue-roberta-base": BASE,
    "glue-roberta-large": LARGE,
    "glue-deberta-v2-xxlarge": XXL,
}
WARM = ("mrpc", "rte", "stsb")
METRICS = {
    "cola": {"matthews_correlation"},
    "mrpc": {"accuracy", "f1_binary"},
    "qqp": {"accuracy", "f1_binary"},
    "stsb": {"mse", "pearson", "spearman"},
    "mnli": {"accuracy", "mismatched_accuracy", "mismatched_loss"},
}


def shipped(name: str, task: str, *settings: str) -> Recipe:
    return from_mapping(with_settings(load_recipe(recipe_file(name)), [f"task={task}", *settings]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_task_has_its_scripts_numbers(name):
    assert load_recipe(recipe_file(name))["tasks"].keys() == SCRIPTS[name].keys()
    for task, (rate, epochs, gpus, batch, length) in SCRIPTS[name].items():
        recipe = shipped(name, task)
        training = recipe.training
        found = (training.learning_rate, training.epochs, training.total_batch)
        assert found == (rate, epochs, gpus * batch), task
        assert recipe.data.max_length == length
        assert recipe.data.task == task.partition(".")[0]
        assert (recipe.init_adapter is not None) == (task in WARM)
        assert training.seed == (42 if "." in task else 0)


def test_xxl_has_its_scripts_warmup_decay_and_dropout():
    for task, (warmup, decay, dropout) in XXL_MORE.items():
        training = shipped("glue-deberta-v2-xxlarge", task).training
        found = training.warmup_ratio if training.warmup_steps is None else training.warmup_steps
        assert (found, training.weight_decay, training.classifier_dropout) == (
            warmup, decay, dropout,
        ), task  # fmt: skip
        assert (training.dtype, training.deterministic) == ("fp16", True)


def test_xxl_has_two_losses_beside_the_plain_one():
    losses = {t: shipped("glue-deberta-v2-xxlarge", t).loss for t in XXL}
    assert losses["mnli.cutoff"].kind == "loralib_cutoff"
    assert (losses["mnli.cutoff"].weight, losses["mnli.cutoff"].ratio) == (1.0, 0.1)
    assert (losses["mnli.rdrop"].kind, losses["mnli.rdrop"].weight) == ("loralib_rdrop", 1.0)
    assert {loss.kind for task, loss in losses.items() if "." not in task} == {"plain"}


ROBERTA_BASE = RobertaConfig(vocab_size=50265, max_position_embeddings=514)
ROBERTA_LARGE = RobertaConfig(
    vocab_size=50265,
    max_position_embeddings=514,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
)
DEBERTA_XXL = DebertaV2Config(
    hidden_size=1536,
    num_hidden_layers=48,
    num_attention_heads=24,
    intermediate_size=6144,
    relative_attention=True,
    position_buckets=256,
    norm_rel_ebd="layer_norm",
    share_att_key=True,
    pos_att_type=["p2c", "c2p"],
    conv_kernel_size=3,
    conv_act="gelu",
)


@pytest.mark.parametrize(
    ("name", "config", "heads", "adapter", "head"),
    [
        ("glue-roberta-base", ROBERTA_BASE, ["classifier"], 294_912, 592_899),
        ("glue-roberta-large", ROBERTA_LARGE, ["classifier"], 786_432, 1_052_675),
        ("glue-deberta-v2-xxlarge", DEBERTA_XXL, ["pooler", "classifier"], 4_718_592, 2_365_443),
    ],
)
def test_counts_are_the_papers(name, config, heads, adapter, head):
    config.num_labels = 3
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    report = lora.inject(model, shipped(name, "mnli").lora.replace(modules_to_save=heads))
    assert report.adapter_parameters == adapter
    assert sum(report.trained.values()) == head
    assert report.trainable_parameters == adapter + head


def small(kind: type[PreTrainedConfig], **more: Any) -> Any:
    return kind(
        vocab_size=len(tiny.WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        **more,
    )


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """A random RoBERTa and a random DeBERTa-v2 of two layers, as they come: without a head."""
    torch.manual_seed(0)
    deberta = small(
        DebertaV2Config,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        conv_kernel_size=3,
        conv_act="gelu",
    )
    roberta = RobertaModel(small(RobertaConfig), add_pooling_layer=False)
    paths = {}
    for name, model in (("roberta", roberta), ("deberta", DebertaV2Model(deberta))):
        paths[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(paths[name])
        tiny.tokenizer().save_pretrained(paths[name])
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return glue_samples.write_folder(tmp_path_factory.mktemp("glue"), repeat=4)


@pytest.fixture(scope="module")
def trained(bases, folder, tmp_path_factory) -> Any:
    """Runs a recipe's task once: a few steps of everything that the recipe says."""
    output = tmp_path_factory.mktemp("runs")

    def run_of(name: str, task: str) -> Path:
        directory = output / name / task
        base = bases["deberta" if "deberta" in name else "roberta"]
        settings = [f"base={base}", f"data.train={folder}", f"output={directory}",
                    "training.dtype=fp32", "training.max_steps=4", "training.evaluations=1",
                    "data.max_length=20"]  # fmt: skip
        if task in WARM:
            settings.append(f"init_adapter={run_of(name, 'mnli')}")
        train(shipped(name, task, *settings), lambda text: None)
        return directory

    return run_of


RUNS = [
    *(("glue-roberta-base", task) for task in BASE),
    *(("glue-roberta-large", task) for task in ("mrpc", "stsb")),
    *(("glue-deberta-v2-xxlarge", task) for task in ("cola", "qqp", "rte", "stsb")),
    *(("glue-deberta-v2-xxlarge", task) for task in ("mnli.cutoff", "mnli.rdrop")),
]


QUICK = {("glue-roberta-base", "stsb"), ("glue-deberta-v2-xxlarge", "mnli.rdrop")}


@pytest.mark.parametrize(
    ("name", "task"),
    [run if run in QUICK else pytest.param(*run, marks=pytest.mark.slow) for run in RUNS],
)
def test_every_recipe_trains_and_its_adapter_reads_back(name, task, trained, folder):
    directory = trained(name, task)
    result = json.loads((directory / "result.json").read_text())
    glue = task.partition(".")[0]
    assert result["task"] == glue
    assert result["steps"] == 4
    assert METRICS.get(glue, {"accuracy"}) | {"loss"} <= result["metrics"].keys()
    deberta, labels = "deberta" in name, {"mnli": 3, "stsb": 1}.get(glue, 2)
    rank = 16 if deberta else 8
    assert result["trainable_parameters"] == 2 * 2 * 2 * 16 * rank + (16 + 1) * (16 + labels)
    saved = open_session(str(directory))
    again = evaluate_tables(saved, evaluation_tables(saved, None), "dev")
    assert again.metrics == pytest.approx(result["metrics"], rel=1e-4, abs=1e-6)
    head = (
        ("pooler.dense", "classifier") if deberta else ("classifier.dense", "classifier.out_proj")
    )
    keys = load_file(directory / "adapter" / "adapter_model.safetensors").keys()
    assert all(any(part in key for key in keys) for part in head)


@pytest.mark.parametrize(("name", "task"), [r for r in RUNS if r[1] in WARM])
def test_a_warm_start_takes_the_adapter_of_mnli(name, task, trained):
    start = json.loads((trained(name, task) / "result.json").read_text())["warm_start"]
    assert sum("attention" in loaded for loaded in start["loaded"]) == 4
    assert any("dense.weight" in loaded for loaded in start["loaded"])
    assert any("shape" in why for why in start["not_loaded"].values())


def test_dropout_before_the_head_is_the_recipes(trained, bases):

    task = Classification(("sentence",), "label", 20, ("a", "b"))
    for name, base, found in (
        ("glue-deberta-v2-xxlarge", "deberta", lambda m: m.dropout.p),
        ("glue-roberta-base", "roberta", lambda m: m.classifier.dropout.p),
    ):
        settings = [
            f"base={bases[base]}", "training.classifier_dropout=0.35", "training.dtype=fp32"
        ]  # fmt: skip
        model, _ = load_model(shipped(name, "sst2", *settings), task)
        assert found(model) == 0.35


def test_dropout_for_a_head_that_has_none_is_refused(decoder, reviews, tmp_path):
    recipe = tiny.recipe(decoder, reviews, tmp_path / "run", training={"classifier_dropout": 0.1})
    with pytest.raises(ConfigError, match=r"classifier_dropout is set, and .* \(gpt2\) has no"):
        train(recipe, lambda text: None)


def test_dropout_for_a_base_that_is_not_there_is_refused(tmp_path):
    options = (f"base={tmp_path}", "training.classifier_dropout=0.35")
    task = Classification(("sentence",), "label", 20, ("a", "b"))
    with pytest.raises(FormatError, match="is not a model directory"):
        load_model(shipped("glue-roberta-base", "sst2", *options), task)


def test_the_small_recipe_is_checked_for_each_of_its_tasks():
    for task in load_recipe(recipe_file("glue-minilm"))["tasks"]:
        recipe = shipped("glue-minilm", task)
        assert (recipe.data.task, recipe.output) == (task, f"runs/glue-minilm/{task}")


@pytest.mark.parametrize("config", [ROBERTA_BASE, DEBERTA_XXL], ids=["roberta", "deberta"])
def test_roberta_reads_two_tokens_less_than_it_has_positions(config, tmp_path):
    words = tiny.tokenizer()
    words.model_max_length = 1 << 30  # as tokenizers without a limit say
    config.save_pretrained(tmp_path)
    assert text_limit(words, str(tmp_path)) == 512
    words.model_max_length = 128
    assert text_limit(words, str(tmp_path)) == 128
