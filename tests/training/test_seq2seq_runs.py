"""Runs of encoder-decoders: learned to the end, they give the completions back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import lorakit as lora
from lorakit.inference.generation import DecodingConfig, generate_texts
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import LoadOptions, evaluation_tables, open_session
from lorakit.merging import merge_files
from lorakit.runs.next_steps import usage
from lorakit.training import train
from tests.training import tiny, tiny_seq2seq
from tests.training.printed import run_lines
from tests.training.tiny_seq2seq import MODELS, PAIRS

LEARNED = {"epochs": 14, "learning_rate": 0.01, "evaluations": 1}
PROMPTS, COMPLETIONS = map(list, zip(*PAIRS, strict=True))


@pytest.fixture(scope="module", params=MODELS)
def base(request, tmp_path_factory) -> Path:
    return tiny_seq2seq.save_seq2seq(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return tiny_seq2seq.save_pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl")


def trained(base: Path, pairs: Path, output: Path, method: str, **training: Any) -> Any:
    recipe = tiny.recipe(
        base, pairs, output, method=method, data={"test": 9}, training={**LEARNED, **training},
        lora={"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"},
    )  # fmt: skip
    return train(recipe, lambda text: None)


@pytest.fixture(scope="module")
def run(base, pairs, tmp_path_factory) -> Path:
    """A run with LoRA that has learned every pair; made before `one_thread` is in force."""
    output, threads = tmp_path_factory.mktemp("runs") / "run", torch.get_num_threads()
    torch.set_num_threads(1)
    metrics = trained(base, pairs, output, "lora").metrics
    torch.set_num_threads(threads)
    assert metrics["token_accuracy"] == 1
    return output


def test_completions_are_learned_and_given_back(run):
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert all(line["prediction"] == line["completion"] for line in lines)
    saved = open_session(str(run))
    table = evaluation_tables(saved, None)["test"]
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert evaluate(saved, table, "test").metrics == pytest.approx(metrics, rel=1e-4)
    for beams in (1, 3):
        found = generate_texts(saved, PROMPTS, DecodingConfig(9, num_beams=beams))
        assert found.texts == COMPLETIONS
    alone = open_session(str(run / "adapter"))
    assert generate_texts(alone, PROMPTS, DecodingConfig(9)).texts == COMPLETIONS


def test_full_fine_tuning_learns_them_to_a_loss_near_zero(base, pairs, tmp_path):
    result = trained(base, pairs, tmp_path / "run", "full")
    assert result.metrics["loss"] < 0.05
    saved = open_session(str(tmp_path / "run"))
    assert generate_texts(saved, PROMPTS, DecodingConfig(9)).texts == COMPLETIONS


def answers(model: Any, words: Any) -> list[str]:
    """The completions by transformers alone."""
    inputs = words(PROMPTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    neutral = {"num_beams": 1, "min_length": 0, "no_repeat_ngram_size": 0}
    found = model.generate(**inputs, max_new_tokens=9, **neutral)
    return words.batch_decode(found, skip_special_tokens=True)


def test_the_printed_lines_complete_a_batch_as_the_run_does(run):
    names = run_lines(usage(str(run)))
    assert names["tokenizer"].padding_side == "right"
    assert answers(names["model"], names["tokenizer"]) == COMPLETIONS


def test_a_merged_model_completes_as_the_run_does(run, tmp_path):
    report = merge_files(str(run / "adapter"), None, tmp_path / "merged")
    assert report.model_class.endswith("ForConditionalGeneration")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged")
    words = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert answers(model, words) == COMPLETIONS


def test_an_adapter_without_a_task_file_is_known_by_its_task_type(run, tmp_path):
    adapter = shutil.copytree(run / "adapter", tmp_path / "adapter")
    (adapter / "lorakit_task.json").unlink()
    assert json.loads((adapter / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    session = open_session(str(adapter), LoadOptions(text=("prompt",), label="completion"))
    assert session.task.architecture == "encoder_decoder"
    assert generate_texts(session, PROMPTS, DecodingConfig(9)).texts == COMPLETIONS


def test_the_default_targets_are_query_and_value_of_all_attentions(base):
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    report = lora.inject(model, lora.LoraConfig(r=2))
    layers, attentions = 2, 3  # of encoder and decoder, and of the decoder to the encoder
    assert len(report.layers) == layers * attentions * 2
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    found = lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear")).layers
    assert not [layer.name for layer in found if "lm_head" in layer.name]


@pytest.mark.parametrize(
    "settings",
    [{"label_smoothing": 0.1}, {"gradient_checkpointing": True}, {"dtype": "bf16"}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_training_hold_for_them(base, pairs, settings, tmp_path):
    result = trained(base, pairs, tmp_path / "run", "full", **{**settings, "epochs": 4})
    assert result.metrics["token_accuracy"] > 0.7
    saved = open_session(str(tmp_path / "run"))
    table = evaluation_tables(saved, None)["test"]
    assert evaluate(saved, table, "test").metrics == result.metrics


def test_a_budget_counts_prompts_and_completions(base, pairs, tmp_path):
    """The same steps from micro-batches of other sizes."""
    few = trained(base, pairs, tmp_path / "few", "full", max_steps=3, token_budget=24)
    many = trained(base, pairs, tmp_path / "many", "full", max_steps=3, token_budget=4096)
    assert few.metrics["loss"] == pytest.approx(many.metrics["loss"], rel=1e-3)


def test_classification_with_an_encoder_decoder_still_trains(base, reviews, tmp_path):
    result = train(
        tiny.recipe(base, reviews, tmp_path / "run", training={"max_steps": 2}), lambda text: None
    )
    assert torch.isfinite(torch.tensor(result.metrics["loss"]))
