"""GLUE on the command line: published checkpoints, both MNLI sets."""

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
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.tasks.glue.files import read_glue
from tests import glue_samples
from tests.training import tiny

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
